"""The second half of the construction: counts and chunk ends, the queue, the rule, and the reply word by word.

Friedman et al. 2025 (arXiv 2407.10949), section 3.2 and 3.3. Layers: A counts and ends, (B queue,) C recall and rule,
D place in the reply, E aim, (search and choice by induction,) F copy. The queue is a walk (remembered minus null
inputs) reflected at its minimum: one head, no limit of its size. Input: Machine and Options. Output: Program. Knows
no torch module.
"""

from __future__ import annotations

from glassworks.eliza.induction_layers import Induction
from glassworks.eliza.layers import Construction, Options
from glassworks.eliza.machine import Machine, Part, Span
from glassworks.eliza.program import (
    Copy,
    HeadProgram,
    LayerProgram,
    Neuron,
    Program,
    Reading,
    Term,
    add,
    one_hot,
    step,
    times,
)
from glassworks.eliza.script import ELIZA, END

LITERAL, COPIED = 20.0, 10.0
"""Logits of a rule's own word and of a copied one."""


def build(machine: Machine, options: Options) -> Program:
    """The program of a machine. Raises OptionError where the options cannot do what its rules ask."""
    first, second = Construction(machine, options), _Replies(machine, options)
    program = Program(machine.tokens, options.max_len, has_digits=options.copy == "induction")
    layers = [*first.word_layers(), *first.match_layers(), *first.rank_layers()]
    layers += [second.count_layer(), *second.queue_layers(), second.rule_layer(), *second.reply_layers()]
    largest = max(len(head.terms) for layer in layers for head in layer.heads)
    program.layers = [LayerProgram(_split(layer.heads, max(32, largest)), layer.neurons) for layer in layers]
    program.unembed = second.unembed()
    return program


def _split(heads: list[HeadProgram], limit: int) -> list[HeadProgram]:
    """Heads that copy more than `limit` dimensions as several with the same attention."""
    found = []
    for head in heads:
        parts = [head.copies[start : start + limit] for start in range(0, len(head.copies), limit)]
        names = [head.name] if len(parts) == 1 else [f"{head.name} ({number})" for number in range(1, len(parts) + 1)]
        found += [HeadProgram(name, head.terms, part) for name, part in zip(names, parts, strict=True)]
    return found


