"""The comparison itself: a model compiled from another script differs."""

from dataclasses import replace

from cases.eliza import CONVERSATION, SMALL

from glassworks.eliza.compiling import compile_script
from glassworks.eliza.exactness import differences, free_differences
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options


def test_another_script_differs() -> None:
    other = replace(SMALL, rules=(SMALL.rules[0][::-1], *SMALL.rules[1:]))
    compiled = compile_script(other, Options(max_len=256, max_count=16))
    turns = converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION])
    assert differences(compiled, transcript(turns)).wrong > 3
    assert free_differences(compiled, turns).wrong > 3
