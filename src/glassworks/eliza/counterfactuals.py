"""Edited transcripts that tell mechanisms apart: which reply follows when an earlier one is changed?

Friedman et al. 2025 (arXiv 2407.10949), section 5. Cycling: the last reply of the template before is replaced by
another of its rules; a model that counts goes on as before (same), one that looks at its replies takes the rule after
the edited one (increment). Memory: the dequeue before the last is replaced by a null reply; a counter goes on (same),
a tracer gives the earlier memory again (decrement). Input: a script and its conversations. Output: Edits. Pure Python.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from glassworks.eliza.interpreter import Interpreter, Turn, transcript
from glassworks.eliza.script import Script

EditType = Literal["cycling", "memory_queue"]


@dataclass(frozen=True)
class Edit:
    """prompt: the edited transcript up to the last E; same: the reply as before the edit; other: the tracing reply."""

    prompt: tuple[str, ...]
    same: tuple[str, ...]
    other: tuple[str, ...]


def edits(script: Script, conversations: Iterable[Sequence[Turn]], kind: EditType, seed: int = 0) -> list[Edit]:
    """The edits that conversations allow, at most one each."""
    draw = random.Random(seed)
    make = cycling_edit if kind == "cycling" else memory_edit
    found = (make(script, list(turns), draw) for turns in conversations)
    return [edit for edit in found if edit is not None and edit.same != edit.other]


def _edited(turns: Sequence[Turn], at: int, reply: Sequence[str], last: Turn) -> tuple[str, ...]:
    """The transcript before `last`'s reply, with the reply of turn `at` replaced."""
    tokens = transcript(turns[:at])
    tokens += [*turns[at].sentence, *reply]
    tokens += transcript(turns[at + 1 :])[1:]
    return (*tokens[: len(tokens) - len(last.reply) + 1],)


def cycling_edit(script: Script, turns: list[Turn], draw: random.Random) -> Edit | None:
    """Replace the latest earlier reply to the last turn's template by another rule's, where that can be done."""
    null, interpreter = len(script.templates) - 1, Interpreter(script)
    while turns:
        last = turns[-1]
        rules = script.rules[last.template]
        before = [at for at, turn in enumerate(turns[:-1]) if turn.template == last.template]
        if before and len(rules) > 1 and last.template not in (null, script.memory):
            break
        turns = turns[:-1]
    else:
        return None
    at = before[-1]
    rule = (turns[at].rule + draw.randint(1, len(rules) - 1)) % len(rules)
    reply, _ = interpreter.fill(rules[rule], last.template, turns[at].sentence)
    other, _ = interpreter.fill(rules[(rule + 1) % len(rules)], last.template, last.sentence)
    return Edit(_edited(turns, at, reply, last), last.reply, other)


def memory_edit(script: Script, turns: list[Turn], draw: random.Random) -> Edit | None:
    """Replace the dequeue before the last one by the first null rule's reply, where there are two."""
    out = [at for at, turn in enumerate(turns) if turn.dequeued is not None]
    if len(out) < 2 or script.memory is None:
        return None
    before, turns = out[-2], turns[: out[-1] + 1]
    last, earlier = turns[-1], turns[out[-2]]
    assert earlier.dequeued is not None
    remembered = [turn for turn in turns if turn.template == script.memory]
    interpreter, null = Interpreter(script), len(script.templates) - 1
    reply, _ = interpreter.fill(script.rules[null][0], null, earlier.sentence)
    other, _ = interpreter.fill(script.dequeue[earlier.rule], script.memory, remembered[earlier.dequeued].sentence)
    return Edit(_edited(turns, before, reply, last), last.reply, other)
