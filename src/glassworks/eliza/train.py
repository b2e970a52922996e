"""Verb `eliza train`: a GPT-2-shaped model without positions learns a script from conversations.

Friedman et al. 2025 (arXiv 2407.10949), section 4: trained from scratch on reply tokens only (E itself and what the
user says are not predicted). Position tables are zero and stay so. The mean is over reply tokens of a whole step; the
training is foundations' and resumes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

from glassworks.eliza.compile_verb import tokenizer_of
from glassworks.eliza.dataset import Example, read_split
from glassworks.eliza.interpreter import response_mask
from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.models import pick_device
from glassworks.foundations.runs import Run
from glassworks.foundations.training import CausalLMTrainer, training_arguments

IGNORED = -100
VOCABULARY = ("<pad>", "$", ".", "E", "U", *"abcdefghijklmnopqrstuvwxyz", "<unk>")


@dataclass(frozen=True)
class Shape:
    """The model; the paper's is 8 layers, 12 heads, width 768.

    Args:
        layers: Blocks.
        heads: Attention heads of a block.
        width: Hidden size.
    """

    layers: int = 3
    heads: int = 4
    width: int = 64


def eliza_train(
    data: str,
    out: str = "runs/eliza-train",
    shape: Shape = Shape(),
    steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    warmup_steps: int = 100,
    validation_limit: int = 256,
    seed: int = 0,
    device: str = "auto",
) -> Run:
    """Train a GPT-2-shaped model without positions to reply as a script does.

    Args:
        data: Folder of `eliza generate` or of the official generator.
        out: The run folder; the model is its folder `model`.
        shape: Layers, heads and width; 8, 12 and 768 in the paper.
        steps: Optimiser steps.
        batch_size: Conversations of a step.
        learning_rate: Highest rate, after warm-up; it then falls linearly to 0.
        warmup_steps: Steps until the highest rate.
        validation_limit: Conversations that the final loss is measured on.
        seed: Draws weights and the order of conversations.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_train, arguments) as run:
        if min(shape.layers, shape.heads) < 1 or shape.width < 1 or shape.width % shape.heads:
            raise OptionError("expected positive sizes and a width that the heads divide", place="shape")
        check_at_least(1, steps=steps, batch_size=batch_size)
        check_at_least(0, warmup_steps=warmup_steps)
        if not 0 < learning_rate < float("inf"):
            raise OptionError(f"expected a positive number, received {learning_rate}", place="learning_rate")
        pick_device(device)  # refuses an unknown one
        examples = read_split(data, "train")
        held_out = read_split(data, "validation", validation_limit)
        set_seed(seed)
        longest = max(len(example.tokens) for example in (*examples, *held_out))
        # The position table is all zeros, so that it costs nothing to leave room for edited and free conversations.
        model = without_positions(shape, 2 * longest)
        settings = training_arguments(
            run.path / "checkpoints",
            device=device,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            max_grad_norm=1.0,
            seed=seed,
            save_steps=max(1, steps // 4),
            save_total_limit=2,
            logging_steps=max(1, steps // 50),
            train_sampling_strategy="group_by_length",
        )
        trainer = CausalLMTrainer(
            model, settings, collate, [row(e) for e in examples], [row(e) for e in held_out], run=run
        )
        trainer.train(resume_from_checkpoint=True)
        model.save_pretrained(run.path / "model")
        tokenizer_of(VOCABULARY).save_pretrained(run.path / "model")
        _record(run, trainer.evaluate()["eval_loss"], len(held_out), steps, seed, file_sha(f"{data}/train.csv"))
    return run


def without_positions(shape: Shape, longest: int) -> GPT2LMHeadModel:
    """A random GPT-2 whose position table is zero and frozen."""
    config = GPT2Config(
        vocab_size=len(VOCABULARY),
        n_positions=longest,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function as one kernel: a step is a sixth shorter
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.transformer.wpe.weight.data.zero_()
    model.transformer.wpe.weight.requires_grad_(False)
    return model


def row(example: Example) -> dict[str, Any]:
    """A conversation as ids and labels, -100 where nothing is predicted."""
    index = {token: number for number, token in enumerate(VOCABULARY)}
    ids = [index.get(token, len(VOCABULARY) - 1) for token in example.tokens]
    mask = response_mask(example.tokens)
    return {
        "input_ids": ids,
        "labels": [number if wanted else IGNORED for number, wanted in zip(ids, mask, strict=True)],
    }


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Rows padded on the right to the longest: tensors [batch, seq]."""
    size = max(len(item["input_ids"]) for item in rows)

    def padded(name: str, filler: int) -> Tensor:
        return torch.tensor([item[name] + [filler] * (size - len(item[name])) for item in rows])

    mask = torch.tensor([[1] * len(item["input_ids"]) + [0] * (size - len(item["input_ids"])) for item in rows])
    return {"input_ids": padded("input_ids", 0), "attention_mask": mask, "labels": padded("labels", IGNORED)}


def _record(run: Run, loss: float, n: int, steps: int, seed: int, sha: str) -> None:
    run.record(
        Evidence("eliza", "Loss on reply tokens of held-out conversations", "validation_loss", float(loss), "nats",
                 "lower", n=n, setting=f"{steps} steps", seed=seed, data_sha=sha, artefact="model")
    )  # fmt: skip
