"""The answering half: how many layers and heads each option takes, and which heads there are."""

import pytest
from cases.eliza import SMALL

from glassworks.eliza.layers import Options
from glassworks.eliza.machine import machine_of
from glassworks.eliza.reply_layers import build
from glassworks.eliza.script import parse_script


@pytest.mark.parametrize(("memory", "name"), [("counter", "queue minimum"), ("trace", "totals")])
def test_layers_are_wildcards_and_eight(memory: str, name: str) -> None:
    program = build(machine_of(SMALL), Options(memory=memory, max_count=8))  # type: ignore[arg-type]
    assert len(program.layers) == 2 + 8
    assert name in {head.name for layer in program.layers for head in layer.heads}


def test_without_memory_there_is_no_queue() -> None:
    program = build(machine_of(parse_script("U a 0 .\n E p 2 .\nU 0 .\n E q .\n")), Options(max_count=8))
    assert len(program.layers) == 1 + 7
    names = [head.name for layer in program.layers for head in layer.heads]
    assert "memory lookup" not in names
    assert "uses of the template" not in names, "one rule a template takes no turns"
