"""Small preference pairs, a plain padded implementation of their log-probs, and a trainer of a tiny model on them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from cases.tiny_models import tiny_model
from torch import Tensor
from transformers import PreTrainedModel

from glassworks.foundations.training import training_arguments
from glassworks.preference.losses import PairLogProbs
from glassworks.preference.pairs import TokenizedPair
from glassworks.preference.trainer import Example, PreferenceTrainer, mismatched_pairs

STEPS, BATCH = 4, 8


def token_pairs(count: int = STEPS * BATCH, seed: int = 0) -> list[TokenizedPair]:
    """Pairs of random tokens: prompts of 1 to 12, responses of 1 to 9 tokens."""
    draw = random.Random(seed)

    def tokens(most: int) -> list[int]:
        return [draw.randrange(3, 40) for _ in range(draw.randint(1, most))]

    return [TokenizedPair(tokens(12), [*tokens(9), 1], [*tokens(9), 2], f"pair {i}") for i in range(count)]


def padded_log_probs(model: PreTrainedModel, pairs: list[TokenizedPair], side: int, padding: int = 0) -> Tensor:
    """Summed log-probs of one side's responses, nats, [pairs], from full logits of each sequence alone."""
    sums = []
    for pair in pairs:
        ids = torch.tensor([[*pair.prompt_ids, *pair[side], *[0] * padding]])
        mask = torch.tensor([[1] * (len(pair.prompt_ids) + len(pair[side])) + [0] * padding])
        lp = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        places = range(len(pair.prompt_ids), len(pair.prompt_ids) + len(pair[side]))
        sums.append(torch.stack([lp[0, at - 1, ids[0, at]] for at in places]).sum())
    return torch.stack(sums)


def plain_pairs(model: PreTrainedModel, pairs: list[TokenizedPair]) -> PairLogProbs:
    """The same PairLogProbs that the trainer makes, without reference, each [pairs]."""
    lengths = [torch.tensor([len(pair[side]) for pair in pairs]) for side in (1, 2)]
    return PairLogProbs(padded_log_probs(model, pairs, 1), padded_log_probs(model, pairs, 2), *lengths)


def examples_of(pairs: list[TokenizedPair], *, reference: bool = False) -> list[Example]:
    """Examples; with made-up reference sums and mismatched responses where a reference is wanted."""
    if not reference:
        return [Example(pair) for pair in pairs]
    draw = random.Random(1)
    return [
        Example(pair, draw.uniform(-60, -5), draw.uniform(-60, -5), other, draw.uniform(-60, -5))
        for pair, other in zip(pairs, mismatched_pairs(pairs), strict=True)
    ]


def preference_trainer(
    folder: Path,
    *,
    method: str = "simpo",
    micro_batch: int = 4,
    processes: int = 1,
    model: PreTrainedModel | None = None,
    examples: list[Example] | None = None,
    settings: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    **arguments: Any,
) -> PreferenceTrainer:
    """A trainer of a tiny llama for 4 steps of 8 pairs."""
    if model is None:
        model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=2)
    needs = method in ("dpo", "ipo", "kto", "rdpo", "dpo-norm")
    return PreferenceTrainer(
        model,
        training_arguments(
            folder,
            device="cpu",
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=BATCH // (micro_batch * processes),
            **{"max_steps": STEPS, "learning_rate": 3e-3, "logging_steps": 1, "save_strategy": "no"} | arguments,
        ),
        method=method,
        settings=settings,
        train_dataset=examples if examples is not None else examples_of(token_pairs(), reference=needs),
        **trainer or {},
    )
