"""Nested lists: words with their places, comments, and errors that name line and column."""

import pytest

from glassworks.eliza.symbolic_lists import Listing, Word, read_lists
from glassworks.errors import MalformedRecord


def test_lists_words_and_places() -> None:
    (listing, word) = read_lists("(a (b=C) ; comment )\n  12)\nSTART", "f")
    assert isinstance(listing, Listing)
    assert isinstance(word, Word)
    inner = listing.items[1]
    assert isinstance(inner, Listing)
    assert [item.text for item in inner.items if isinstance(item, Word)] == ["B", "=", "C"]
    number = listing.items[2]
    assert isinstance(number, Word)
    assert (number.number, number.place) == (12, ("f", 2, 3))
    assert (word.text, str(word.place)) == ("START", "f:3:1")


@pytest.mark.parametrize(
    ("text", "message"), [("(a\n (b)", r"f:1:1: expected '\)' before"), ("(a))", r"f:1:4: expected")]
)
def test_unbalanced_parentheses_are_placed(text: str, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        read_lists(text, "f")
