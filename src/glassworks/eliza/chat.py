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
from glassworks.eliza.doctor_interpreter import DoctorInterpreter, Reply, split_words
from glassworks.eliza.exactness import answer
from glassworks.eliza.explanation import Decision, decision, heads_seen, input_ends, read
from glassworks.eliza.interpreter import Interpreter, Turn
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
        return f"{len(self.turns)} turn{'' if len(self.turns) == 1 else 's'}"


class Engine(Protocol):
    """Answers a text, and says what led to the answer."""

    opening: str

    def reply(self, text: str) -> str:
        """The reply. Raises OptionError for a text that the script cannot answer."""
        ...

    def explained(self) -> list[str]:
        """What led to the last reply, in lines."""
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
            reply = speaker.reply(line)
        except OptionError as error:
            if say is not None:
                raise
            print(f"  ({error})")
            continue
        if say is not None:
            print(f"> {line}")
        print(reply)
        if show:
            print("\n".join(f"    {line}" for line in speaker.explained()))
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
    said: Reply | None = None

    def reply(self, text: str) -> str:
        self.said = self.eliza.respond(text)
        return self.said.text

    def explained(self) -> list[str]:
        if self.said is None:
            return []
        waiting = "; ".join(self.said.memory) or "nothing"
        return [*self.said.steps, f"LIMIT {self.said.limit}, remembered: {waiting}"]


@dataclass
class _Synthetic:
    eliza: Interpreter
    opening: str = HINT
    turn: Turn | None = None

    def reply(self, text: str) -> str:
        self.turn = self.eliza.respond(sentence_of(text))
        return " ".join(self.turn.reply[1:-1])

    def explained(self) -> list[str]:
        turn = self.turn
        if turn is None:
            return []
        group = turn.template if turn.dequeued is None else -1
        chosen = Decision(turn.template, group, turn.rule, turn.dequeued, turn.queue)
        return synthetic_lines(self.eliza.script, chosen)


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
    said: list[str] = field(default_factory=list)

    def reply(self, text: str) -> str:
        if isinstance(self.script, DoctorScript):
            sentence = [USER, *self.slots.encode(clause_of(self.script, split_words(text))), END]
        else:
            sentence = sentence_of(text)
        pending, known = self.history[-1:] or [START], self.cache.get_seq_length()
        try:
            said = answer(self.compiled, self.cache, [*pending, *sentence], self.compiled.program.max_len)
        except OptionError:
            if surplus := self.cache.get_seq_length() - known:  # what it read of an input that it cannot answer
                self.cache.crop(-surplus)
            raise
        self.history, self.said = [*(self.history or [START]), *sentence, *said], said
        return " ".join(self.slots.decode(said[said.index(ELIZA) + 1 : -1]))

    def explained(self) -> list[str]:
        """The template, rule and queue that the model's own flags name, and where its heads looked."""
        if not self.said:
            return []
        rewritten = self.said[: self.said.index(ELIZA)]
        written = [f"writes first: {' '.join(self.slots.decode(rewritten))}"] if rewritten else []
        seen, at = read(self.compiled, self.history), input_ends(self.history, 1)[-1]
        chosen = decision(self.compiled, seen, at)
        if isinstance(self.script, DoctorScript):
            rules = self.compiled.machine.rules[chosen.group]
            guard = self.compiled.machine.patterns[chosen.template].guard
            keyword = f"keyword {guard}, " if guard else ""
            lines = [f"{keyword}template {chosen.template + 1}, rule {chosen.rule + 1} of {len(rules)}"]
        else:
            lines = synthetic_lines(self.script, chosen)
        return [*written, *lines, *heads_seen(self.compiled, seen, at, chosen, self.slots.decode)]
