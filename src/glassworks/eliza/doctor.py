"""The grammar of the scripts of 1966: what a script in Weizenbaum's format says, checked and at hand.

Weizenbaum 1966 (CACM 9(1), appendix). A script is an opening remark and rules. A rule belongs to a keyword and has
any of: a word that takes its place (`= YOU`), tags (`DLIST(/FAMILY)`), a rank, transformations (a decomposition and
its reassemblies), a link to another keyword (`(=WHAT)`). MEMORY has four decomposition-reassembly pairs; NONE answers
when there is no keyword. Raises MalformedRecord at file:line:column. Knows how to read, not how to converse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from glassworks.eliza.symbolic_lists import Listing, Place, Word, expected, read_lists
from glassworks.errors import DataNotFound, MalformedRecord

MEMORY_PAIRS = 4


class AnyOf(NamedTuple):
    """One word among these: `(*SAD UNHAPPY)`."""

    words: frozenset[str]


class Tagged(NamedTuple):
    """One word with any of these tags: `(/FAMILY)`."""

    tags: frozenset[str]


Pattern = int | str | AnyOf | Tagged
"""An element of a decomposition: 0 = any number of words, n = exactly n words, a word, or a choice of words."""


class Say(NamedTuple):
    """A reply: words, and numbers of the parts that are put in."""

    words: tuple[str | int, ...]


class Link(NamedTuple):
    """Go on with the rule of another keyword."""

    key: str


class NewKey(NamedTuple):
    """Go on with the next keyword of the input."""


class Pre(NamedTuple):
    """Rewrite the input, then go on with the rule of a keyword."""

    words: tuple[str | int, ...]
    key: str


Reassembly = Say | Link | NewKey | Pre


@dataclass(frozen=True)
class Transformation:
    """A decomposition and the reassemblies that answer it in turn."""

    decomposition: tuple[Pattern, ...]
    reassemblies: tuple[Reassembly, ...]


@dataclass(frozen=True)
class KeywordRule:
    """What a script says of one keyword."""

    key: str
    substitute: str | None = None
    rank: int = 0
    tags: frozenset[str] = frozenset()
    transformations: tuple[Transformation, ...] = ()
    link: str | None = None

    @property
    def is_keyword(self) -> bool:
        """Whether the word can decide the reply; else it is only replaced or tagged."""
        return bool(self.transformations) or self.link is not None


@dataclass(frozen=True)
class MemoryRule:
    """The keyword whose sentences are remembered, and the four ways of keeping them."""

    key: str
    pairs: tuple[Transformation, ...]


@dataclass(frozen=True)
class DoctorScript:
    """A script in the format of 1966. none: the rule for inputs without a keyword."""

    opening: str
    rules: dict[str, KeywordRule]
    none: KeywordRule
    memory: MemoryRule | None = None
    name: str = "script"
    tags: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def keywords(self) -> list[str]:
        """The words that can decide a reply, in the order of the script."""
        return [key for key, rule in self.rules.items() if rule.is_keyword]


def read_doctor(path: str | Path) -> DoctorScript:
    """Read a script file. Raises DataNotFound or MalformedRecord."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataNotFound(f"cannot read the script ({error.strerror})", place=str(path)) from error
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not UTF-8 text (byte {error.start})", place=str(path)) from error
    return parse_doctor(text, str(path))


def parse_doctor(text: str, file: str = "script") -> DoctorScript:
    """The script that a text in the format of 1966 says. Raises MalformedRecord, naming line and column."""
    items = read_lists(text, file)
    end = Place(file, len(text.splitlines()) or 1, 1)
    first = items[0] if items else None
    if not isinstance(first, Listing) or not all(isinstance(word, Word) for word in first.items):
        raise expected("the opening remark, a list of words", first, end)
    parser = _Parser()
    for item in items[1:]:
        if isinstance(item, Word):
            if item.text != "START":
                raise expected("START or a rule in parentheses", item, end)
        elif item.items:
            parser.rule(item)
    return parser.finish(" ".join(word.text for word in first.items if isinstance(word, Word)), file, end)


