"""What a compiled model says of its reply is what the interpreter did: template, rule, remembered input, queue."""

import pytest

from glassworks.eliza.chat import open_engine
from glassworks.eliza.compiling import compile_script
from glassworks.eliza.explanation import Decision, decision, input_ends, read
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.opening import open_script
from glassworks.eliza.random_scripts import random_script, random_sentences


@pytest.mark.parametrize("memory", ["counter", "trace"])
def test_the_models_flags_are_the_interpreters_steps(memory: str) -> None:
    for seed in range(3):
        script = random_script(seed)
        compiled = compile_script(script, Options("count", memory, max_len=256, max_count=16))  # type: ignore[arg-type]
        turns = converse(script, random_sentences(script, 12, seed))
        tokens = transcript(turns)
        seen = read(compiled, tokens)
        for turn, at in zip(turns, input_ends(tokens, 1), strict=True):
            group = turn.template if turn.dequeued is None else -1
            wanted = Decision(turn.template, group, turn.rule, turn.dequeued, turn.queue)
            assert decision(compiled, seen, at) == wanted


def test_heads_are_shown_for_what_they_did() -> None:
    engine = open_engine(open_script("packaged:small"), "compiled", Options(max_len=64, max_count=4))
    assert engine.explained() == []
    assert engine.reply("d a e a f b") == "p q e a f"
    first = engine.explained()
    assert first[-1] == "a9.h0 copy: e from 4, a from 5, f from 6"
    assert not any("memory lookup" in line for line in first)
    engine.reply("z")
    assert not any("chunk 2" in line for line in engine.explained()), "the null template has two chunks"
    engine = open_engine(open_script("packaged:listener"), "compiled", Options(max_len=64, max_count=4))
    engine.reply("I'm unhappy")
    lines = engine.explained()
    assert lines[:2] == ["writes first: =I YOU ARE UNHAPPY .", "template 4, rule 1 of 2"]
    assert lines[-1].endswith("UNHAPPY from 8")
