"""A remembered beginning has the bits of a computed one, and no more is kept than was said."""

from __future__ import annotations

import pytest
import torch
from cases.byte_models import GREEDY, PROMPTS, SHARED, local
from cases.tiny_models import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from glassworks.foundations.causal_forward import CausalForward
from glassworks.foundations.generation import Sampling
from glassworks.foundations.prefix_store import PrefixStore, shared_prefix_length


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


def store(*, block: int = 4, capacity: int = 12) -> PrefixStore:
    return PrefixStore(CausalForward(tiny_model("llama", dtype=torch.float32)), block=block, capacity=capacity)


def test_what_is_worth_keeping_by_hand() -> None:
    rows = [[5] * 11 + [6], [5] * 11 + [7, 8]]
    assert store().shareable(rows) == 8, "whole blocks"
    assert store().shareable(rows[:1]) == 8, "a row alone may be asked again; its last token stays its own"
    assert store().shareable([[5] * 8, [5] * 9]) == 4
    many = [[5] * 11 + [number] for number in range(44)]
    assert store().shareable(many) == 11, "a part of a block that is spared 43 times"
    assert store().shareable(many[:40]) == 8
    assert store(capacity=0).shareable(rows) == 0, "too short for a pass of its own"
    long = [[5] * 40 + [6], [5] * 40 + [7]]
    assert store(capacity=0).shareable(long) == 40
    assert store(capacity=0).shareable(long[:1]) == 0


def test_the_oldest_beginning_goes_first_and_never_before_what_continues_it() -> None:
    kept = store(capacity=12)
    first, second = list(range(3, 11)), list(range(20, 24))
    for tokens, computed, reused in (
        (first, 8, 0),
        (second, 12, 0),
        (first[:4], 12, 4),  # now its continuation is the oldest
        (list(range(30, 34)), 16, 4),
        (second, 16, 8),
        (first, 20, 12),  # the first half was kept, the second half computed again
    ):
        kept.read(tokens)
        assert (kept.computed_tokens, kept.reused_tokens) == (computed, reused)
    kept.clear()
    kept.read(second)
    assert (kept.computed_tokens, kept.reused_tokens) == (24, 12)


def test_equal_blocks_after_different_beginnings_are_not_taken_for_each_other() -> None:
    kept, fresh = store(capacity=64), store(capacity=64)
    same = [9, 8, 7, 6]
    kept.read([3, 4, 5, 6, *same])
    kept.read(same)
    found, wanted = kept.read([6, 5, 4, 3, *same]), fresh.read([6, 5, 4, 3, *same])
    assert kept.reused_tokens == 0
    assert found is not None
    assert wanted is not None
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert kept.read([]) is None


def test_a_part_of_a_block_is_remembered_with_the_same_bits() -> None:
    kept = store()
    first, again = (kept.read([1, 2, 3, 4, 5, 6]) for _ in range(2))
    assert first is not None
    assert again is not None
    assert (kept.computed_tokens, kept.reused_tokens) == (6, 6)
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)
        assert one[0].shape[2] == 6
    longer = kept.read([1, 2, 3, 4, 5, 6, 7, 8])
    assert kept.computed_tokens == 10, "a whole block is computed as one, whatever part of it is known"
    assert longer is not None
