"""A configuration of another tool, taken apart key by key: nothing of it is lost without a word.

In: a mapping read from the tool's YAML or JSON. A converter takes keys, sets options of a verb under dotted names and
leaves notes. Out: the options as a nested mapping and the notes, among them every key that nobody took. Knows no tool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from glassworks.errors import OptionError, UnknownName

Rule = tuple[str, str, Callable[[Any], Any] | None]
"""One row of a converter's table: the tool's key, the verb's dotted option, and how the value changes, if it does."""


class Foreign:
    """The tool's keys that are left, the options found so far, and what the user has to know. place: the file."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self._left = {key: value for key, value in values.items() if value is not None}
        self.place = place
        self.options: dict[str, Any] = {}
        self.notes: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which then counts as dealt with; the default where the file does not have it."""
        return self._left.pop(key, default)

    def number(self, key: str, default: float | None = None) -> Any:
        """As `take` for a number; text such as '1e-6', which YAML 1.1 reads as text, is one too. Raises OptionError."""
        value = self.take(key, default)
        if value is None:
            return None
        try:
            found = float(value)
        except (TypeError, ValueError):
            raise OptionError(f"'{key}' should be a number, received {value!r}", place=self.place) from None
        return int(found) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else found

    def choice(self, key: str, known: Mapping[str, str], default: str) -> str:
        """What `known` gives for a key's text. Raises UnknownName, with the nearest of what can be carried."""
        value = str(self.take(key, default))
        if value not in known:
            raise UnknownName(key, value, known, place=self.place)
        return known[value]

    def set(self, option: str, value: Any) -> None:
        """Give an option of the verb, by its dotted name, a value; None leaves it out."""
        if value is not None:
            self.options[option] = value

    def carry(self, rules: Iterable[Rule]) -> None:
        """Take each rule's key that is there into its option."""
        for key, option, change in rules:
            if key in self:
                value = self.take(key)
                self.set(option, change(value) if change else value)

    def note(self, text: str) -> None:
        """Something the user has to know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def ignore(self, keys: Iterable[str], why: str) -> None:
        """Take keys that mean nothing here, and say which of them were there and why they are left out."""
        if found := [key for key in keys if key in self]:
            for key in found:
                self.take(key)
            self.note(f"Left out: {', '.join(found)} ({why}).")

    def finish(self) -> dict[str, Any]:
        """The options as the verb's YAML holds them; keys that nobody took become a note."""
        if self._left:
            self.note(f"Not carried over, check whether they matter: {', '.join(sorted(self._left))}.")
        nested: dict[str, Any] = {}
        for option, value in self.options.items():
            *groups, name = option.split(".")
            place = nested
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = value
        return nested
