"""Verb `eliza chat`: talk to a script, as it was or as the Transformer that it compiles to, and see how it answers.

Symbolic chat runs either dialect; compiled chat runs what compiles. With `show`, each reply is followed by what led
to it: template, rule and memory, in compiled mode as the model's own flags have them, and where its heads look.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from transformers import DynamicCache

from glassworks.eliza.compiling import Compiled, compile_script
from glassworks.eliza.doctor import DoctorScript
from glassworks.eliza.doctor_interpreter import DoctorInterpreter, split_words
from glassworks.eliza.exactness import answer
from glassworks.eliza.explanation import Decision, decision, heads_seen, input_ends
from glassworks.eliza.interpreter import Interpreter
from glassworks.eliza.keyword_scripts import Slots, clause_of, machine_of_keywords
from glassworks.eliza.layers import Options
from glassworks.eliza.opening import open_script
from glassworks.eliza.script import ELIZA, END, START, USER, Script, shown
from glassworks.errors import OptionError

GOODBYES = {"bye", "goodbye", "quit", "exit"}


@dataclass(frozen=True)
class Conversation:
    """What was said: lines of (input, reply)."""

    turns: tuple[tuple[str, str], ...]

    def as_sample(self) -> dict[str, str]:
        """The conversation as a report shows it."""
        inputs, replies = zip(*self.turns, strict=True) if self.turns else ((), ())
        return {"question": " / ".join(inputs), "answer": " / ".join(replies)}

    def summary(self) -> str:
        """How long the conversation was."""
        return f"{len(self.turns)} turns"


class Engine(Protocol):
    """Answers a text, and says what led to the answer."""

    opening: str

    def reply(self, text: str) -> tuple[str, list[str]]:
        """The reply and the lines of its explanation."""
        ...


def eliza_chat(
    script: str = "packaged:counsellor",
    engine: Literal["symbolic", "compiled"] = "symbolic",
    show: bool = False,
    say: list[str] | None = None,
    mechanisms: Options = Options(max_len=1024),
) -> Conversation:
    """Talk to ELIZA: type a line, read the reply; an empty line or `bye` ends the conversation.

    Args:
        script: File in either dialect, or packaged:counsellor, packaged:listener, packaged:small.
        engine: The script itself, or the Transformer that it compiles to.
        show: After each reply what led to it: template, rule, memory; compiled: also where the heads look.
        say: Lines to say instead of typing them.
        mechanisms: Options of compilation, for the compiled engine.
    """
    opened = open_script(script)
    speaker = open_engine(opened, engine, mechanisms)
    if speaker.opening:
        print(speaker.opening)
    turns = []
    for line in say if say is not None else _typed():
        try:
            reply, lines = speaker.reply(line)
        except OptionError as error:
            if say is not None:
                raise
            print(f"  ({error})")
            continue
        if say is not None:
            print(f"> {line}")
        print(reply)
        if show:
            print("\n".join(f"    {line}" for line in lines))
        turns.append((line, reply))
    return Conversation(tuple(turns))


def _typed() -> Iterator[str]:
    """Lines from the terminal, until an empty one, a goodbye or the end."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            print(end="\n" if prompt else "")
            return
        if not line or line.lower().strip(".!") in GOODBYES:
            return
        yield line


def open_engine(script: Script | DoctorScript, engine: str, options: Options) -> Engine:
    """The engine for a script. Raises OptionError where it does not compile."""
    if engine == "symbolic":
        if isinstance(script, DoctorScript):
            return _Doctor(DoctorInterpreter(script), script.opening)
        return _Synthetic(Interpreter(script))
    machine = machine_of_keywords(script) if isinstance(script, DoctorScript) else script
    compiled = compile_script(machine, options)
    return _Compiled(compiled, script, Slots(compiled.machine), opening=getattr(script, "opening", HINT))


HINT = "Type letters, such as: d a e b"


@dataclass
class _Doctor:
    eliza: DoctorInterpreter
    opening: str

    def reply(self, text: str) -> tuple[str, list[str]]:
        said = self.eliza.respond(text)
        waiting = "; ".join(said.memory) or "nothing"
        return said.text, [*said.steps, f"LIMIT {said.limit}, remembered: {waiting}"]


@dataclass
class _Synthetic:
    eliza: Interpreter
    opening: str = HINT

    def reply(self, text: str) -> tuple[str, list[str]]:
        turn = self.eliza.respond(sentence_of(text))
        group = turn.template if turn.dequeued is None else -1
        chosen = Decision(turn.template, group, turn.rule, turn.dequeued, turn.queue)
        return " ".join(turn.reply[1:-1]), synthetic_lines(self.eliza.script, chosen)


def synthetic_lines(script: Script, chosen: Decision) -> list[str]:
    """Template, rule and queue of a reply of a synthetic script."""
    rules = script.dequeue if chosen.remembered is not None else script.rules[chosen.template]
    source = "" if chosen.remembered is None else f", for remembered input {chosen.remembered + 1}"
    return [
        f"template {chosen.template + 1}: {shown(script.templates[chosen.template])}",
        f"rule {chosen.rule + 1} of {len(rules)}: {shown(rules[chosen.rule])}{source}",
        *([] if script.memory is None else [f"memory queue: {chosen.waiting}"]),
    ]


def sentence_of(text: str) -> list[str]:
    """A typed line as `U ... .`; with or without the U and the full stop. Raises OptionError for other than letters."""
    words = [word for word in text.lower().replace(".", " ").split() if word != "u" or len(text.split()) == 1]
    letters = [letter for word in words for letter in word]
    if any(not ("a" <= letter <= "z") for letter in letters):
        raise OptionError("this script speaks in letters", place="input", remedy=HINT + ".")
    return [USER, *letters, END]


@dataclass
class _Compiled:
    compiled: Compiled
    script: Script | DoctorScript
    slots: Slots
    opening: str
    history: list[str] = field(default_factory=list)
    cache: Any = field(default_factory=DynamicCache)

    def reply(self, text: str) -> tuple[str, list[str]]:
        if isinstance(self.script, DoctorScript):
            sentence = [USER, *self.slots.encode(clause_of(self.script, split_words(text))), END]
        else:
            sentence = sentence_of(text)
        pending = self.history[-1:] or [START]
        said = answer(self.compiled, self.cache, [*pending, *sentence], self.compiled.program.max_len)
        start = len(self.history or [START])
        self.history = [*(self.history or [START]), *sentence, *said]
        words = self.slots.decode(said[said.index(ELIZA) + 1 : -1]) if ELIZA in said else said
        first = " ".join(self.slots.decode(said[: said.index(ELIZA)])) if ELIZA in said else ""
        written = [f"writes first: {first}"] if first else []
        return " ".join(words), [*written, *self._explained(start)]

    def _explained(self, start: int) -> list[str]:
        """The template, rule and queue that the model's own flags name, and where its heads looked."""
        at = input_ends(self.history, start)[-1]
        chosen = decision(self.compiled, self.history, at)
        if isinstance(self.script, DoctorScript):
            rules = self.compiled.machine.rules[chosen.group]
            guard = self.compiled.machine.patterns[chosen.template].guard
            keyword = f"keyword {guard}, " if guard else ""
            lines = [f"{keyword}template {chosen.template + 1}, rule {chosen.rule + 1} of {len(rules)}"]
        else:
            lines = synthetic_lines(self.script, chosen)
        return [*lines, *heads_seen(self.compiled, self.history, at, chosen, self.slots.decode)]
