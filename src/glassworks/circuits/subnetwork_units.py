"""Which heads and MLP blocks a subnetwork keeps: a mask, its names, and its set algebra.

The Heuristic Core (Bhaskar, Friedman, Chen 2024, section 2): a model of L layers with H query heads has L (H + 1)
units, each kept or ablated. Names are a{layer}.h{head} and a{layer}.mlp (also read: m{layer}). Takes and returns
plain tensors and text; knows no model. The masks that old transformers took come in by `from_head_mask` and
`from_heads_to_prune`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassworks.errors import OptionError

_NAME = re.compile(r"a(?P<layer>\d+)\.(h(?P<head>\d+)|mlp)|m(?P<block>\d+)")


@dataclass(frozen=True, eq=False)
class UnitMask:
    """The units that are kept. heads: bool [layers, heads]; mlps: bool [layers]."""

    heads: Tensor
    mlps: Tensor

    def __post_init__(self) -> None:
        if self.heads.ndim != 2 or self.mlps.shape != self.heads.shape[:1]:
            raise OptionError(
                f"expected heads [layers, heads] and mlps [layers], received {list(self.heads.shape)} and "
                f"{list(self.mlps.shape)}",
                place="mask",
            )
        if self.heads.dtype != torch.bool or self.mlps.dtype != torch.bool:
            raise OptionError("expected true or false for each unit", place="mask", remedy="Compare with 0.5 first.")

    @classmethod
    def full(cls, layers: int, heads: int) -> UnitMask:
        """Everything is kept."""
        return cls(torch.ones(layers, heads, dtype=torch.bool), torch.ones(layers, dtype=torch.bool))

    @classmethod
    def from_units(cls, units: Tensor) -> UnitMask:
        """From one bool tensor [layers, heads + 1] whose last column is the MLPs."""
        return cls(units[:, :-1].clone(), units[:, -1].clone())

    @classmethod
    def from_names(cls, names: Iterable[str], layers: int, heads: int) -> UnitMask:
        """The mask that keeps exactly these units. Raises OptionError, naming the valid range."""
        units = torch.zeros(layers, heads + 1, dtype=torch.bool)
        for name in names:
            units[unit_index(name, layers, heads)] = True
        return cls.from_units(units)

    @classmethod
    def from_head_mask(cls, head_mask: Tensor) -> UnitMask:
        """From the `head_mask` of transformers before version 5: [layers, heads], 1 = keep, 0 = ablate."""
        mask = head_mask.detach().cpu()
        if mask.ndim != 2 or not bool(((mask == 0) | (mask == 1)).all()):
            raise OptionError(
                f"expected zeros and ones of shape [layers, heads], received shape {list(mask.shape)}",
                place="head_mask",
            )
        return cls(mask.bool(), torch.ones(len(mask), dtype=torch.bool))

    @classmethod
    def from_heads_to_prune(cls, pruned: Mapping[int, Sequence[int]], layers: int, heads: int) -> UnitMask:
        """From the argument of `prune_heads` of transformers before version 5: layer -> heads to remove."""
        names = [f"a{layer}.h{head}" for layer, removed in pruned.items() for head in removed]
        return cls.full(layers, heads) - cls.from_names(names, layers, heads)

    @property
    def units(self) -> Tensor:
        """bool [layers, heads + 1], the MLPs in the last column."""
        return torch.cat([self.heads, self.mlps[:, None]], dim=1)

    @property
    def size(self) -> int:
        """Number of units kept."""
        return int(self.units.sum())

    @property
    def sparsity(self) -> float:
        """Share of units removed, in [0, 1]."""
        return 1 - self.size / self.units.numel()

    def names(self) -> list[str]:
        """The units kept, layer by layer, heads before the MLP."""
        return [unit_name(int(layer), int(unit), self.heads.shape[1]) for layer, unit in self.units.nonzero()]

    def __and__(self, other: UnitMask) -> UnitMask:
        return self.from_units(self.units & self._alike(other))

    def __or__(self, other: UnitMask) -> UnitMask:
        return self.from_units(self.units | self._alike(other))

    def __sub__(self, other: UnitMask) -> UnitMask:
        return self.from_units(self.units & ~self._alike(other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnitMask) and torch.equal(self.units, other.units)

    def __hash__(self) -> int:
        return hash(tuple(self.names()))

    def _alike(self, other: UnitMask) -> Tensor:
        if other.units.shape != self.units.shape:
            raise OptionError(
                f"masks of {list(self.heads.shape)} and {list(other.heads.shape)} layers and heads do not combine",
                place="mask",
                remedy="Both must belong to one model.",
            )
        return other.units


def unit_name(layer: int, unit: int, heads: int) -> str:
    """The name of a unit: a{layer}.h{unit}, or a{layer}.mlp where unit = heads."""
    return f"a{layer}.mlp" if unit == heads else f"a{layer}.h{unit}"


def unit_index(name: str, layers: int, heads: int) -> tuple[int, int]:
    """(layer, unit) of a name, unit = heads for the MLP. Raises OptionError, naming the valid range."""
    match = _NAME.fullmatch(name.strip())
    valid = f"a0.h0 to a{layers - 1}.h{heads - 1} and a0.mlp to a{layers - 1}.mlp"
    if match is None:
        raise OptionError(f"'{name}' names no unit", remedy=f"Units are {valid}.")
    layer = int(match["layer"] or match["block"] or 0)
    unit = heads if match["head"] is None else int(match["head"])
    if layer >= layers or (match["head"] is not None and unit >= heads):
        raise OptionError(f"the model has no unit '{name}'", remedy=f"Units are {valid}.")
    return layer, unit