class _Parser:
    """Collects rules; every method takes a list of the script and refuses what it should not hold."""

    def __init__(self) -> None:
        self.rules: dict[str, KeywordRule] = {}
        self.none: KeywordRule | None = None
        self.memory: MemoryRule | None = None
        self.remembered: Word | None = None
        self.links: list[tuple[str, Place]] = []

    def rule(self, listing: Listing) -> None:
        head = _word(listing, 0, "a keyword")
        if head.text == "MEMORY":
            if self.memory is not None:
                raise MalformedRecord("MEMORY is given a second time", place=str(head.place))
            self.memory = self._memory(listing)
            return
        if head.text in self.rules or (head.text == "NONE" and self.none is not None):
            raise MalformedRecord(f"the keyword {head.text} is given a second time", place=str(head.place))
        rule = self._keyword(head, listing)
        if head.text == "NONE":
            if not rule.transformations:
                raise expected("a transformation of NONE", None, head.place)
            self.none = rule
        else:
            self.rules[head.text] = rule

    def finish(self, opening: str, file: str, end: Place) -> DoctorScript:
        if self.none is None:
            raise expected("a rule (NONE ((0) ...)) for inputs without a keyword", None, end)
        for key, place in self.links:
            if key not in self.rules and key != "NONE":
                raise MalformedRecord(f"expected a keyword of the script, found '{key}'", place=str(place))
        if self.remembered and not ((rule := self.rules.get(self.remembered.text)) and rule.is_keyword):
            raise expected("a keyword that can decide a reply", self.remembered, end)
        tags: dict[str, set[str]] = {}
        for rule in self.rules.values():
            for tag in rule.tags:
                tags.setdefault(tag, set()).add(rule.key)
        by_tag = {tag: frozenset(words) for tag, words in tags.items()}
        return DoctorScript(opening, self.rules, self.none, self.memory, file, by_tag)

    def _keyword(self, head: Word, listing: Listing) -> KeywordRule:
        substitute, rank, link = None, 0, None
        tags: frozenset[str] = frozenset()
        transformations: list[Transformation] = []
        rest = list(listing.items[1:])
        while rest:
            item = rest.pop(0)
            if isinstance(item, Listing):
                if item.items and isinstance(item.items[0], Listing):
                    transformations.append(self._transformation(item))
                elif item.items and isinstance(item.items[0], Word) and item.items[0].text == "=":
                    link = self._link(item)
                else:
                    raise expected("a transformation ((...) (...)) or a link (=KEY)", item, item.place)
            elif item.text == "=":
                substitute = _next_word(rest, "the word to put in its place", item.place).text
            elif item.text == "DLIST":
                names = rest.pop(0) if rest else None
                if not isinstance(names, Listing):
                    raise expected("a list of tags (/...)", names, item.place)
                tags = _tags(names)
            elif item.number is not None:
                rank = item.number
            else:
                raise expected("=, a rank, DLIST, a transformation or a link", item, item.place)
        return KeywordRule(head.text, substitute, rank, tags, tuple(transformations), link)

    def _transformation(self, listing: Listing) -> Transformation:
        parts = listing.items
        if len(parts) < 2:
            raise expected("a reassembly after the decomposition", None, listing.place)
        if not isinstance(parts[0], Listing):
            raise expected("a decomposition in parentheses", parts[0], listing.place)
        return Transformation(_decomposition(parts[0]), tuple(self._reassembly(item) for item in parts[1:]))

    def _reassembly(self, item: Word | Listing) -> Reassembly:
        if not isinstance(item, Listing) or not item.items:
            raise expected("a reassembly, a list of words and numbers", item, item.place)
        first = item.items[0]
        if isinstance(first, Word) and first.text == "=":
            return Link(self._link(item))
        if isinstance(first, Word) and first.text == "NEWKEY":
            return NewKey()
        if isinstance(first, Word) and first.text == "PRE":
            if len(item.items) != 3 or not all(isinstance(part, Listing) for part in item.items[1:]):
                raise expected("(PRE (words) (=KEY))", item, item.place)
            words, link = item.items[1:]
            assert isinstance(words, Listing)
            assert isinstance(link, Listing)
            return Pre(_said(words.items, words.place), self._link(link))
        return Say(_said(item.items, item.place))

    def _link(self, listing: Listing) -> str:
        sign = _word(listing, 0, "=")
        if sign.text != "=" or len(listing.items) != 2:
            raise expected("a link (=KEY)", listing, listing.place)
        key = _word(listing, 1, "a keyword")
        self.links.append((key.text, key.place))
        return key.text

    def _memory(self, listing: Listing) -> MemoryRule:
        key = self.remembered = _word(listing, 1, "the keyword that is remembered")
        pairs = []
        for item in listing.items[2:]:
            signs = (
                [at for at, part in enumerate(item.items) if isinstance(part, Word) and part.text == "="]
                if (isinstance(item, Listing))
                else []
            )
            if not isinstance(item, Listing) or len(signs) != 1:
                raise expected("a pair (decomposition = reassembly)", item, item.place)
            pattern = Listing(item.items[: signs[0]], item.place)
            said = Say(_said(item.items[signs[0] + 1 :], item.place))
            pairs.append(Transformation(_decomposition(pattern), (said,)))
        if len(pairs) != MEMORY_PAIRS:
            raise MalformedRecord(f"expected 4 pairs of MEMORY, found {len(pairs)}", place=str(listing.place))
        return MemoryRule(key.text, tuple(pairs))


def _decomposition(listing: Listing) -> tuple[Pattern, ...]:
    if not listing.items:
        raise expected("a decomposition, words and numbers", listing, listing.place)
    return tuple(_pattern(item) for item in listing.items)


def _pattern(item: Word | Listing) -> Pattern:
    if isinstance(item, Word):
        if item.text == "=":
            raise expected("a word, a number, (*...) or (/...)", item, item.place)
        return item.text if item.number is None else item.number
    words = [part.text for part in item.items if isinstance(part, Word)]
    if len(words) != len(item.items) or not words or words[0][0] not in "*/":
        raise expected("(*WORD ...) or (/TAG ...)", item, item.place)
    names = frozenset(name for name in (words[0][1:], *words[1:]) if name)
    if not names:
        raise expected("at least one name after * or /", item, item.place)
    return AnyOf(names) if words[0][0] == "*" else Tagged(names)


def _said(items: tuple[Word | Listing, ...], place: Place) -> tuple[str | int, ...]:
    if not items:
        raise expected("words of a reply", None, place)
    said: list[str | int] = []
    for item in items:
        if not isinstance(item, Word):
            raise expected("a word or the number of a part", item, item.place)
        said.append(item.text if item.number is None else item.number)
    return tuple(said)


def _tags(listing: Listing) -> frozenset[str]:
    pattern = _pattern(listing)
    if not isinstance(pattern, Tagged):
        raise expected("a list of tags (/...)", listing, listing.place)
    return pattern.tags


def _word(listing: Listing, at: int, what: str) -> Word:
    item = listing.items[at] if at < len(listing.items) else None
    if not isinstance(item, Word):
        raise expected(what, item, listing.place)
    return item


def _next_word(rest: list[Word | Listing], what: str, place: Place) -> Word:
    item = rest.pop(0) if rest else None
    if not isinstance(item, Word):
        raise expected(what, item, place)
    return item
