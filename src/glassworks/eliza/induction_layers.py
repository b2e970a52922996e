"""Copying by content: the layers of an induction head that sees the last n written words of a group.

Friedman et al. 2025 (arXiv 2407.10949), section 3.1, option 1; `induction` is the same mechanism symbolically, and the
two agree word for word, also where the mechanism errs. The key of a candidate stands where the next run of words would
end if it began behind the candidate: only there is it known, causally, that the candidate belongs to the group. One
head for each length of a match and of that run finds the earliest candidate that follows the same words; neurons
verify the words found, and the longest verified match is copied. Turns are told apart by the octal digits of their
start. Synthetic scripts only. Input: Machine and Options. Output: parts of layers. Knows no torch module.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

from glassworks.eliza.layers import Construction, Options
from glassworks.eliza.machine import Chunk, Machine, Span
from glassworks.eliza.program import (
    HARD,
    Copy,
    HeadProgram,
    LayerProgram,
    Neuron,
    Reading,
    Term,
    add,
    step,
    times,
)
from glassworks.errors import OptionError

MOST_CONTEXT = 5


class CopiedPart(NamedTuple):
    """A copied group of a rule. prefix: the template's chunks through the run behind the group."""

    group: int
    rule: int
    part: int
    size: int
    span: Span
    prefix: tuple[Chunk, ...]


