"""The log-probs of a batch's responses from one forward of the whole model, without its logits.

Question: how are response log-probs got from any Hugging Face decoder that is wrapped for DDP, FSDP or adapters, so
that the wrapper's own forward runs, and yet [tokens, vocab] is never held (SimPO spec, section 6)? The output layer
is replaced for the duration of the call by one that turns hidden states into log-probs in chunks.
Input: a model and a `PackedBatch`. Output: sums and lengths, one a sequence. Knows no loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.foundations.log_probs import SequenceLogProbs, sum_by_sequence, token_log_probs
from glassworks.foundations.packing import PackedBatch, Predictions
from glassworks.foundations.unembedding import Unembedding, language_model_of, unembedding_of

KEPT_ELEMENTS = 2**25
"""Probabilities kept for the backward of a head that trains: 128 MiB in fp32, little beside a step's activations."""


def packed_log_probs(model: nn.Module, unwrapped: nn.Module, batch: PackedBatch) -> SequenceLogProbs:
    """Sum and number of the label log-probs of each sequence of `batch`, each [sequences], differentiable.

    model: what is called, with its wrappers; unwrapped: the language model in it, with or without adapters.
    """
    wanted = batch.predictions()
    inner = language_model_of(unwrapped)
    with _log_probs_for_logits(inner, wanted) as found:
        dummy = model(**batch.model_inputs(inner)).logits
    # The wrapper waits for a gradient through what its forward returned; 0 times it changes nothing.
    values = found[0] + 0 * dummy.sum()
    return sum_by_sequence(values, wanted.sequences, len(batch.places))


@contextmanager
def _log_probs_for_logits(model: Any, wanted: Predictions) -> Iterator[list[Tensor]]:
    """Within it the output layer stores log-probs [predictions] in the list given and returns a scalar as logits."""
    shape_of_head = unembedding_of(model)
    layer = model.get_output_embeddings()
    found: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        # Weights are read here, not before: FSDP gathers them for the forward only.
        head = Unembedding(layer.weight, layer.bias, shape_of_head.scale, shape_of_head.soft_cap)
        values = token_log_probs(hidden.flatten(0, 1)[wanted.places], wanted.targets, head, kept_elements=KEPT_ELEMENTS)
        found.append(values)
        return values.sum().reshape(1, 1, 1).to(hidden.dtype)

    layer.forward = forward
    try:
        yield found
    finally:
        del layer.forward


@torch.no_grad()
def sums_without_gradient(model: nn.Module, unwrapped: nn.Module, batch: PackedBatch) -> Tensor:
    """Summed log-prob of each sequence of `batch`, nats, [sequences], without gradient."""
    return packed_log_probs(model, unwrapped, batch).sums
