"""The synthetic ELIZA, symbolically: what a script answers, with which rule, and what it remembers.

Friedman et al. 2025 (arXiv 2407.10949), section 2. The oracle that compiled and trained models are compared with.
Inputs: a Script and sentences `U ... .`. Output: Turns. Pure Python; copying is a function, so that a mechanism of
copying can be put in its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from glassworks.eliza.script import ELIZA, END, START, USER, Script, Token, captures, match
from glassworks.errors import OptionError

Copy = Callable[[Sequence[str]], list[str]]
"""How a copied group comes out: the group [tokens] -> its copy. Exact copying returns it as it is."""


@dataclass(frozen=True)
class Turn:
    """One input and its reply. template: its number; rule: the number among the template's, or among dequeue rules.

    dequeued: the number of the remembered input (from 0) that was answered instead, None where none was;
    queue: how many memories wait afterwards; copied: tokens copied in each group.
    """

    sentence: tuple[str, ...]
    reply: tuple[str, ...]
    template: int
    rule: int
    dequeued: int | None = None
    queue: int = 0
    copied: tuple[int, ...] = ()


@dataclass
class Interpreter:
    """A conversation with a script; `respond` goes on with it."""

    script: Script
    copy: Copy = list
    _used: dict[int, int] = field(default_factory=dict)
    _queue: deque[tuple[int, tuple[str, ...]]] = field(default_factory=deque)
    _enqueued: int = 0
    _dequeued: int = 0

    def respond(self, sentence: Sequence[str]) -> Turn:
        """The reply to one sentence `U ... .`. Raises OptionError for another form."""
        sentence = tuple(sentence)
        if len(sentence) < 2 or sentence[0] != USER or sentence[-1] != END or {USER, END} & set(sentence[1:-1]):
            raise OptionError(f"expected 'U ... .', received '{' '.join(sentence)}'", place="sentence")
        script, null = self.script, len(self.script.templates) - 1
        at = self.best(sentence)
        if at == null and self._queue:
            if script.null_cycle == "on_input":
                self._used[null] = self._used.get(null, 0) + 1
            number, stored = self._queue.popleft()
            rule = self._dequeued % len(script.dequeue)
            self._dequeued += 1
            assert script.memory is not None
            reply, copied = self.fill(script.dequeue[rule], script.memory, stored)
            return Turn(sentence, reply, at, rule, number, len(self._queue), copied)
        rule = self._used.get(at, 0) % len(script.rules[at])
        self._used[at] = self._used.get(at, 0) + 1
        reply, copied = self.fill(script.rules[at][rule], at, sentence)
        if at == script.memory:
            self._queue.append((self._enqueued, sentence))
            self._enqueued += 1
        return Turn(sentence, reply, at, rule, None, len(self._queue), copied)

    def best(self, sentence: Sequence[str]) -> int:
        """The number of the first template that matches."""
        return next(at for at, template in enumerate(self.script.templates) if match(template, sentence) is not None)

    def fill(
        self, rule: Sequence[Token], template: int, sentence: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """A rule with the groups that its template captured in a sentence, and how long each copied group is."""
        form = self.script.templates[template]
        ends = match(form, sentence)
        assert ends is not None
        spans = captures(form, sentence, ends)
        reply: list[str] = []
        copied: list[int] = []
        for token in rule:
            if isinstance(token, int):
                start, stop = spans[token]
                reply += self.copy(sentence[start:stop])
                copied.append(stop - start)
            else:
                reply.append(token)
        return tuple(reply), tuple(copied)


def converse(script: Script, sentences: Iterable[Sequence[str]], copy: Copy = list) -> list[Turn]:
    """The turns of a whole conversation."""
    interpreter = Interpreter(script, copy)
    return [interpreter.respond(sentence) for sentence in sentences]


def transcript(turns: Iterable[Turn]) -> list[str]:
    """A conversation as one sequence of tokens: `$ U ... . E ... . U ...`."""
    return [START, *(token for turn in turns for token in (*turn.sentence, *turn.reply))]


def response_mask(tokens: Sequence[str]) -> list[bool]:
    """Which tokens of a transcript [tokens] a reply has to get right: those after E, up to and with the `.`."""
    mask: list[bool] = []
    replying = False
    for token in tokens:
        mask.append(replying)
        replying = (replying or token == ELIZA) and token not in (END, USER)
    return mask


def split_turns(tokens: Sequence[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The (sentence, reply) pairs of a transcript. Raises OptionError where it is none."""
    if not tokens or tokens[0] != START:
        raise OptionError("a conversation begins with $", place="conversation")
    ends = [at + 1 for at, token in enumerate(tokens) if token == END]
    parts = [tuple(tokens[a:b]) for a, b in zip([1, *ends], ends, strict=False)]
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    if len(parts) % 2 or ends[-1:] != [len(tokens)] or any(s[0] != USER or r[0] != ELIZA for s, r in pairs):
        raise OptionError("expected sentences `U ... .` and replies `E ... .` in turn", place="conversation")
    return pairs