class _Replies(Construction):
    """The later layers, over the names of the first."""

    def __init__(self, machine: Machine, options: Options) -> None:
        super().__init__(machine, options)
        self.induction = Induction(machine, options) if options.copy == "induction" else None

    def _counted(self, group: int) -> bool:
        """Whether the rules of a group take turns by a count of its inputs."""
        if group == self.machine.null and self._null_by_misses():
            return False
        by_count = self.options.cycling == "count" or self._null_on_input(group)
        return len(self.machine.rules[group]) > 1 and by_count

    def _null_on_input(self, group: int) -> bool:
        """Inputs that a memory answers turn the null rules too, which no reply shows: always counted."""
        return group == self.machine.null and self.machine.null_cycle == "on_input" and self.machine.memory is not None

    def _null_by_misses(self) -> bool:
        machine = self.machine
        on_response = machine.null_cycle == "on_response" and machine.memory is not None
        return on_response and self.options.cycling == "count" and len(machine.rules[machine.null]) > 1

    def count_layer(self) -> LayerProgram:
        """A: how often, how many, and where the chunks of the best template end."""
        machine, layer, limit = self.machine, LayerProgram(), self.options.max_count
        counted = [group for group in range(len(machine.rules)) if self._counted(group)]
        if counted:
            same = tuple(Term(times(self.group(g), self.scores.template), self.group(g)) for g in counted)
            terms, copies = self.scores.count({"uses": add(*(self.group(g) for g in counted))})
            others = (Term({"one": -self.scores.template}, {"one": 1.0, "tok:$": -1.0}), *same)
            layer.heads.append(HeadProgram("uses of the template", (*terms, *others), copies))
            layer.neurons += [*one_hot({"uses": 1.0}, "uses", range(1, limit + 1)), *self._overflow("uses")]
        layer.heads += self._trace_heads() + self._end_heads()
        if machine.memory is not None:
            totals: dict[str, Reading] = {"kept": self.group(machine.memory), "nulls": self.group(machine.null)}
            if self.options.memory == "trace":
                totals["gone"] = {f"said:-1.{i}": 1.0 for i in range(len(machine.dequeue))}
            layer.heads.append(HeadProgram("totals", *self.scores.count(totals)))
            for name in totals:
                layer.neurons += [*one_hot({name: 1.0}, name, range(1, limit + 1)), *self._overflow(name)]
                layer.neurons += [n for v in range(1, limit + 1) for n in step({name: 1.0}, 1.0 - v, self._walk(name))]
            layer.neurons.append(Neuron(self.group(machine.null), 0.0, {"walk": 0.5}))
        if self.induction:
            layer.heads += self.induction.mark_heads()
            layer.neurons += self.induction.mark_neurons()
        return layer

    def _walk(self, name: str) -> dict[str, float]:
        """What one more remembered, null or recalled input adds: walk = remembered - null inputs, held = queue."""
        moves = {"kept": {"walk": 1.0, "held": 1.0}, "nulls": {"walk": -1.0, "null count": 1.0}}
        return moves.get(name, {"held": -1.0, "gone count": 1.0})

    def _overflow(self, name: str) -> list[Neuron]:
        return step({name: 1.0}, -float(self.options.max_count), {"overflow": 1.0})

    def _trace_heads(self) -> list[HeadProgram]:
        flags: list[tuple[Reading, Reading]] = []
        copies = []
        for g, rules in enumerate(self.machine.rules):
            if self.options.cycling == "trace" and len(rules) > 1 and not self._counted(g):
                flags.append((self.group(g), {f"said:{g}.{i}": 1.0 for i in range(len(rules))}))
                copies += [Copy({f"said:{g}.{i}": 1.0}, f"last:{g}.{i}") for i in range(len(rules))]
        if not flags:
            return []
        return [HeadProgram("last reply of the template", self._latest(flags), tuple(copies))]

    def _end_heads(self) -> list[HeadProgram]:
        heads = []
        for k in range(self.machine.wildcards + 1):
            askers: dict[str, dict[str, float]] = {}
            for t, pattern in enumerate(self.machine.patterns):
                if k < len(pattern.chunks):
                    flag = self.matched[pattern.chunks[: k + 1]]
                    flag = f"once:{flag}" if 0 < k < len(pattern.chunks) - 1 else flag
                    askers.setdefault(flag, {})[f"best:{t}"] = 1.0
            pairs: list[tuple[Reading, Reading]] = [(query, {flag: 1.0}) for flag, query in askers.items()]
            terms = self._latest(pairs)
            heads.append(HeadProgram(f"end of chunk {k}", terms, (Copy({"p": 1.0}, f"end:{k}"),)))
        return heads

    def queue_layers(self) -> list[LayerProgram]:
        """B: whether a null input takes a memory, and which."""
        if self.machine.memory is None:
            return []
        machine, layer, limit = self.machine, LayerProgram(), self.options.max_count
        null = self.group(machine.null)
        if self.options.memory == "counter":
            # The walk reflects at its minimum so far; a null input stands half a step above its own.
            terms = (Term({"one": -self.scores.walk}, {"walk": 1.0}),)
            layer.heads.append(HeadProgram("queue minimum", terms, (Copy({"walk": 1.0}, "low"),)))
            layer.neurons += step({"walk": 2.0, "low": -2.0}, 0.0, {"recall": 1.0}, null, 2 * limit)
            recalled, misses = {"null count": 1.0, "low": 1.0, "one": -1.0}, {"walk": -1.0, "one": 0.5}
        else:
            layer.neurons += step({"held": 1.0}, 0.0, {"recall": 1.0}, null, 2 * limit)
            recalled, misses = {"gone count": 1.0}, {"null count": 1.0, "gone count": -1.0}
        layer.neurons += one_hot(recalled, "recalled", range(limit))
        if self._null_by_misses():
            layer.neurons += one_hot(misses, "misses", range(1, limit + 1))
        memory = self.group(machine.memory)
        layer.neurons += [Neuron({**memory, f"kept:{j}": 1.0}, -1.0, {f"key:{j}": 1.0}) for j in range(1, limit + 1)]
        return [layer]

    def _sources(self) -> range:
        return range(self.machine.wildcards + 1)

    def rule_layer(self) -> LayerProgram:
        """C: the remembered input's chunk ends, and the rule that answers."""
        machine, layer, limit, big = self.machine, LayerProgram(), self.options.max_count, 4.0 * self.options.max_len
        if machine.memory is not None:
            pairs: list[tuple[Reading, Reading]] = [
                ({f"recalled:{j}": 1.0}, {f"key:{j + 1}": 1.0}) for j in range(limit)
            ]
            size = len(next(pattern for pattern in machine.patterns if pattern.group == machine.memory).chunks)
            copies = [Copy({f"end:{k}": 1.0}, f"remembered:{k}") for k in range(size)]
            if self.induction:
                digits, layer.neurons = self.induction.remembered_turn()
                copies += digits
            layer.heads.append(HeadProgram("memory lookup", self._latest(pairs), tuple(copies)))
            for k in self._sources():
                target = {f"source:{k}": 1.0}
                layer.neurons.append(Neuron({f"end:{k}": 1.0, "recall": -big}, 0.0, target))
                if k < size:
                    layer.neurons.append(Neuron({f"remembered:{k}": 1.0, "recall": big}, -big, target))
        layer.neurons += [self._rule_neuron(group, number) for group, number, _ in self.numbered()]
        return layer

    def _rule_neuron(self, group: int, number: int) -> Neuron:
        """rule:g.i at the end of an input: its template is the best, and it is its turn."""
        machine, limit, write = self.machine, self.options.max_count, {f"rule:{group}.{number}": 1.0}
        if group == -1:
            turns = {f"recalled:{j}": 1.0 for j in range(limit) if j % len(machine.dequeue) == number}
            return Neuron({"recall": 1.0, **turns}, -1.0, write)
        best, total = self.group(group), len(machine.rules[group])
        if group == machine.null and machine.memory is not None:
            best["recall"] = -1.0
        if total == 1:
            return Neuron(best, 0.0, write)
        if group == machine.null and self._null_by_misses():
            turns = {f"misses:{j}": 1.0 for j in range(1, limit + 1) if (j - 1) % total == number}
            return Neuron({**best, **turns}, -1.0, write)
        if self._counted(group):
            turns = {f"uses:{j}": 1.0 for j in range(1, limit + 1) if (j - 1) % total == number}
            return Neuron({**best, **turns}, -1.0, write)
        if number > 0:
            return Neuron({**best, f"last:{group}.{number - 1}": 1.0}, -1.0, write)
        return Neuron({**best, **{f"last:{group}.{i}": -1.0 for i in range(total - 1)}}, 0.0, write)

    def _starts(self, rule: tuple[Part, ...]) -> list[tuple[dict[str, float], float]]:
        """Where in the reply each part begins, `E` being at 0: a reading of chunk ends, and a constant."""
        starts: list[tuple[dict[str, float], float]] = []
        reading: dict[str, float] = {}
        fixed = 0.0
        for part in rule:
            starts.append((dict(reading), fixed))
            if isinstance(part, Span):
                reading = add(reading, {f"now:{self.end(part.high)}": 1.0}, {f"now:{self.end(part.low)}": -1.0})
                fixed += part.high_offset - part.low_offset
            else:
                fixed += 1.0
        return starts

    def reply_layers(self) -> list[LayerProgram]:
        """D, E, F: which part of the rule is being written, where a copied word stands, and the copy."""
        aim, copying = LayerProgram(), LayerProgram()
        layers = [self._place_layer(), aim]
        if self.induction:
            aim.neurons = self.induction.ask_neurons()
            layers += [self.induction.search_layer(), LayerProgram(neurons=self.induction.choose_neurons())]
        else:
            aim.neurons = self._aim_neurons()
        outs = tuple(Copy({self.word(token): 1.0}, f"out:{token}") for token in self.letters)
        copying.heads.append(HeadProgram("copy", self.scores.at({"target": 1.0}), outs))
        return [*layers, copying]

    def _since(self, reading: Reading) -> dict[str, float]:
        """Words since E, less those of the parts before."""
        return add({"p": 1.0, "now:p": -1.0}, times(reading, -1.0))

    def _place_layer(self) -> LayerProgram:
        """D: flags of the parts that have begun, by what the last input's end knows."""
        layer = LayerProgram()
        numbered = self.numbered()
        names = [f"rule:{g}.{i}" for g, i, _ in numbered] + [self.end(k) for k in self._sources()] + ["p"]
        names += [self.induction.source_turn(digit) for digit in self.induction.turn_digits()] if self.induction else []
        last = self._latest([({"one": 1.0}, {"ends": 1.0})])
        layer.heads.append(HeadProgram("last input", last, tuple(Copy({name: 1.0}, f"now:{name}") for name in names)))
        copied = {(part.group, part.rule, part.part): part for part in self.induction.copied} if self.induction else {}
        for g, i, rule in numbered:
            for part, (reading, fixed) in enumerate(self._starts(rule)):
                since = self._since(reading)
                if part:
                    target, gate = {f"part:{g}.{i}.{part}": 1.0}, {f"now:rule:{g}.{i}": 1.0}
                    layer.neurons += step(since, 1.0 - fixed, target, gate, 4.0 * self.options.max_len)
                if self.induction and (g, i, part) in copied:
                    layer.neurons += self.induction.written_neurons(since, fixed, copied[g, i, part])
        return layer

    def _aim_neurons(self) -> list[Neuron]:
        """E: the place of the word that is copied next."""
        neurons, big = [], 8.0 * self.options.max_len
        for g, i, rule in self.numbered():
            for part, (reading, fixed) in enumerate(self._starts(rule)):
                span = rule[part]
                if isinstance(span, Span):
                    active = times(self.active(g, i, part, len(rule)), big)
                    source = add(self._since(reading), {f"now:{self.end(span.low)}": 1.0}, active)
                    neurons.append(Neuron(source, span.low_offset + 1.0 - fixed - big, {"target": 1.0}))
        return neurons

    def unembed(self) -> dict[str, dict[str, float]]:
        """Token -> reading that gives its logit."""
        logits = {token: {f"out:{token}": COPIED} for token in self.machine.tokens}
        for token in {*self.machine.starts, ELIZA, END, "$"}:
            logits[token] = {}
        for g, i, rule in self.numbered():
            for part, spoken in enumerate(rule):
                if not isinstance(spoken, Span):
                    logits[spoken] = add(logits[spoken], times(self.active(g, i, part, len(rule)), LITERAL))
        return {token: reading for token, reading in logits.items() if reading}
