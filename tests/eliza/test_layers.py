"""The matching half of the construction: shared prefixes, layers by wildcards, prefixes of rules."""

import pytest
from cases.eliza import SMALL

from glassworks.eliza.layers import Construction, Options, prefix_length
from glassworks.eliza.machine import machine_of
from glassworks.eliza.script import parse_script
from glassworks.errors import OptionError


def test_common_prefixes_of_templates_share_a_flag() -> None:
    script = parse_script("U 0 a 0 b .\n E p .\nU 0 a 0 c .\n E q .\nU 0 .\n E r .\n")
    construction = Construction(machine_of(script), Options())
    assert len(construction.matched) == len({"U", "U a", "U a b.", "U a c.", "U ."})


def test_a_layer_a_wildcard() -> None:
    construction = Construction(machine_of(SMALL), Options())
    assert len(construction.match_layers()) == 2
    assert (len(construction.word_layers()), len(construction.rank_layers())) == (1, 1)


def test_trace_needs_rules_that_begin_differently() -> None:
    assert prefix_length(machine_of(SMALL)) == 1
    alike = machine_of(parse_script("U a 0 .\n E p q .\n E p q 2 .\nU 0 .\n E r s .\n"))
    with pytest.raises(OptionError, match="two rules begin alike"):
        prefix_length(alike)
