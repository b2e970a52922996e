"""The first half of the construction: from words to the template that answers an input.

Friedman et al. 2025 (arXiv 2407.10949), section 3, with these differences: counts are read against the first token
instead of through a table of 1 / c, the queue is a minimum over a walk instead of an automaton of 2S heads, and the
end of a chunk is found by its first occurrence of the turn. Layers, K = most wildcards: (replaced words,) runs of
words, K matching layers, (leading keyword,) ranking; the rest is in `reply_layers`. Knows no torch module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from glassworks.eliza.machine import Chunk, Machine, Pattern, Span, WordClass
from glassworks.eliza.program import (
    HARD,
    SOFT,
    Copy,
    HeadProgram,
    LayerProgram,
    Neuron,
    Reading,
    Term,
    add,
    digits_of,
    step,
)
from glassworks.eliza.script import ELIZA, END, USER
from glassworks.errors import OptionError


@dataclass(frozen=True)
class Options:
    """Which mechanism does what.

    Args:
        cycling: Next rule of a template by counting its inputs, or by finding its last reply (trace).
        memory: Queue by counting inputs, or by the remembered replies found in the transcript (trace).
        copy: A group by its place, or by an induction head that looks for what it wrote last (synthetic scripts).
        context: Written words that copying by induction looks for, 1 to 5.
        max_len: Most tokens of a conversation.
        max_count: Most inputs of a template, remembered inputs and null inputs; more is an error.
        attention: Scores so far apart that attention is 0 or 1 (hard), or just far enough, so that gradients pass
            (soft; for synthetic scripts, copy by position, to 128 tokens and a count of 32).
    """

    cycling: Literal["count", "trace"] = "count"
    memory: Literal["counter", "trace"] = "counter"
    copy: Literal["position", "induction"] = "position"
    context: int = 2
    max_len: int = 512
    max_count: int = 64
    attention: Literal["hard", "soft"] = "hard"


def prefix_length(machine: Machine) -> int:
    """How many words behind E tell all rules apart. Raises OptionError where none do."""
    rules = [rule for rules in (*machine.rules, machine.dequeue) for rule in rules]
    for length in range(1, min(len(rule) for rule in rules)):
        prefixes = [rule[1 : length + 1] for rule in rules]
        if any(isinstance(part, Span) for prefix in prefixes for part in prefix):
            break
        if len(set(prefixes)) == len(prefixes):
            return length
    raise OptionError(
        "two rules begin alike, so that a reply does not tell its rule",
        place="trace",
        remedy="Compile with cycling count and memory counter, or begin each rule with words of its own.",
    )


class Construction:
    """The first layers: from words to the template that answers; and the names that later layers share."""

    def __init__(self, machine: Machine, options: Options) -> None:
        self.machine, self.options = machine, options
        self.scores = SOFT if options.attention == "soft" else HARD
        self.traces = options.cycling == "trace" or (machine.memory is not None and options.memory == "trace")
        self.prefix = prefix_length(machine) if self.traces else 0
        self.backs = max(machine.longest_chunk - 1, self.prefix)
        self.has_words = bool(machine.replaced or machine.ranks)

    def _latest(self, flags: Sequence[tuple[Reading, Reading]]) -> tuple[Term, ...]:
        return self.scores.latest(flags, self.options.max_len)

    def back(self, places: int) -> tuple[Term, ...]:
        """Attend to the position some places back."""
        return self.scores.at({"p": 1.0, "one": -float(places)})

    # Names of dimensions

    def word(self, token: str) -> str:
        """The dimension of a word as it is matched: replaced, where the script replaces words."""
        roles = {*self.machine.starts, ELIZA, END}
        return f"word:{token}" if self.has_words and token not in roles else f"tok:{token}"

    def words(self, choice: WordClass) -> dict[str, float]:
        """A reading that is 1 where the word is one of a class."""
        return {self.word(token): 1.0 for token in sorted(choice)}

    def group(self, number: int | None) -> dict[str, float]:
        """A reading that is 1 where the best template belongs to a group."""
        patterns = enumerate(self.machine.patterns)
        return {f"best:{t}": 1.0 for t, pattern in patterns if pattern.group == number}

    @cached_property
    def runs(self) -> dict[Chunk, str]:
        """Chunks -> the flag that one ends here."""
        chunks = dict.fromkeys(chunk for pattern in self.machine.patterns for chunk in pattern.chunks)
        return {chunk: f"run:{number}" for number, chunk in enumerate(chunks)}

    @cached_property
    def matched(self) -> dict[tuple[Chunk, ...], str]:
        """Prefixes of templates -> the flag that one has been matched up to here; common ones are shared."""
        flags: dict[tuple[Chunk, ...], str] = {}
        for pattern in self.machine.patterns:
            for k in range(len(pattern.chunks)):
                prefix = pattern.chunks[: k + 1]
                flags.setdefault(prefix, self.runs[prefix[0]] if k == 0 else f"matched{k}:{len(flags)}")
        return flags

    @cached_property
    def letters(self) -> list[str]:
        """The words that a copied group can hold."""
        return [token for token in self.machine.tokens if token not in {*self.machine.starts, ELIZA, END, "$"}]

    @cached_property
    def position_digits(self) -> list[str]:
        """Dimensions of a position's octal digits, where induction tells turns apart by them."""
        return digits_of(self.options.max_len) if self.options.copy == "induction" else []

    # Words and runs of words

    def word_layers(self) -> list[LayerProgram]:
        """Turn starts, words as they are matched, words before, and runs of words."""
        machine, first, second = self.machine, LayerProgram(), LayerProgram()
        starts = {f"tok:{token}": 1.0 for token in machine.starts}
        rewritten = {f"tok:{token}": 1.0 for token in machine.starts if token != USER}
        one = {"one": 1.0}
        copies = [Copy({"p": 1.0}, "turn"), Copy({"p2": 1.0}, "turn2")]
        copies += [Copy({digit: 1.0}, f"turn {digit}") for digit in self.position_digits]
        copies += [Copy(rewritten, "rewritten")] if rewritten else []
        opening = [HeadProgram("turn start", self._latest([(one, starts)]), tuple(copies))]
        speaker = self._latest([(one, {**starts, f"tok:{ELIZA}": 1.0})])
        opening.append(HeadProgram("speaker", speaker, (Copy({f"tok:{ELIZA}": 1.0}, "replying"),)))
        if self.has_words:
            first.heads = opening
            first.neurons = self._replaced_words(bool(rewritten))
        second.heads = ([] if self.has_words else opening) + self._back_heads() + self._rank_heads()
        second.neurons = [*self._run_neurons(), *self._rank_neurons()]
        second.neurons.append(Neuron({f"tok:{END}": 1.0, "replying": -1.0}, 0.0, {"ends": 1.0}))
        second.neurons += self._said_neurons() if self.traces else []
        return [first, second] if self.has_words else [second]

    def _replaced_words(self, rewrites: bool) -> list[Neuron]:
        """Each word as it is matched; a rewritten input holds replaced words already."""
        neurons = []
        for token in self.machine.tokens:
            source, other = f"tok:{token}", self.machine.replaced.get(token)
            if self.word(token) == source:
                continue
            if other is None:
                neurons.append(Neuron({source: 1.0}, 0.0, {self.word(token): 1.0}))
            elif rewrites:
                neurons.append(Neuron({source: 1.0, "rewritten": -1.0}, 0.0, {self.word(other): 1.0}))
                neurons.append(Neuron({source: 1.0, "rewritten": 1.0}, -1.0, {self.word(token): 1.0}))
            else:
                neurons.append(Neuron({source: 1.0}, 0.0, {self.word(other): 1.0}))
        return neurons

    def _back_heads(self) -> list[HeadProgram]:
        heads = []
        for back in range(1, self.backs + 1):
            wanted: dict[str, None] = {}
            for chunk in self.runs:
                wanted |= dict.fromkeys(self.words(chunk[-1 - back]) if back < len(chunk) else ())
            for rule in self._all_rules() if self.traces else ():
                wanted |= dict.fromkeys([self.word(str(rule[self.prefix - back]))] if back <= self.prefix else ())
            copies = tuple(Copy({name: 1.0}, f"back{back}:{name}") for name in wanted)
            if copies:
                heads.append(HeadProgram(f"{back} back", self.back(back), copies))
        return heads

    def _all_rules(self) -> list[tuple[str | Span, ...]]:
        return [rule for rules in (*self.machine.rules, self.machine.dequeue) for rule in rules]

    def _and(self, classes: Chunk, target: str) -> Neuron:
        reading: dict[str, float] = {}
        for back, choice in enumerate(reversed(classes)):
            reading |= {(f"back{back}:{name}" if back else name): 1.0 for name in self.words(choice)}
        return Neuron(reading, 1.0 - len(classes), {target: 1.0})

    def _run_neurons(self) -> list[Neuron]:
        return [self._and(chunk, name) for chunk, name in self.runs.items()]

    def _said_neurons(self) -> list[Neuron]:
        """A flag at the last word of a rule's prefix, in a reply."""
        rules = [(f"said:{g}.{i}", rule) for g, i, rule in self.numbered()]
        return [
            self._and(tuple(frozenset({str(part)}) for part in rule[: self.prefix + 1]), name) for name, rule in rules
        ]

    def numbered(self) -> list[tuple[int, int, tuple[str | Span, ...]]]:
        """Every rule by group and number; dequeue rules have the group -1."""
        listed = [(g, i, rule) for g, rules in enumerate(self.machine.rules) for i, rule in enumerate(rules)]
        return listed + [(-1, i, rule) for i, rule in enumerate(self.machine.dequeue)]

    def end(self, k: int) -> str:
        """Where chunk k of the answered input ends: of the current one, or of the remembered one."""
        return f"end:{k}" if self.machine.memory is None else f"source:{k}"

    def active(self, group: int, number: int, part: int, size: int) -> dict[str, float]:
        """1 while a part of a rule is being written: begun, and the next one not."""
        begun = f"part:{group}.{number}.{part}" if part else f"now:rule:{group}.{number}"
        return {begun: 1.0} | ({f"part:{group}.{number}.{part + 1}": -1.0} if part + 1 < size else {})

    # The leading keyword: the first of those of the highest rank

    def _rank_heads(self) -> list[HeadProgram]:
        by_rank: dict[str, dict[str, float]] = {}
        for keyword, rank in self.machine.ranks.items():
            by_rank.setdefault(f"rank:{rank}", {})[f"tok:{keyword}"] = 1.0
        return [HeadProgram("keywords by rank", *self.scores.count(by_rank, same_turn=True))] if by_rank else []

    def _rank_neurons(self) -> list[Neuron]:
        neurons = []
        for keyword, rank in self.machine.ranks.items():
            token, target = {f"tok:{keyword}": 1.0}, f"first:{keyword}"
            neurons += [Neuron(token, 0.0, {target: 1.0}), *step({f"rank:{rank}": 1.0}, -1.0, {target: -1.0}, token, 2)]
        return neurons

    def _lead_neurons(self) -> list[Neuron]:
        neurons = []
        for keyword, rank in self.machine.ranks.items():
            higher = {f"rank:{other}": -1.0 for other in set(self.machine.ranks.values()) if other > rank}
            reading = {f"seen:{keyword}": 1.0, **higher}
            neurons += step(reading, 0.0, {f"leads:{keyword}": 1.0}, {"ends": 1.0}, self.options.max_len)
        return neurons

    # Matching: one layer a wildcard

    def match_layers(self) -> list[LayerProgram]:
        """One layer a wildcard."""
        return [self._match_layer(k) for k in range(1, self.machine.wildcards + 1)]

    def _match_layer(self, k: int) -> LayerProgram:
        layer = LayerProgram()
        prefixes = [prefix for prefix in self.matched if len(prefix) == k + 1]
        before = {self.matched[prefix[:-1]]: prefix[:-1] for prefix in prefixes}
        counts: dict[str, Reading] = {f"count{k}:{flag}": {flag: 1.0} for flag in before}
        layer.heads.append(HeadProgram(f"matched {k - 1} of the turn", *self.scores.count(counts, same_turn=True)))
        if k == 1 and self.machine.ranks:
            seen: dict[str, Reading] = {f"seen:{key}": {f"first:{key}": 1.0} for key in self.machine.ranks}
            layer.heads.append(HeadProgram("leading keywords", *self.scores.count(seen, same_turn=True)))
            layer.neurons += self._lead_neurons()
        for back in range(1, max(len(prefix[-1]) for prefix in prefixes)):
            flags = dict.fromkeys(self.matched[prefix[:-1]] for prefix in prefixes if len(prefix[-1]) > back)
            copies = tuple(Copy({flag: 1.0}, f"back{k}.{back}:{flag}") for flag in flags)
            layer.heads.append(HeadProgram(f"matched {back} back", self.back(back), copies))
        for prefix in prefixes:
            flag, size = self.matched[prefix[:-1]], len(prefix[-1])
            recent = {f"back{k}.{back}:{flag}": -1.0 for back in range(1, size)}
            reading = {f"count{k}:{flag}": 1.0, flag: -1.0, **recent}
            layer.neurons += step(reading, 0.0, {self.matched[prefix]: 1.0}, {self.runs[prefix[-1]]: 1.0}, size + 1)
        for flag, prefix in before.items():
            if len(prefix) > 1:  # the first chunk and the last occur once a turn, those between can come again
                again = step({f"count{k}:{flag}": 1.0}, -1.0, {f"once:{flag}": -1.0}, {flag: 1.0}, 2)
                layer.neurons += [Neuron({flag: 1.0}, 0.0, {f"once:{flag}": 1.0}), *again]
        return layer

    def rank_layers(self) -> list[LayerProgram]:
        """best:t, at the end of an input, for the first template that matches, its keyword leading."""
        layers, patterns = [], self.machine.patterns
        flags = [self.matched[pattern.chunks] for pattern in patterns]
        if self.machine.ranks:
            led = LayerProgram()
            for t, pattern in enumerate(patterns):
                guard = {f"leads:{pattern.guard}": 1.0} if pattern.guard else {}
                led.neurons.append(Neuron({flags[t]: 1.0, **guard}, -float(bool(guard)), {f"led:{t}": 1.0}))
            layers.append(led)
            flags = [f"led:{t}" for t in range(len(patterns))]
        ranking = LayerProgram()
        for t, pattern in enumerate(patterns):
            higher: dict[str, float] = {flags[u]: -1.0 for u in range(t) if _compete(patterns[u], pattern)}
            ranking.neurons.append(Neuron(add({flags[t]: 1.0, "ends": 1.0}, higher), -1.0, {f"best:{t}": 1.0}))
        return [*layers, ranking]


def _compete(earlier: Pattern, later: Pattern) -> bool:
    """Whether an input can match both templates with their keywords leading: then the earlier one answers."""
    guards = not earlier.guard or not later.guard or earlier.guard == later.guard
    return guards and bool(earlier.chunks[0][0] & later.chunks[0][0])
