"""Whole weights of single parts of a model that FSDP2 shards over processes.

`fully_shard` gathers a block's weights when the block itself is called. Code that runs a block's parts one by one (the
recomposition, a gated forward pass) gathers them around each block instead. Input: a model, whole or sharded. Does
nothing to a whole one. Every process must gather the same parts in the same order, as in any use of FSDP; `anywhere`
lets processes whose data differ agree on what comes next. Weights that other means split are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from glassworks.errors import UnsupportedArchitecture


class Shards:
    """Which unit of `fully_shard` holds the weights of each module of a model; nothing where no weight is sharded.

    Raises UnsupportedArchitecture for weights that are split by anything but FSDP2 (tensor parallelism, FSDP1).
    """

    def __init__(self, model: nn.Module) -> None:
        self._unit: dict[int, FSDPModule] = {}
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            self._assign(model, None)
        split = [
            name
            for name, module in model.named_modules()
            if isinstance(module, FullyShardedDataParallel)
            or (id(module) not in self._unit and any(isinstance(p, DTensor) for p in module.parameters(recurse=False)))
        ]
        if split:
            raise UnsupportedArchitecture(
                "its weights are split over processes by other means than FSDP2",
                place=f"{type(model).__name__}, module '{split[0]}'",
                remedy="Shard it with torch.distributed.fsdp.fully_shard, or give each process a whole copy.",
            )

    def __bool__(self) -> bool:
        return bool(self._unit)

    def open(self, *parts: nn.Module | None) -> list[FSDPModule]:
        """Gather the weights of `parts` (None: none), and leave them so. Returns the units that were gathered."""
        modules = (module for part in parts if part is not None for module in part.modules())
        units = dict.fromkeys(self._unit[id(module)] for module in modules if id(module) in self._unit)
        for unit in units:
            unit.unshard()
        return list(units)

    @contextmanager
    def gathered(self, *parts: nn.Module | None) -> Iterator[None]:
        """Whole weights of `parts` within a block; sharded again behind it. Blocks may not be nested."""
        units = self.open(*parts) if self._unit else []
        try:
            yield
        finally:
            for unit in units:
                unit.reshard()

    def anywhere(self, flag: bool) -> bool:
        """Whether `flag` holds in any process that shares the weights; `flag` itself where none are shared."""
        if not self._unit:
            return flag
        found = torch.tensor(int(flag), device=self._device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    @property
    def _device(self) -> torch.device:
        unit = next(iter(self._unit.values()))
        return next(unit.parameters()).device  # type: ignore[attr-defined, no-any-return]

    def _assign(self, module: nn.Module, unit: FSDPModule | None) -> None:
        unit = module if isinstance(module, FSDPModule) else unit
        if unit is not None:
            self._unit[id(module)] = unit
        for child in module.children():
            self._assign(child, unit)


def reshard(model: nn.Module) -> None:
    """Every unit of `fully_shard` in `model` gives up the weights that it gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
