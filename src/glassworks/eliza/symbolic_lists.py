"""Nested lists of words, as ELIZA scripts were written in 1966, each with the line and column where it stands.

`read_lists` turns text into lists and words; `=` is always a word of its own, `;` starts a comment. Raises
MalformedRecord at `file:line:column`, saying what was expected. Knows nothing of what the lists mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from glassworks.errors import MalformedRecord


class Place(NamedTuple):
    """Where something stands: the file's name, line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Word(NamedTuple):
    """A word of a list."""

    text: str
    place: Place

    @property
    def number(self) -> int | None:
        """The number that the word is, None where it is none."""
        return int(self.text) if self.text.isdecimal() else None


class Listing(NamedTuple):
    """A list: its items and the place of its opening parenthesis."""

    items: tuple[Word | Listing, ...]
    place: Place


def expected(what: str, found: Word | Listing | None, place: Place) -> MalformedRecord:
    """The error that says what should stand at a place, and what does."""
    if found is None:
        seen = "the end"
    elif isinstance(found, Word):
        seen = f"'{found.text}'"
    else:
        seen = "a list" if found.items else "an empty list"
    return MalformedRecord(f"expected {what}, found {seen}", place=str(place if found is None else found.place))


def read_lists(text: str, file: str = "script") -> list[Word | Listing]:
    """All lists and words at the top of a script, upper-cased. Raises MalformedRecord."""
    open_lists: list[tuple[list[Word | Listing], Place]] = []
    top: list[Word | Listing] = []
    for word in _words(text.upper(), file):
        inner = open_lists[-1][0] if open_lists else top
        if word.text == "(":
            open_lists.append(([], word.place))
        elif word.text != ")":
            inner.append(word)
        elif open_lists:
            items, place = open_lists.pop()
            (open_lists[-1][0] if open_lists else top).append(Listing(tuple(items), place))
        else:
            raise MalformedRecord("expected a list or the end, found ')' that closes nothing", place=str(word.place))
    if open_lists:
        raise MalformedRecord("expected ')' before the end: this list is not closed", place=str(open_lists[-1][1]))
    return top


def _words(text: str, file: str) -> Iterator[Word]:
    for number, line in enumerate(text.splitlines(), start=1):
        start: int | None = None
        for column, letter in enumerate(line + " ", start=1):
            stops = letter.isspace() or letter in "();="
            if stops and start is not None:
                yield Word(line[start - 1 : column - 1], Place(file, number, start))
                start = None
            elif not stops and start is None:
                start = column
            if letter == ";":
                break
            if letter in "()=":
                yield Word(letter, Place(file, number, column))
