"""Proof that frozen weights stay frozen: a hash of their bytes before and after.

Input: a model and, where not all that does not require gradients is meant, the names. Output: nothing, or
FrozenWeightChanged with the names that changed. Of a sharded model each process checks its own shards.
Does not freeze anything: `requires_grad` does.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glassworks.errors import FrozenWeightChanged
from glassworks.foundations.sharding import reshard


def weight_hashes(model: nn.Module, names: Collection[str] | None = None) -> dict[str, str]:
    """SHA-256 of the bytes, dtype and shape of each parameter in `names`; by default of those without gradient."""
    reshard(model)  # what is gathered now may not be at the next comparison
    return {
        name: _sha(parameter)
        for name, parameter in model.named_parameters()
        if (name in names if names is not None else not parameter.requires_grad)
    }


def check_unchanged(model: nn.Module, before: dict[str, str]) -> None:
    """Raise FrozenWeightChanged unless every parameter in `before` still has the hash it had."""
    after = weight_hashes(model, before.keys())
    changed = [name for name, sha in before.items() if after.get(name) != sha]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise FrozenWeightChanged(
            f"{len(changed)} of {len(before)} frozen weights are no longer bit-identical: "
            f"{', '.join(changed[:3])}{more}",
            remedy="Discard this checkpoint and report the fault: frozen weights must not be written to.",
        )


@contextlib.contextmanager
def frozen_weights(model: nn.Module, names: Collection[str] | None = None) -> Iterator[None]:
    """Check on leaving the block that the parameters without gradient (or `names`) kept every bit.

    An error raised inside the block is not replaced. Not across a block that shards the model; there the
    callback FrozenWeights compares shards.
    """
    before = weight_hashes(model, names)
    yield
    check_unchanged(model, before)


class FrozenWeights(TrainerCallback):
    """Checks frozen weights from the first step of a training to its last."""

    def __init__(self) -> None:
        self.before: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hash the weights that the optimiser does not own."""
        self.before = weight_hashes(kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compare."""
        check_unchanged(kwargs["model"], self.before)


def _sha(parameter: Tensor) -> str:
    local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    values = local.detach().contiguous().cpu()
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode())
    digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
