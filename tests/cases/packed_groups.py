"""Groups of sequences to pack, longer than the tiny models' windows, and the loss of a packed batch."""

from __future__ import annotations

import torch
from cases.tiny_models import random_tokens
from torch.nn import functional as F

from glassworks.foundations.packing import Group, PackedBatch

# The mistral and gemma models have a window of 5, so most of these sequences are longer than it.
PREFIXES = (9, 0, 6, 2)
CONTINUATIONS = ((7, 3, 12), (11,), (1, 8), (5, 5))


def groups_of(prefixes: tuple[int, ...], continuations: tuple[tuple[int, ...], ...]) -> list[Group]:
    """Groups of these lengths, of random tokens."""
    tokens = iter(random_tokens(1, 500, seed=3)[0].tolist())
    take = lambda n: [next(tokens) for _ in range(n)]  # noqa: E731
    return [
        Group([take(n) for n in lengths], take(start)) for start, lengths in zip(prefixes, continuations, strict=True)
    ]


GROUPS = groups_of(PREFIXES, CONTINUATIONS)


def packed_loss(model: torch.nn.Module, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the packed rows and the summed cross-entropy of what they predict."""
    logits = model(**batch.model_inputs(model)).logits
    wanted = batch.predictions()
    return logits, F.cross_entropy(logits.flatten(0, 1)[wanted.places], wanted.targets, reduction="sum")
