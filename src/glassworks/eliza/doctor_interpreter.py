"""ELIZA as of 1966: a conversation by a script in Weizenbaum's format, with a trace of how each reply came about.

Weizenbaum 1966 (CACM 9(1)) and the MAD-SLIP program: clauses end at `,`, `.` and BUT; the keyword of highest rank
leads, the others wait on a stack; words are replaced as the scan passes; decompositions match with the fewest words
first; reassemblies take turns; LIMIT counts 1 to 4 and lets a memory out at 4. Input: text. Output: Reply. No torch.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from glassworks.eliza.doctor import (
    AnyOf,
    DoctorScript,
    KeywordRule,
    Link,
    NewKey,
    Pattern,
    Pre,
    Say,
    Tagged,
)
from glassworks.eliza.hollerith import hash_word
from glassworks.errors import OptionError

DELIMITERS = frozenset({",", ".", "BUT"})
NO_MATCH = ("PLEASE CONTINUE", "HMMM", "GO ON , PLEASE", "I SEE")
"""What ELIZA says where no decomposition of a keyword fits, by LIMIT 1 to 4."""
MAX_STEPS = 100_000
_STOPS = re.compile(r"[?!;:]")
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": "'", "\u201d": "'", '"': "'"})


@dataclass(frozen=True)
class Reply:
    """One reply. steps: keywords, decompositions and reassemblies that led to it; memory: what waits to be said."""

    text: str
    steps: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    limit: int = 1


@dataclass
class DoctorInterpreter:
    """A conversation with a script; `respond` goes on with it."""

    script: DoctorScript
    limit: int = 1
    memory: deque[str] = field(default_factory=deque)
    _turns: dict[tuple[str, int], int] = field(default_factory=dict)

    def respond(self, text: str) -> Reply:
        """The reply to one input. Raises OptionError where links of the script go round without end."""
        self.limit = self.limit % 4 + 1
        words, stack = self.scan(split_words(text))
        steps: list[str] = [f"keywords {' '.join(stack)}" if stack else "no keyword"]
        if not stack and self.limit == 4 and self.memory:
            said = self.memory.popleft()
            return self._reply(said, [*steps, "oldest memory"])
        for _ in range(MAX_STEPS):
            if not stack:
                return self._reply(self._none(words, steps), steps)
            key = stack.popleft()
            rule = self.script.none if key == "NONE" else self.script.rules[key]
            self._remember(key, words, steps)
            found = self._matching(rule, words)
            if found is None and rule.link is None:
                return self._reply(NO_MATCH[self.limit - 1], [*steps, f"{key}: nothing fits"])
            if found is None:
                assert rule.link is not None
                steps.append(f"{key} (={rule.link})")
                stack.appendleft(rule.link)
                continue
            at, parts = found
            action = self._next_reassembly(rule, at)
            steps.append(f"{key} {shown(rule.transformations[at].decomposition)} -> {shown_action(action)}")
            if isinstance(action, Say):
                return self._reply(" ".join(reassemble(action.words, parts)), steps)
            if isinstance(action, Pre):
                words = reassemble(action.words, parts)
            if not isinstance(action, NewKey):
                stack.appendleft(action.key)
        raise OptionError(
            f"{MAX_STEPS} links without a reply",
            place=self.script.name,
            remedy="Look for keywords that link to each other in a circle.",
        )

    def scan(self, words: Sequence[str]) -> tuple[list[str], deque[str]]:
        """The clause that is answered, words replaced, and the stack of its keywords, the leading one first."""
        clause: list[str] = []
        stack: deque[str] = deque()
        highest = 0
        for word in words:
            if word in DELIMITERS:
                if stack:
                    break
                clause = []
                continue
            rule = self.script.rules.get(word)
            if rule is not None and rule.is_keyword:
                if stack and rule.rank > highest:
                    stack.appendleft(word)
                else:
                    stack.append(word)
                highest = max(highest, rule.rank)
            clause.append(rule.substitute if rule is not None and rule.substitute else word)
        return clause, stack

    def _reply(self, text: str, steps: list[str]) -> Reply:
        return Reply(text, tuple(steps), tuple(self.memory), self.limit)

    def _none(self, words: list[str], steps: list[str]) -> str:
        found = self._matching(self.script.none, words)
        action = self._next_reassembly(self.script.none, found[0]) if found else None
        if not isinstance(action, Say) or found is None:
            return NO_MATCH[self.limit - 1]
        steps.append(f"NONE -> {shown_action(action)}")
        return " ".join(reassemble(action.words, found[1]))

    def _remember(self, key: str, words: list[str], steps: list[str]) -> None:
        memory = self.script.memory
        if memory is None or key != memory.key or not words:
            return
        pair = memory.pairs[hash_word(words[-1])]
        parts = match(pair.decomposition, words, self.script.tags)
        action = pair.reassemblies[0]
        if parts is not None and isinstance(action, Say):
            self.memory.append(" ".join(reassemble(action.words, parts)))
            steps.append(f"remembered as {shown(pair.decomposition)}")

    def _matching(self, rule: KeywordRule, words: Sequence[str]) -> tuple[int, list[list[str]]] | None:
        for at, transformation in enumerate(rule.transformations):
            parts = match(transformation.decomposition, words, self.script.tags)
            if parts is not None:
                return at, parts
        return None

    def _next_reassembly(self, rule: KeywordRule, at: int) -> Say | Link | NewKey | Pre:
        choices = rule.transformations[at].reassemblies
        used = self._turns.get((rule.key, at), 0)
        self._turns[rule.key, at] = used + 1
        return choices[used % len(choices)]


def split_words(text: str) -> list[str]:
    """The words of an input: upper case, punctuation apart; `?`, `!`, `;` and `:` end a clause as `.` does."""
    plain = _STOPS.sub(".", text.translate(_QUOTES).upper())
    return re.findall(r"[,.]|[^\s,.]+", plain)


def match(pattern: Sequence[Pattern], words: Sequence[str], tags: dict[str, frozenset[str]]) -> list[list[str]] | None:
    """The words that each element of a decomposition takes, None where it does not fit; 0 takes the fewest it can."""
    dead: set[tuple[int, int]] = set()

    def ends(at: int, start: int) -> list[int] | None:
        """Ends of elements at.. when element `at` begins at word `start`."""
        if at == len(pattern):
            return [] if start == len(words) else None
        if (at, start) in dead:
            return None
        element = pattern[at]
        if element == 0:
            stops: Sequence[int] = range(start, len(words) + 1)
        elif isinstance(element, int):
            stops = [start + element] if start + element <= len(words) else []
        else:
            stops = [start + 1] if start < len(words) and fits(element, words[start], tags) else []
        for stop in stops:
            rest = ends(at + 1, stop)
            if rest is not None:
                return [stop, *rest]
        dead.add((at, start))
        return None

    found = ends(0, 0)
    return None if found is None else [list(words[a:b]) for a, b in zip([0, *found], found, strict=False)]


def fits(element: Pattern, word: str, tags: dict[str, frozenset[str]]) -> bool:
    """Whether one word is what an element of a decomposition asks for."""
    if isinstance(element, AnyOf):
        return word in element.words
    if isinstance(element, Tagged):
        return any(word in tags.get(tag, ()) for tag in element.tags)
    return word == element


def reassemble(words: Sequence[str | int], parts: Sequence[Sequence[str]]) -> list[str]:
    """A reply's words with the parts put in; a number that is no part becomes HMMM."""
    said: list[str] = []
    for word in words:
        if isinstance(word, int):
            said += parts[word - 1] if 1 <= word <= len(parts) else ["HMMM"]
        else:
            said.append(word)
    return said


def shown(pattern: Sequence[Pattern]) -> str:
    """A decomposition as a script writes it."""
    texts = [
        f"(*{' '.join(sorted(element.words))})"
        if isinstance(element, AnyOf)
        else f"(/{' '.join(sorted(element.tags))})"
        if isinstance(element, Tagged)
        else str(element)
        for element in pattern
    ]
    return f"({' '.join(texts)})"


def shown_action(action: Say | Link | NewKey | Pre) -> str:
    """A reassembly as a script writes it."""
    if isinstance(action, Say):
        return f"({' '.join(map(str, action.words))})"
    if isinstance(action, Pre):
        return f"(PRE ({' '.join(map(str, action.words))}) (={action.key}))"
    return f"(={action.key})" if isinstance(action, Link) else "(NEWKEY)"
