"""Neurons and heads of programs: exact steps, one-hots, and weights as written."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.program import (
    HARD,
    Copy,
    HeadProgram,
    LayerProgram,
    Neuron,
    Program,
    one_hot,
    sparse_weights,
    step,
)


def value(neurons: list[Neuron], x: dict[str, float], target: str) -> float:
    """What neurons write into a dimension, from readings of x."""
    total = 0.0
    for neuron in neurons:
        active = sum(weight * x.get(name, 0.0) for name, weight in neuron.reading.items()) + neuron.bias
        total += neuron.writes.get(target, 0.0) * max(0.0, active)
    return total


@given(st.integers(-20, 20), st.booleans())
def test_a_gated_step_is_exact(x: int, gate: bool) -> None:
    point = {"x": float(x), "g": float(gate), "one": 1.0}
    assert value(step({"x": 1.0}, 0.0, {"y": 1.0}, {"g": 1.0}, 21), point, "y") == float(gate and x >= 1)
    assert value(step({"x": 1.0}, 0.0, {"y": 1.0}), point, "y") == float(x >= 1)


@given(st.integers(-3, 9))
def test_one_hot(x: int) -> None:
    neurons = one_hot({"x": 1.0}, "is", range(1, 6))
    got = [value(neurons, {"x": float(x), "one": 1.0}, f"is:{j}") for j in range(1, 6)]
    assert got == [float(j == x) for j in range(1, 6)]


def test_scores_of_heads_are_exact_in_float32_to_2048_positions() -> None:
    p = torch.arange(2048, dtype=torch.float32)
    scores = sum(
        sum(c * (p if n == "p" else p**2 if n == "p2" else torch.ones_like(p)) for n, c in term.query.items())[:, None]
        * sum(c * (p if n == "p" else p**2) for n, c in term.key.items())[None]
        for term in HARD.at({"p": 1.0, "one": -3.0})
    )
    assert isinstance(scores, torch.Tensor)
    chosen = torch.softmax(scores, dim=-1)
    assert torch.equal(chosen @ p, (p - 3).clamp_min(0))


def test_a_count_of_a_few_among_many_is_within_a_hundredth() -> None:
    terms, copies = HARD.count({"n": {"f": 1.0}})
    scores = torch.zeros(2000, dtype=torch.float64)
    scores[0] = terms[0].query["one"]
    weights = torch.softmax(scores, dim=-1)
    assert float(weights[1:41].sum() * copies[0].source["f"]) == pytest.approx(40, abs=0.01)


def test_weights_are_the_program() -> None:
    head = HeadProgram("h", HARD.at({"p": 1.0}), (Copy({"tok:a": 2.0}, "out"),))
    program = Program(
        ("a", "b"), 4, [LayerProgram([head], [Neuron({"out": 1.0}, -1.0, {"y": 3.0})])], {"b": {"y": 5.0}}
    )
    names = program.dimensions
    weights = {name: weight.to_dense() for name, weight in sparse_weights(program).items()}
    assert names == ["one", "p", "p2", "tok:a", "tok:b", "out", "y"]
    assert weights["model.embed_positions.weight"][3].tolist() == [0, 3, 9, 0, 0, 0, 0]
    assert weights["model.layers.0.attention.v_proj.weight"][0, names.index("tok:a")] == 2
    assert weights["model.layers.0.attention.o_proj.weight"][names.index("out"), 0] == 1
    assert weights["model.layers.0.mlp.up_proj.bias"].tolist() == [-1]
    assert weights["lm_head.weight"].nonzero().tolist() == [[1, names.index("y")]]
