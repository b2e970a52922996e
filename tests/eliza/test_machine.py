"""Machines of synthetic scripts: chunks, spans, vocabulary."""

from cases.eliza import SMALL

from glassworks.eliza.machine import Span, machine_of


def test_the_small_script() -> None:
    machine = machine_of(SMALL)
    assert (machine.wildcards, machine.longest_chunk, machine.null, machine.memory) == (2, 2, 2, 0 + 1)
    assert machine.tokens[:5] == ("<pad>", "$", ".", "E", "U")
    assert machine.tokens[-2:] == ("z", "<unk>")
    assert machine.rules[0][0] == ("E", "p", "q", Span(1, 0, 2, -2), ".")
    assert machine.rules[0][1][3] == Span(0, 0, 1, -1)
    assert machine.dequeue[0][3] == Span(0, 0, 1, -1) or machine.dequeue[0][3].high == 1
