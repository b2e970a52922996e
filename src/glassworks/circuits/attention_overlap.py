"""Do core heads attend from a word of the second text to the same word of the first?

The Heuristic Core (2024) looks at what core heads attend to; this protocol is ours. For pairs of texts, overlap of a
head = attention of the second text's tokens on equal tokens of the first, minus the same mass for tokens that have no
equal, spread evenly over the first text. Counterfactual = change of the attention from a place to the token it matched
when the word at that place is replaced by one that the first text lacks. Both per pair, so that they get intervals.
Needs eager attention, which is the only kind that returns its weights. Input: model, tokenizer, pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.circuits.sentence_pairs import Example
from glassworks.errors import DataError, OptionError


class Attended(NamedTuple):
    """Scores a pair; NaN where a pair has no overlap or nothing to compare. Each fp64 [pairs, layers, heads]."""

    overlap: Tensor
    counterfactual: Tensor


class TokenPair(NamedTuple):
    """Tokens of one pair: ids [seq], and which text each belongs to, 0 or 1, -1 for special tokens."""

    ids: list[int]
    text: list[int]
    inputs: dict[str, list[int]]


def overlap_score(attention: Tensor, ids: Sequence[int], text: Sequence[int]) -> Tensor:
    """Mean attention of matched tokens on their equals minus the mean share of unmatched ones, [layers, heads].

    attention: [layers, heads, seq, seq]; text: 0 or 1 for each token, -1 special. Both directions count. NaN where no
    token matches or none does not.
    """
    matched, unmatched = [], []
    for mine, others in ((1, 0), (0, 1)):
        there = [place for place, side in enumerate(text) if side == others]
        for place in [place for place, side in enumerate(text) if side == mine]:
            equal = [other for other in there if ids[other] == ids[place]]
            row = attention[:, :, place]
            if equal:
                matched.append(row[:, :, equal].sum(-1))
            elif there:
                unmatched.append(row[:, :, there].mean(-1))
    if not matched or not unmatched:
        return torch.full(attention.shape[:2], float("nan"), dtype=torch.float64)
    return (torch.stack(matched).mean(0) - torch.stack(unmatched).mean(0)).double()


@torch.no_grad()
def attended(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Example], *, seed: int = 0
) -> Attended:
    """Overlap and counterfactual scores of every head on `pairs`. The attention implementation is put back.

    Raises DataError for texts without a pair, OptionError for a model that returns no attention.
    """
    if model.config.is_encoder_decoder:
        raise OptionError("attention of two stacks is not compared", place="model", remedy="Give a model of one stack.")
    tokens = [_tokens(tokenizer, pair) for pair in pairs]
    vocabulary = sorted(
        {token for pair in tokens for token, side in zip(pair.ids, pair.text, strict=True) if side >= 0}
    )
    draw = random.Random(seed)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    overlap, change = [], []
    try:
        for pair in tokens:
            attention = _attention(model, pair.inputs)
            overlap.append(overlap_score(attention, pair.ids, pair.text))
            change.append(_counterfactual(model, pair, attention, vocabulary, draw))
    finally:
        model.set_attn_implementation(before)
    return Attended(torch.stack(overlap), torch.stack(change))


def _tokens(tokenizer: PreTrainedTokenizerBase, pair: Example) -> TokenPair:
    if pair.text_pair is None:
        raise DataError("attention between two texts needs pairs", place="evaluation", remedy="Give rows a text_pair.")
    found = tokenizer(pair.text, pair.text_pair)
    sides = [-1 if side is None else side for side in found.sequence_ids(0)]
    inputs = {name: list(found[name]) for name in tokenizer.model_input_names if name in found}
    return TokenPair(list(found["input_ids"]), sides, inputs)


def _attention(model: PreTrainedModel, inputs: dict[str, list[int]]) -> Tensor:
    """[layers, heads, seq, seq] of one pair."""
    tensors: dict[str, Any] = {name: torch.tensor([row], device=model.device) for name, row in inputs.items()}
    found = model(**tensors, output_attentions=True).attentions
    if not found or found[0] is None:
        raise OptionError("the model returns no attention weights", place="model")
    return torch.stack([layer[0].float().cpu() for layer in found])


def _counterfactual(
    model: PreTrainedModel, pair: TokenPair, attention: Tensor, vocabulary: Sequence[int], draw: random.Random
) -> Tensor:
    """Attention to the matched token with the word there, minus with another word in its place, [layers, heads]."""
    first = {pair.ids[place]: place for place, side in enumerate(pair.text) if side == 0}
    places = [place for place, side in enumerate(pair.text) if side == 1 and pair.ids[place] in first]
    others = [token for token in vocabulary if token not in first]
    if not places or not others:
        return torch.full(attention.shape[:2], float("nan"), dtype=torch.float64)
    place = draw.choice(places)
    changed = dict(pair.inputs)
    changed["input_ids"] = list(pair.ids)
    changed["input_ids"][place] = draw.choice(others)
    target = first[pair.ids[place]]
    return (attention[:, :, place, target] - _attention(model, changed)[:, :, place, target]).double()
