"""Hard-concrete gates: how a search by gradient descent decides what to keep, and how that is made discrete.

Louizos et al. 2018 with the constants shared by Edge Pruning (2024, section 2.2), The Heuristic Core (2024) and
CoFi. A gate is one fp32 number alpha; a set of gates is a tensor of any shape, with a boolean tensor `exists`
where some entries stand for nothing (an edge from a later writer), and `groups` where entries belong to tensors
that are counted apart (one layer's heads). Takes and returns plain tensors; knows neither edges nor heads, and
leaves targets and penalties to `sparsity`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from glassworks.errors import OptionError

LEFT, RIGHT = -0.1, 1.1
TEMPERATURE = 2 / 3
EPSILON = 1e-6
OPENING = TEMPERATURE * math.log(-RIGHT / LEFT)
"""1.598597: P(z = 0) = sigmoid(-OPENING - alpha) and P(z = 1) = sigmoid(alpha - OPENING)."""

DETERMINISTIC_FACTOR = 0.8
"""The published evaluation rule narrows the gate: soft = sigmoid(0.8 alpha / temperature) = sigmoid(1.2 alpha)."""

Rule = Literal["per_layer", "global", "threshold"]


def initial_alpha(
    *shape: int, mean: float = 3.0, deviation: float = 0.01, generator: torch.Generator | None = None
) -> Tensor:
    """Fresh gate parameters N(mean, deviation^2), fp32 [*shape].

    Edge Pruning and the Heuristic Core start at mean 10, where a sampled gate has a gradient with probability
    2.2e-4 only and it is weight decay that opens the search; at 3 that probability is 0.19.
    """
    return mean + deviation * torch.randn(*shape, generator=generator)


def draw_uniform(alpha: Tensor, *, examples: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Uniform noise in (1e-6, 1 - 1e-6) for `sample`: [*alpha.shape], or [examples, *alpha.shape].

    alpha: [*shape]. Draw once a step, outside the forward pass, so that recomputation sees the same gates.
    """
    shape = alpha.shape if examples is None else (examples, *alpha.shape)
    noise = torch.rand(shape, generator=generator, device=alpha.device, dtype=_at_least_fp32(alpha).dtype)
    return EPSILON + (1 - 2 * EPSILON) * noise


def sample(alpha: Tensor, uniform: Tensor) -> Tensor:
    """Gates in [0, 1] for the noise `uniform`, shape of `uniform`; differentiable in alpha.

    alpha: [*shape]; uniform: [*shape] (one gate for the whole batch) or [examples, *shape], values in (0, 1).
    z = clip(1.2 s - 0.1, 0, 1), s = sigmoid((logit(u) + alpha) / temperature). The gradient is exactly 0 where
    the clip is active.
    """
    return stretched(alpha, uniform).clamp(0, 1)


def stretched(alpha: Tensor, uniform: Tensor) -> Tensor:
    """The gate before clipping, in (-0.1, 1.1); shapes as in `sample`."""
    logit = uniform.log() - (-uniform).log1p()
    return torch.sigmoid((logit + _at_least_fp32(alpha)) / TEMPERATURE) * (RIGHT - LEFT) + LEFT


def prob_zero(alpha: Tensor) -> Tensor:
    """P(z = 0) of each gate, in [1e-6, 1 - 1e-6], [*shape]."""
    return torch.sigmoid(-OPENING - _at_least_fp32(alpha)).clamp(EPSILON, 1 - EPSILON)


def prob_interior(alpha: Tensor) -> Tensor:
    """P(0 < z < 1) of each gate, [*shape]: how often a sample passes a gradient on."""
    alpha = _at_least_fp32(alpha)
    return torch.sigmoid(alpha + OPENING) - torch.sigmoid(alpha - OPENING)


def expected_open(alpha: Tensor) -> Tensor:
    """P(z > 0) of each gate, [*shape]: the expected L0, which counts a gate that is barely open as 1."""
    return 1 - prob_zero(alpha)


def expected_value(alpha: Tensor) -> Tensor:
    """E z of each gate, [*shape], within 1e-6: what the mean of many samples tends to.

    E z is the integral over t in [0, 1] of P(z > t) = sigmoid(alpha - temperature * logit((t + 0.1) / 1.2));
    it has no elementary form and is integrated by Gauss-Legendre quadrature.
    """
    alpha = _at_least_fp32(alpha)
    offsets, weights = (torch.tensor(values).to(alpha) for values in _quadrature())
    return torch.sigmoid(alpha.unsqueeze(-1) - offsets) @ weights


@cache
def _quadrature(order: int = 24) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(order)
    s = ((nodes + 1) / 2 - LEFT) / (RIGHT - LEFT)
    return TEMPERATURE * np.log(s / (1 - s)), weights / 2


