"""Aligned token ids, batches, and what is refused."""

import pytest
import torch

from glassworks.circuits.pairs import Pair, PairSet, TextPair, answer_tokens, tokenise
from glassworks.circuits.toy_model import word_tokenizer
from glassworks.errors import MalformedRecord, NoDocuments

TOKENIZER = word_tokenizer(("a", "b", "c", "d"))


def test_answer_starts_at_its_first_token() -> None:
    assert answer_tokens(TOKENIZER, "a b", " c") == ([0, 1, 2, 3], 3)
    assert answer_tokens(TOKENIZER, "a b ", "c d") == ([0, 1, 2, 3, 4], 3)
    assert answer_tokens(TOKENIZER, "a b", "<id:4>") == ([0, 1, 2, 4], 3)


def test_pairs_are_aligned_and_the_last_answer_token_is_not_read() -> None:
    row = TextPair("a b", "b a", " c d", " d c", distractor=" d")
    assert tokenise([row], TOKENIZER, name="x").pairs == (Pair((0, 1, 2, 3), (0, 2, 1, 4), 3, (3, 4), (4, -1)),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (TextPair("a b", "a b c", " c", place="f.jsonl:7"), r"f.jsonl:7: .*token 3 of the clean and 4"),
        (TextPair("a b", "b a", " c", " c d", place="f.jsonl:8"), r"f.jsonl:8: .*4 tokens in the clean and 5"),
        (TextPair("a b", "b a", " "), "answer is empty"),
    ],
)
def test_misaligned_pairs_are_refused_with_row_and_lengths(row: TextPair, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        tokenise([row], TOKENIZER, name="x")


def test_skipping_counts_and_an_empty_rest_is_refused() -> None:
    good, bad = TextPair("a b", "b a", " c"), TextPair("a b", "a b c", " c")
    assert tokenise([good, bad, bad], TOKENIZER, name="x", on_misaligned="skip").skipped == 2
    with pytest.raises(NoDocuments, match="no pair of 1"):
        tokenise([bad], TOKENIZER, name="x", on_misaligned="skip")


def test_a_batch_is_padded_right_and_weighs_tokens_within_examples() -> None:
    pairs = PairSet("x", (Pair((0, 1), (0, 2), 2, (3,), (4,)), Pair((0, 1, 2), (0, 2, 1), 2, (3, 4), (-1, -1))))
    batch = pairs.batch([0, 1])
    assert batch.clean.tolist() == [[0, 1, 0], [0, 1, 2]]
    assert batch.at.rows.tolist() == [0, 1, 1]
    assert batch.at.columns.tolist() == [1, 1, 2]
    assert torch.allclose(batch.weights, torch.tensor([0.5, 0.25, 0.25]))
