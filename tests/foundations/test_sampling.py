"""The sampling policy by hand, by frequencies and by the nucleus; stop texts wherever they fall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cases.tiny_tokenizers import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from glassworks.foundations.generation import Sampling
from glassworks.foundations.language_model import Generation
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


def continuation(options: Sampling, *, index: int = 0, room: int = 50) -> Continuation:
    """The answer to a prompt of one token, of letters: token n is the n-th after 'a'."""

    def decode(ids: Sequence[int]) -> str:
        return "".join(chr(ord("a") + token) for token in ids)

    return Continuation(decode, frozenset({25}), options, room=room, index=index, prompt_tokens=1)


def test_draws_are_a_function_of_seed_index_and_step() -> None:
    def draws(seed: int, index: int) -> list[float]:
        one = continuation(Sampling(temperature=1.0, seed=seed), index=index)
        return [one.draw() for _ in range(3)]

    assert draws(5, 2) == draws(5, 2) == np.random.default_rng([5, 2]).random(3).tolist()
    seen = {number for seed in range(3) for index in range(3) for number in draws(seed, index)}
    assert len(seen) == 27
    assert continuation(Sampling(seed=5), index=2).draw() == 0.0


def test_a_text_ends_at_a_stop_token_which_is_not_its_own_or_at_the_room() -> None:
    stopped, full = continuation(Sampling(), room=3), continuation(Sampling(), room=3)
    for token in (1, 2, 25):
        stopped.add(token, -0.5)
    for token in (1, 2, 3):
        assert full.finish_reason is None
        full.add(token, -0.25)
    assert stopped.result() == Generation("bc", (1, 2), "stop", 1, -1.0, (-0.5, -0.5))
    assert full.result() == Generation("bcd", (1, 2, 3), "length", 1, -0.75, (-0.25,) * 3)


def test_the_earliest_of_several_stop_texts_cuts_and_a_beginning_of_one_is_held_back() -> None:
    one = continuation(Sampling(stop=("cd", "bcde")))
    certain = []
    for token in (0, 1, 2):
        one.add(token, 0.0)
        certain.append(one.certain_text())
    assert certain == ["a", "a", "a"]
    one.add(3, 0.0)
    assert (one.text(), one.finish_reason) == ("ab", "stop")