def soft_gate(alpha: Tensor) -> Tensor:
    """The noise-free gate sigmoid(1.2 alpha) in (0, 1), [*shape]."""
    return torch.sigmoid(_at_least_fp32(alpha) * DETERMINISTIC_FACTOR / TEMPERATURE)


def deterministic(alpha: Tensor, exists: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
    """Evaluation gates [*shape]: in each group the round(sum P(z = 0)) smallest are 0, the others soft.

    alpha: [*shape]; exists: bool [*shape], False entries are 0 and are not ranked (the official Edge Pruning code
    ranks them too); groups: int64 [*shape], which entries are one parameter tensor of the published rule, all in
    one when absent. Rounds half to even. Among equal alphas the lower index stays.
    """
    exists = _everything(alpha) if exists is None else exists
    flat = _at_least_fp32(alpha.detach())[exists]
    group = torch.zeros_like(flat, dtype=torch.long) if groups is None else groups[exists]
    # fp32 sums of many gates depend on their order; float64 makes the rounded count reproducible.
    share = torch.zeros(int(group.max()) + 1 if group.numel() else 0, dtype=torch.float64, device=flat.device)
    zeros = share.index_add(0, group, prob_zero(flat).double()).round().long()
    # Two stable sorts rank by (group, alpha); alpha itself, because the sigmoid saturates and makes false ties.
    order = flat.flip(0).argsort(stable=True)
    order = flat.numel() - 1 - order
    order = order[group[order].argsort(stable=True)]
    size = torch.bincount(group, minlength=len(share))
    place = torch.arange(len(flat), device=flat.device) - (size.cumsum(0) - size)[group[order]]
    kept = torch.empty_like(flat, dtype=torch.bool)
    kept[order] = place >= zeros[group[order]]
    gates = torch.zeros_like(alpha, dtype=flat.dtype)
    gates[exists] = torch.where(kept, soft_gate(flat), 0)
    return gates


def soft_sparsity(alpha: Tensor, exists: Tensor | None = None, groups: Tensor | None = None) -> float:
    """The sparsity that training reached, in [0, 1]: 1 - mean of the deterministic gates over existing entries.

    alpha, exists, groups: [*shape], as in `deterministic`.
    """
    exists = _everything(alpha) if exists is None else exists
    return 1 - float(deterministic(alpha, exists, groups)[exists].double().mean())


def keep_largest(values: Tensor, n: int, exists: Tensor | None = None) -> Tensor:
    """The n largest existing entries, bool [*shape]; among equals the lower index.

    values: [*shape], finite where they exist; exists: bool [*shape]. Raises OptionError unless 0 <= n <= entries.
    """
    exists = _everything(values) if exists is None else exists
    flat = values.detach()[exists]
    if not 0 <= n <= len(flat):
        raise OptionError(f"{n} entries are to be kept, but {len(flat)} exist", remedy="Ask for fewer.")
    if not bool(torch.isfinite(flat).all()):
        raise OptionError("scores to rank are NaN or infinite", remedy="Check the method that computed them.")
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[:n]] = True
    result = torch.zeros_like(exists)
    result[exists] = kept
    return result


def binarise(
    alpha: Tensor,
    exists: Tensor | None = None,
    *,
    rule: Rule = "global",
    sparsity: float | None = None,
    threshold: float = 0.5,
    groups: Tensor | None = None,
) -> Tensor:
    """Decide every gate, bool [*shape].

    alpha, exists, groups: [*shape], as in `deterministic`.
    rule: "global" ranks all gates by alpha and keeps exactly round((1 - sparsity) N), half to even, by default at
    the sparsity that training reached; "per_layer" keeps what `deterministic` leaves above 0; "threshold" keeps
    what it leaves above `threshold`. sparsity in [0, 1], for "global" only. Raises OptionError.
    """
    if rule != "global" and sparsity is not None:
        raise OptionError(
            f"the rule '{rule}' takes no sparsity, and received {sparsity}", remedy="Use the rule 'global'."
        )
    if rule in ("per_layer", "threshold"):
        return deterministic(alpha, exists, groups) > (0 if rule == "per_layer" else threshold)
    if rule != "global":
        raise OptionError(f"unknown rule '{rule}'", remedy="Known: global, per_layer, threshold.")
    if sparsity is None:
        sparsity = soft_sparsity(alpha, exists, groups)
    if not 0 <= sparsity <= 1:
        raise OptionError(f"sparsity is {sparsity}, expected a share in [0, 1]", remedy="0.9 removes nine in ten.")
    n = alpha.numel() if exists is None else int(exists.sum())
    return keep_largest(alpha, round((1 - sparsity) * n), exists)


def _at_least_fp32(alpha: Tensor) -> Tensor:
    # A bf16 alpha of 10 cannot even move by the 0.06 that one optimiser step asks of it.
    return alpha if alpha.dtype == torch.float64 else alpha.float()


def _everything(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)