class Induction(Construction):
    """Marks of groups in inputs, the question in the reply, the search, and its verification."""

    def __init__(self, machine: Machine, options: Options) -> None:
        super().__init__(machine, options)
        if not 1 <= options.context <= MOST_CONTEXT:
            raise OptionError(f"expected 1 to {MOST_CONTEXT} words, received {options.context}", place="context")
        self.context = options.context
        self.big = 8.0 * options.max_len

    @cached_property
    def copied(self) -> list[CopiedPart]:
        """Every copied group of every rule. Raises OptionError for spans that are no wildcards."""
        found = []
        patterns = {pattern.group: pattern for pattern in self.machine.patterns}
        for g, i, rule in self.numbered():
            chunks = patterns[self.machine.memory if g == -1 else g].chunks if rule else ()  # type: ignore[index]
            for number, part in enumerate(rule):
                if not isinstance(part, Span):
                    continue
                wildcard = (part.high - 1, 0, -len(chunks[part.high]))
                if (part.low, part.low_offset, part.high_offset) != wildcard or self.has_words:
                    raise OptionError(
                        "copying by induction compiles for synthetic scripts only",
                        place="copy",
                        remedy="Compile keyword scripts with --mechanisms.copy position.",
                    )
                found.append(CopiedPart(g, i, number, len(rule), part, chunks[: part.high + 1]))
        return found

    @cached_property
    def marks(self) -> dict[tuple[Chunk, ...], str]:
        """Prefixes whose last wildcard is copied somewhere -> their names."""
        prefixes = dict.fromkeys(part.prefix for part in self.copied)
        return {prefix: f"{number}" for number, prefix in enumerate(prefixes)}

    @cached_property
    def runs_behind(self) -> list[int]:
        """Lengths of the runs of words behind copied groups."""
        return sorted({len(prefix[-1]) for prefix in self.marks})

    def _before(self, back: int, token: str) -> str:
        return f"before{back}:{token}" if back else self.word(token)

    def mark_heads(self) -> list[HeadProgram]:
        """Which runs were matched in the turn, and runs and words some places back."""
        counts: dict[str, Reading] = {}
        for prefix in self.marks:
            for flag in (self.matched[prefix[:-1]], self.matched[prefix]):
                counts[f"past:{flag}"] = {flag: 1.0}
        heads = [HeadProgram("groups of the turn", *self.scores.count(counts, same_turn=True))] if counts else []
        words = set(range(1, self.context))
        words |= {run + d for run in self.runs_behind for d in range(1, self.context + 1)}
        for back in range(1, max(words, default=0) + 1):
            near = [prefix for prefix in self.marks if back <= len(prefix[-1]) + self.context]
            flags = dict.fromkeys(self.matched[prefix[:-1]] for prefix in near)
            copies = [Copy({flag: 1.0}, f"past{back}:{flag}") for flag in flags]
            if back in words:
                copies += [Copy({self.word(token): 1.0}, self._before(back, token)) for token in self.letters]
            heads.append(HeadProgram(f"groups {back} back", self.back(back), tuple(copies)))
        return heads

    def mark_neurons(self) -> list[Neuron]:
        """begun:m.w: the candidate here has w words of group m before it; over:m: the group has ended before it."""
        neurons: list[Neuron] = []
        for prefix, name in self.marks.items():
            low, high = self.matched[prefix[:-1]], self.matched[prefix]
            for w in range(self.context + 1):
                recent = {f"past{back}:{low}": -1.0 for back in range(1, len(prefix[-1]) + w + 1)}
                neurons += step({f"past:{low}": 1.0, low: -1.0, **recent}, 0.0, {f"begun:{name}.{w}": 1.0})
            neurons += step({f"past:{high}": 1.0, high: -1.0}, 0.0, {f"over:{name}": 1.0})
        return neurons

    def turn_digits(self) -> list[str]:
        """Dimensions of the digits of a turn's start."""
        return [f"turn {digit}" for digit in self.position_digits]

    def remembered_turn(self) -> tuple[list[Copy], list[Neuron]]:
        """The digits of the turn that is answered: of the remembered one, or of the own one."""
        copies = [Copy({name: 1.0}, f"remembered {name}") for name in self.turn_digits()]
        neurons = []
        for name in self.turn_digits():
            target = {f"source {name}": 1.0}
            neurons.append(Neuron({name: 1.0, "recall": -1.0}, 0.0, target))
            neurons.append(Neuron({f"remembered {name}": 1.0, "recall": 1.0}, -1.0, target))
        return copies, neurons

    def source_turn(self, digit: str) -> str:
        """The dimension of a digit of the start of the answered turn, at the end of an input."""
        return digit if self.machine.memory is None else f"source {digit}"

    def written_neurons(self, since: Reading, fixed: float, part: CopiedPart) -> list[Neuron]:
        """Flags that at least w words of a group are written. since: words since E less those of earlier groups."""
        neurons: list[Neuron] = []
        gate = {f"now:rule:{part.group}.{part.rule}": 1.0}
        for w in range(1, self.context + 1):
            neurons += step(since, 1.0 - fixed - w, {self._written(part, w): 1.0}, gate, self.big / 2)
        return neurons

    def _written(self, part: CopiedPart, w: int) -> str:
        return f"written:{part.group}.{part.rule}.{part.part}.{w}"

    def ask_neurons(self) -> list[Neuron]:
        """ask:m.w while group m is being written and min(n, words written) is w; the target, its first word so far."""
        neurons = []
        for part in self.copied:
            active = self.active(part.group, part.rule, part.part, part.size)
            for w in range(self.context + 1):
                reading = dict(active)
                reading |= {self._written(part, w): 1.0} if w else {}
                reading |= {self._written(part, w + 1): -1.0} if w < self.context else {}
                neurons.append(Neuron(reading, -float(bool(w)), {f"ask:{self.marks[part.prefix]}.{w}": 1.0}))
            source = add({f"now:{self.end(part.span.low)}": 1.0}, times(active, self.big))
            neurons.append(Neuron(source, 1.0 - self.big, {"target": 1.0}))
        return neurons

    def search_layer(self) -> LayerProgram:
        """For each length of a match: the earliest candidate of the group that most of the words precede."""
        layer = LayerProgram()
        for run in self.runs_behind:
            for length in range(1, self.context + 1):
                found = [Copy({"p": 1.0}, f"found{run}:{length}")]
                for d in range(1, length + 1):
                    for token in self.letters:
                        got = f"found{run}:{length} before{d}:{token}"
                        found.append(Copy({self._before(run + d, token): 1.0}, got))
                        both = {self._before(d - 1, token): 1.0, got: 1.0}
                        layer.neurons.append(Neuron(both, -1.0, {f"agree{run}:{length}": 1.0}))
                name = f"match {length} before a run of {run}"
                layer.heads.append(HeadProgram(name, self._search_terms(run, length), tuple(found)))
        return layer

    def _search_terms(self, run: int, length: int) -> tuple[Term, ...]:
        """Turn and group above words, words above places: sums of whole multiples of HARD.place, exact in float32."""
        per_word = HARD.place * 2 ** math.ceil(math.log2(2 * self.options.max_len))
        above = per_word * 2 ** math.ceil(math.log2(length + 1))
        terms = [Term({f"now:{self.source_turn(digit)}": above}, {digit: 1.0}) for digit in self.turn_digits()]
        for prefix, name in self.marks.items():
            for w in range(self.context + 1) if len(prefix[-1]) == run else ():
                terms.append(Term({f"ask:{name}.{w}": above}, {f"begun:{name}.{w}": 1.0, f"over:{name}": -1.0}))
        for d in range(1, length + 1):
            for token in self.letters:
                terms.append(Term({self._before(d - 1, token): per_word}, {self._before(run + d, token): 1.0}))
        return (*terms, Term({"one": -HARD.place}, {"p": 1.0}))

    def choose_neurons(self) -> list[Neuron]:
        """target: the candidate of the longest match whose words agree, else the group's first word.

        The earliest place of a longer match is never before that of a shorter one, so that each verified length
        adds its distance from the one before.
        """
        neurons = []
        for run in self.runs_behind:
            names = [name for prefix, name in self.marks.items() if len(prefix[-1]) == run]
            for length in range(1, self.context + 1):
                enough = {f"ask:{name}.{w}": self.big for name in names for w in range(length, self.context + 1)}
                before = {f"found{run}:{length - 1}": -1.0} if length > 1 else {"target": -1.0}
                reading = {f"found{run}:{length}": 1.0, f"agree{run}:{length}": self.big, **before, **enough}
                bias = -self.big * (length + 1) - (run if length == 1 else 0.0)
                neurons.append(Neuron(reading, bias, {"target": 1.0}))
        return neurons
