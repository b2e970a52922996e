"""Which heads do all subnetworks share, is that more than chance, and how many units does a skill need?

The Heuristic Core (2024, sections 3 to 5): the core is the intersection of the heads of subnetworks found with several
seeds and sparsities. Added: its size under independent random subsets of the same sizes, without which an
intersection of a few large masks says nothing. Effective size as published, and a monotone version that one lucky
high sparsity cannot win. Pure functions of masks and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glassworks.circuits.subnetwork_units import unit_name
from glassworks.errors import OptionError

MARGIN = 0.03
"""A subnetwork is faithful that loses less than three points of accuracy."""


class Core(NamedTuple):
    """heads: bool [layers, heads], in every subnetwork; frequency: fp64 [layers, heads], in which share of them.

    chance: expected number of shared heads under independent random subsets of the same sizes; p_value: chance that
    there are at least as many as observed, from random draws; subnetworks: how many were intersected.
    """

    heads: Tensor
    frequency: Tensor
    chance: float
    p_value: float
    subnetworks: int

    @property
    def size(self) -> int:
        """Number of heads in the core."""
        return int(self.heads.sum())

    def names(self) -> list[str]:
        """a{layer}.h{head} of each head in the core."""
        return [unit_name(int(layer), int(head), self.heads.shape[1]) for layer, head in self.heads.nonzero()]


class EffectiveSize(NamedTuple):
    """In per cent of units: `official` = 100 - highest sparsity that passes, `monotone` = ... with all below it."""

    official: float
    monotone: float


class Dependence(NamedTuple):
    """What added heads bring with the core and without it, in accuracy; `ratio` is not taken: both may be near 0."""

    with_core: float
    without_core: float


def heuristic_core(masks: Sequence[Tensor], *, draws: int = 10_000, seed: int = 0) -> Core:
    """The heads of every mask, their frequencies, and what chance would give.

    masks: K times bool [layers, heads]. Raises OptionError for none or unequal shapes.
    """
    stacked = _stack(masks)
    flat = stacked.flatten(1)
    sizes, total = flat.sum(1).tolist(), flat.shape[1]
    shared = stacked.all(0)
    p_value = chance_p_value(sizes, total, int(shared.sum()), draws=draws, seed=seed)
    return Core(shared, stacked.double().mean(0), chance_size(sizes, total), p_value, len(masks))


def chance_size(sizes: Sequence[float], total: int) -> float:
    """Expected size of the intersection of independent random subsets of `total` things: total x prod(size / total)."""
    return total * float(np.prod([size / total for size in sizes]))


def chance_p_value(sizes: Sequence[int], total: int, observed: int, *, draws: int = 10_000, seed: int = 0) -> float:
    """P(intersection >= observed) under such subsets; the observed one is counted among the draws, so never 0."""
    generator = np.random.default_rng(seed)
    # Intersecting with one more random subset of n leaves a hypergeometric number of those that were left.
    left = np.full(draws, total)
    for size in sizes:
        left = generator.hypergeometric(left, total - left, size) if size else np.zeros(draws, dtype=int)
    return (int((left >= observed).sum()) + 1) / (draws + 1)


def joint_frequency(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """How many heads are in i masks of the first set and j of the second, int64 [K1 + 1, K2 + 1]."""
    one, two = _stack(first).sum(0).flatten(), _stack(second).sum(0).flatten()
    if one.shape != two.shape:
        raise OptionError("the two sets of masks are of different models", place="masks")
    table = torch.zeros(len(first) + 1, len(second) + 1, dtype=torch.long)
    return table.index_put((one, two), torch.ones_like(one), accumulate=True)


def jaccard(masks: Sequence[Tensor]) -> list[float]:
    """|A & B| / |A | B| of every pair of masks, in the order of `itertools.combinations`."""
    stacked = _stack(masks)
    return [
        float((a & b).sum() / union) if (union := (a | b).sum()) else 1.0 for a, b in combinations(stacked, 2)
    ]  # fmt: skip


def is_faithful(accuracy: float, full: float, margin: float = MARGIN) -> bool:
    """accuracy > full - margin, strictly; a tie within rounding of binary fractions does not pass."""
    return accuracy - (full - margin) > 1e-9


def effective_size(full: float, sweep: Mapping[float, float], margin: float = MARGIN) -> EffectiveSize:
    """Share of units that a skill needs, from accuracies at several sparsities.

    full: accuracy of the whole model; sweep: sparsity in per cent -> mean accuracy. Official: the highest sparsity
    that is faithful, whatever lies below. Monotone: the highest such that it and all lower ones are. None: 100.
    """
    passing = [sparsity for sparsity in sorted(sweep) if is_faithful(sweep[sparsity], full, margin)]
    monotone = 0.0
    for sparsity in sorted(sweep):
        if sparsity not in passing:
            break
        monotone = sparsity
    return EffectiveSize(100 - max(passing, default=0.0), 100 - monotone)


def mean_effective_size(full: float, sweeps: Sequence[Mapping[float, float]], margin: float = MARGIN) -> EffectiveSize:
    """Mean over seeds of the effective sizes of their sweeps, as the published figure takes it."""
    sizes = [effective_size(full, sweep, margin) for sweep in sweeps]
    return EffectiveSize(
        sum(size.official for size in sizes) / len(sizes), sum(size.monotone for size in sizes) / len(sizes)
    )


def dependence(core: float, core_and_added: float, neither: float, added: float) -> Dependence:
    """What heads A add with the core and without: Acc(core + A) - Acc(core) and Acc(A) - Acc(none)."""
    return Dependence(core_and_added - core, added - neither)


def core_recall(earlier: Tensor, final: Tensor) -> float:
    """|C_t & C_final| / |C_final| of two cores, bool [layers, heads]; 1 where the final core is empty."""
    return float((earlier & final).sum() / final.sum()) if bool(final.any()) else 1.0


def _stack(masks: Sequence[Tensor]) -> Tensor:
    if not masks:
        raise OptionError("there is no subnetwork to compare", place="masks")
    shapes = {tuple(mask.shape) for mask in masks}
    if len(shapes) > 1:
        raise OptionError(f"masks of different models do not combine: {sorted(shapes)}", place="masks")
    return torch.stack(list(masks)).bool()
