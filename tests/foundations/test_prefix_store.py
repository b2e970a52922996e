"""A remembered beginning has the bits of a computed one, and no more is kept than was said."""

from __future__ import annotations

import pytest
import torch
from cases.byte_models import GREEDY, PROMPTS, SHARED, local
from hypothesis import given
from hypothesis import strategies as st

from glassworks.foundations.generation import Sampling
from glassworks.foundations.prefix_store import shared_prefix_length


def test_a_remembered_beginning_gives_the_same_bits_as_a_computed_one() -> None:
    prompts = [SHARED + prompt for prompt in PROMPTS]
    model = local(dtype=torch.float32, prefix_tokens=2048)
    first = model.generate(prompts, GREEDY)
    computed = model._prefixes.computed_tokens
    assert computed == 64
    assert model.generate(prompts, GREEDY) == first
    assert (model._prefixes.computed_tokens, model._prefixes.reused_tokens) == (computed, 64)
    model.clear_prefixes()
    assert model.generate(prompts, GREEDY) == first
    forgetful = local(dtype=torch.float32).generate(prompts, GREEDY)
    assert [g.token_ids for g in forgetful] == [g.token_ids for g in first]


def test_the_store_keeps_no_more_than_its_capacity_and_no_hidden_memory() -> None:
    model = local(dtype=torch.float32, prefix_tokens=128)
    for letter in "abc":
        model.generate([letter * 300], Sampling(max_new_tokens=1))
    kept = [states for _, cache in model._prefixes._blocks.values() for layer in cache for states in layer[:2]]
    assert len(kept) == 2 * 2 * 3
    assert all(states.untyped_storage().nbytes() == states.numel() * 4 for states in kept)


def test_shared_beginnings_are_computed_once_and_change_nothing() -> None:
    model = local(dtype=torch.float64)
    prompts = [SHARED + str(i) for i in range(5)]
    log_probs = model.next_token_log_probs(prompts)
    assert model._prefixes.computed_tokens == len(model.encode(SHARED))
    for prompt, row in zip(prompts, log_probs, strict=True):
        logits = model.model(torch.tensor([model.encode(prompt)])).logits[0, -1]
        torch.testing.assert_close(row, logits.log_softmax(-1).float())


@pytest.mark.parametrize("prefix_tokens", [0, 2048])
@pytest.mark.parametrize("family", ["mistral", "gemma3", "bloom", "gpt2"])
def test_distances_to_a_shared_beginning_are_those_of_the_text(family: str, prefix_tokens: int) -> None:
    # Own parts of very different length, so that padding between beginning and own part would be seen.
    model = local(family, dtype=torch.float32, prefix_tokens=prefix_tokens)
    prompts = [SHARED[:64] + own for own in ("x", "a much longer part of its own", SHARED)]
    log_probs = model.next_token_log_probs(prompts, [70, 71])
    assert model._prefixes.computed_tokens == (64 if prefix_tokens else 65)
    for prompt, row in zip(prompts, log_probs, strict=True):
        logits = model.model(torch.tensor([[*model.encode(prompt), 70, 71]])).logits[0, -1]
        torch.testing.assert_close(row, logits.log_softmax(-1), atol=1e-4, rtol=1e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_shared_prefix_length_is_the_longest_that_leaves_each_row_a_token(rows: list[list[int]]) -> None:
    length = shared_prefix_length(rows)
    assert all(row[:length] == rows[0][:length] for row in rows)
    shortest = min(map(len, rows))
    assert length == shortest - 1 or len({row[length] for row in rows}) > 1
