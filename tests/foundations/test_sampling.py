"""The sampling policy by hand, by frequencies and by the nucleus; stop texts wherever they fall."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from cases.tiny_tokenizers import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from glassworks.foundations.generation import Sampling
from glassworks.foundations.sampling import Continuation, choose_tokens

HALF_THIRD_SIXTH = torch.tensor([[1 / 6, 1 / 2, 1 / 3]]).log()


def drawn(uniform: float, **options: float) -> int:
    return int(choose_tokens(HALF_THIRD_SIXTH, Sampling(**{"temperature": 1.0} | options), [uniform])[0])


def test_draws_by_hand() -> None:
    # Laid out from the most likely down: token 1 to 1/2, token 2 to 5/6, token 0 to 1.
    assert [drawn(u) for u in (0.0, 0.49, 0.51, 0.83, 0.84, 0.9999)] == [1, 1, 2, 2, 0, 0]
    assert drawn(0.9999, temperature=0.0) == 1
    # At temperature 1/2 the squares count: 9, 4, 1 of 14.
    assert [drawn(u, temperature=0.5) for u in (0.64, 0.65, 0.92, 0.93)] == [1, 2, 2, 0]
    # Top-p 0.6 keeps 1/2 and 1/3; top-p 1/2 keeps the first alone.
    assert [drawn(u, top_p=0.6) for u in (0.59, 0.61, 0.9999)] == [1, 2, 2]
    assert drawn(0.9999, top_p=0.5) == 1


def test_a_tie_goes_to_the_lowest_token() -> None:
    assert choose_tokens(torch.zeros(2, 5), Sampling(), [0.0, 0.0]).tolist() == [0, 0]


def test_frequencies_follow_the_probabilities() -> None:
    uniforms = np.random.default_rng(0).random(20_000).tolist()
    tokens = choose_tokens(HALF_THIRD_SIXTH.expand(20_000, -1), Sampling(temperature=1.0), uniforms)
    counts = Counter(tokens.tolist())
    assert [counts[i] / 20_000 for i in range(3)] == pytest.approx([1 / 6, 1 / 2, 1 / 3], abs=0.01)


@given(
    st.lists(st.floats(-30, 0), min_size=1, max_size=6),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 4),
)
def test_only_tokens_of_the_nucleus_are_drawn(
    logits: list[float], top_p: float, uniform: float, temperature: float
) -> None:
    table = torch.tensor([logits]).log_softmax(-1)
    token = int(choose_tokens(table, Sampling(temperature=temperature, top_p=top_p), [uniform])[0])
    shares = (table / temperature).softmax(-1)[0]
    assert shares[shares > shares[token]].sum() < top_p + 1e-5


def test_stop_texts_across_tokens_and_inside_characters() -> None:
    tokenizer = byte_tokenizer()

    def decode(ids: object) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    options = Sampling(stop=("\n\n", "é!"))
    for text, wanted, certain in (("ab\n\n", "ab", "ab"), ("aé!", "a", "a"), ("a\n", "a\n", "a")):
        continuation = Continuation(decode, frozenset({2}), options, room=50, index=0, prompt_tokens=1)
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            assert continuation.finish_reason is None
            continuation.add(token, -1.0)
        assert continuation.text() == wanted
        assert continuation.certain_text() == certain
        assert continuation.finish_reason == (None if text == "a\n" else "stop")
