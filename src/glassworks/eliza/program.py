"""Programs for a Transformer without norms: named dimensions, heads of bilinear terms, ReLU neurons -> weights.

Specified for the ELIZA of Friedman et al. 2025 (arXiv 2407.10949, section 3), after RASP and Tracr. A head's term is
a pair of linear readings of the residual stream whose product, of query and key, is added to the score; its copies
write a reading of the attended position. Heads choose one position, or average against the first token (`count`).
How far apart their scores lie is `Scores`: HARD gives exactly 0 and 1, SOFT what just holds for short conversations.
Knows no script; `layers` writes the program, `modeling` runs the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Reading = Mapping[str, float]
"""A linear reading of the residual stream: name of a dimension -> coefficient."""


class Term(NamedTuple):
    """One product of a query reading and a key reading."""

    query: Reading
    key: Reading


class Copy(NamedTuple):
    """What a head writes: a reading of the attended position, into a dimension."""

    source: Reading
    target: str


@dataclass(frozen=True)
class Scores:
    """How far apart scores lie, in nats, and the heads whose scores lie so.

    place: between neighbouring positions. turn: for a distance of turns of 1, growing with its square, in a counting
    head. first: of the first token in a counting head; e^first keys would weigh as much. template: below which a
    counting head leaves other templates. walk: per unit of the queue's walk.
    """

    place: float
    turn: float
    first: float
    template: float
    walk: float

    def at(self, offset: Reading) -> tuple[Term, ...]:
        """Attend to the position that a reading of the query gives: place (2 a p_k - p_k²)."""
        double = {name: 2 * value * self.place for name, value in offset.items()}
        return (Term(double, {"p": 1.0}), Term({"one": -self.place}, {"p2": 1.0}))

    def latest(self, flags: Sequence[tuple[Reading, Reading]], max_len: int) -> tuple[Term, ...]:
        """Attend to the last position where Σ (query · x_q)(key · x_k) is 1, else to the last position of all."""
        strength = self.place * 2 ** math.ceil(math.log2(2 * max_len))
        scaled = [Term({name: strength * value for name, value in query.items()}, key) for query, key in flags]
        return (*scaled, Term({"one": self.place}, {"p": 1.0}))

    def count(
        self, copies: Mapping[str, Reading], same_turn: bool = False
    ) -> tuple[tuple[Term, ...], tuple[Copy, ...]]:
        """Count earlier and own positions with a flag, of all the sequence or of the own turn: dimension -> flag.

        All positions score 0 and the first, `$`, `first`; values are e^first times the flags. A count c comes out
        as c / (1 + n e^-first) with n positions: with HARD an error below 0.02 for c = 64 of 2,048.
        """
        scale = math.exp(self.first)
        written = tuple(
            Copy({name: scale * value for name, value in flag.items()}, target) for target, flag in copies.items()
        )
        terms = [Term({"one": self.first}, {"tok:$": 1.0})]
        if same_turn:
            terms += [
                Term({"turn": 2 * self.turn}, {"turn": 1.0}),
                Term({"one": -self.turn}, {"turn2": 1.0}),
                Term({"turn2": -self.turn}, {"one": 1.0, "tok:$": -1.0}),
            ]
        return tuple(terms), written


HARD = Scores(place=1024.0, turn=32.0, first=16.0, template=64.0, walk=256.0)
"""exp(-1024) is 0 in float64 too, so a head copies exactly; powers of two, so that sums of scores are exact."""
SOFT = Scores(place=16.0, turn=1.0, first=10.0, template=10.0, walk=32.0)
"""The least that tells positions apart in SOFT_LEN tokens: a stream that is off by some percent still moves a head by
degrees, where HARD jumps and has no gradient."""
SOFT_LEN, SOFT_COUNT = 128, 32
"""Bounds of SOFT: a count of 32 among 128 positions is read as 31.8, and must not be off by 0.25."""


@dataclass(frozen=True)
class HeadProgram:
    """One attention head: score = Σ (query · x_q)(key · x_k) over terms."""

    name: str
    terms: tuple[Term, ...]
    copies: tuple[Copy, ...]


class Neuron(NamedTuple):
    """relu(reading + bias), written with a coefficient into each of some dimensions."""

    reading: Reading
    bias: float
    writes: Reading


@dataclass
class LayerProgram:
    """Heads, then neurons."""

    heads: list[HeadProgram] = field(default_factory=list)
    neurons: list[Neuron] = field(default_factory=list)


@dataclass
class Program:
    """Layers over named dimensions. unembed: token -> reading. Token t is embedded as dimension `tok:t` and `one`.

    has_digits: whether positions are embedded by their octal digits, too, beside themselves and their squares.
    """

    tokens: tuple[str, ...]
    max_len: int
    layers: list[LayerProgram] = field(default_factory=list)
    unembed: dict[str, dict[str, float]] = field(default_factory=dict)
    has_digits: bool = False

    @property
    def embedded(self) -> list[str]:
        """The dimensions that the token and the position table write."""
        digits = digits_of(self.max_len) if self.has_digits else []
        return ["one", "p", "p2", *(f"tok:{token}" for token in self.tokens), *digits]

    @property
    def dimensions(self) -> list[str]:
        """Every dimension that is written or read, in order of first use."""
        names = dict.fromkeys(self.embedded)
        for layer in self.layers:
            for head in layer.heads:
                for reading in (
                    *(part for term in head.terms for part in term),
                    *(copy.source for copy in head.copies),
                ):
                    names |= dict.fromkeys(reading)
                names |= dict.fromkeys(copy.target for copy in head.copies)
            for neuron in layer.neurons:
                names |= dict.fromkeys([*neuron.reading, *neuron.writes])
        return list(names)

    @property
    def heads(self) -> int:
        """Heads of the widest layer."""
        return max(1, *(len(layer.heads) for layer in self.layers))

    @property
    def head_dim(self) -> int:
        """Terms or copies of the largest head."""
        all_heads = [head for layer in self.layers for head in layer.heads]
        return max(max(len(head.terms), len(head.copies)) for head in all_heads)

    @property
    def neurons(self) -> int:
        """Neurons of the widest layer."""
        return max(1, *(len(layer.neurons) for layer in self.layers))


def digits_of(max_len: int) -> list[str]:
    """Dimensions of the octal digits of positions below max_len, the last digit first."""
    places = next(n for n in range(1, 64) if 8**n >= max_len)
    return [f"digit{place}:{value}" for place in range(places) for value in range(8)]


def step(
    reading: Reading, bias: float, writes: Reading, gate: Reading | None = None, limit: float = 0.0
) -> list[Neuron]:
    """Neurons for [reading + bias >= 1] (0 at <= 0), times a gate in {0, 1} where one is given.

    Written as gate - relu(1.5 - 2x) + relu(0.5 - 2x): above the threshold nothing is active, so the flag is exact.
    limit: how far below 1 the gated quantity can lie.
    """
    negative = {name: -2 * value for name, value in reading.items()}
    low = 1.5 - 2 * bias
    minus = {name: -value for name, value in writes.items()}
    if gate is None:
        return [Neuron({"one": 1.0}, 0.0, writes), Neuron(negative, low, minus), Neuron(negative, low - 1, writes)]
    big = 2 * limit + 8
    gated = add(negative, {name: big * value for name, value in gate.items()})
    return [Neuron(gate, 0.0, writes), Neuron(gated, low - big, minus), Neuron(gated, low - 1 - big, writes)]


def one_hot(reading: Reading, target: str, values: range) -> list[Neuron]:
    """Neurons that write 1 into `target:j` where the reading is the integer j, for j of a range."""
    neurons: list[Neuron] = []
    for value in (*values, values.stop):
        writes: dict[str, float] = {}
        if value < values.stop:
            writes[f"{target}:{value}"] = 1.0
        if value > values.start:
            writes[f"{target}:{value - 1}"] = -1.0
        neurons += step(reading, 1.0 - value, writes)
    return neurons


def times(reading: Reading, factor: float) -> dict[str, float]:
    """A reading times a number."""
    return {name: value * factor for name, value in reading.items()}


def add(*readings: Reading) -> dict[str, float]:
    """The sum of readings."""
    total: dict[str, float] = {}
    for reading in readings:
        for name, value in reading.items():
            total[name] = total.get(name, 0.0) + value
    return total


def sparse_weights(program: Program) -> dict[str, Tensor]:
    """The program's weights by the names of `modeling.CompiledElizaForCausalLM`, as sparse float64 tensors."""
    index = {name: at for at, name in enumerate(program.dimensions)}
    width, heads, head_dim, inner = len(index), program.heads, program.head_dim, program.neurons
    weights: dict[str, Tensor] = {}

    def put(name: str, shape: tuple[int, int], entries: list[tuple[int, int, float]]) -> None:
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        spots = torch.tensor([list(rows), list(columns)], dtype=torch.long)
        weights[name] = torch.sparse_coo_tensor(
            spots, torch.tensor(values, dtype=torch.float64), shape, check_invariants=True
        ).coalesce()

    tokens = [(row, index[name], 1.0) for row, token in enumerate(program.tokens) for name in (f"tok:{token}", "one")]
    put("model.embed_tokens.weight", (len(program.tokens), width), tokens)
    positions = [
        (p, index[name], float(p**power)) for p in range(1, program.max_len) for name, power in (("p", 1), ("p2", 2))
    ]
    if program.has_digits:
        places = len(digits_of(program.max_len)) // 8
        positions += [
            (p, index[f"digit{n}:{p // 8**n % 8}"], 1.0) for p in range(program.max_len) for n in range(places)
        ]
    put("model.embed_positions.weight", (program.max_len, width), positions)
    logits = [
        (program.tokens.index(t), index[d], v) for t, reading in program.unembed.items() for d, v in reading.items()
    ]
    put("lm_head.weight", (len(program.tokens), width), logits)
    for number, layer in enumerate(program.layers):
        q: list[tuple[int, int, float]] = []
        k: list[tuple[int, int, float]] = []
        v: list[tuple[int, int, float]] = []
        o: list[tuple[int, int, float]] = []
        for slot, head in enumerate(layer.heads):
            first = slot * head_dim
            for row, term in enumerate(head.terms):
                q += [(first + row, index[name], value) for name, value in term.query.items()]
                k += [(first + row, index[name], value) for name, value in term.key.items()]
            for row, copy in enumerate(head.copies):
                v += [(first + row, index[name], value) for name, value in copy.source.items()]
                o.append((index[copy.target], first + row, 1.0))
        prefix = f"model.layers.{number}"
        for letter, entries in (("q", q), ("k", k), ("v", v)):
            put(f"{prefix}.attention.{letter}_proj.weight", (heads * head_dim, width), entries)
        put(f"{prefix}.attention.o_proj.weight", (width, heads * head_dim), o)
        read = [
            (row, index[d], value) for row, neuron in enumerate(layer.neurons) for d, value in neuron.reading.items()
        ]
        write = [
            (index[d], row, value) for row, neuron in enumerate(layer.neurons) for d, value in neuron.writes.items()
        ]
        put(f"{prefix}.mlp.up_proj.weight", (inner, width), read)
        put(f"{prefix}.mlp.down_proj.weight", (width, inner), write)
        bias = torch.zeros(inner, dtype=torch.float64)
        bias[: len(layer.neurons)] = torch.tensor([neuron.bias for neuron in layer.neurons], dtype=torch.float64)
        weights[f"{prefix}.mlp.up_proj.bias"] = bias.to_sparse()
    return weights
