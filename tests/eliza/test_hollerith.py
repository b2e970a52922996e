"""HASH of the 1966 ELIZA: published values, range, chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.hollerith import hash_bits, hash_word, last_chunk


@pytest.mark.parametrize(
    ("word", "bits", "value"),
    [
        ("ALWAYS", 7, 14),
        ("HERE", 2, 3),
        ("KIDS", 2, 1),
        ("TIME", 2, 0),
        ("PURPOSE", 2, 1),
        ("DEVONSHIRE", 2, 0),
        ("PREDICAMENT", 2, 3),
        ("GLOUCESTERSHIRE", 2, 2),
    ],
)
def test_hash_of_words(word: str, bits: int, value: int) -> None:
    assert hash_word(word, bits) == value


def test_hash_of_words_of_the_machine() -> None:
    assert hash_bits((1 << 36) - 1, 15) == 0x7F00
    assert hash_bits(0x555555555, 15) == 0x46E3
    assert hash_bits(0, 7) == 0


def test_the_last_chunk_is_what_is_left_of_six() -> None:
    assert last_chunk("INVENTED") == last_chunk("ED") == int("252460606060", 8)
    assert last_chunk("ALWAYS") != last_chunk("S")


@given(st.text(), st.integers(0, 15))
def test_range(word: str, bits: int) -> None:
    assert 0 <= hash_word(word, bits) < 1 << bits
