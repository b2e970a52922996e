"""Compiled = symbolic, token for token: random scripts, every option, both precisions, forced and free."""

import itertools
from dataclasses import replace

import pytest
import torch
from cases.eliza import CONVERSATION, SMALL

from glassworks.eliza.compiling import compile_script
from glassworks.eliza.doctor import DoctorScript
from glassworks.eliza.exactness import differences, free_differences
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.keyword_scripts import machine_of_keywords
from glassworks.eliza.layers import Options
from glassworks.eliza.opening import open_script
from glassworks.eliza.random_scripts import random_script, random_sentences
from glassworks.errors import OptionError

MECHANISMS = list(itertools.product(("count", "trace"), ("counter", "trace"), ("on_input", "on_response")))


@pytest.mark.parametrize(("cycling", "memory", "null_cycle"), MECHANISMS)
@pytest.mark.parametrize("seed", range(2))
def test_random_scripts(seed: int, cycling: str, memory: str, null_cycle: str) -> None:
    number = 8 * seed + MECHANISMS.index((cycling, memory, null_cycle))
    script = random_script(number, null_cycle=null_cycle)  # type: ignore[arg-type]
    compiled = compile_script(script, Options(cycling, memory, max_len=512, max_count=16))  # type: ignore[arg-type]
    for conversation in range(3):
        turns = converse(script, random_sentences(script, 14, 100 * number + conversation))
        checked = differences(compiled, transcript(turns))
        assert checked.tokens > 30
        assert checked.wrong == 0


@pytest.mark.parametrize("memory", ["counter", "trace"])
def test_free_running_conversation(memory: str) -> None:
    compiled = compile_script(SMALL, Options("count", memory, max_len=256, max_count=16))  # type: ignore[arg-type]
    turns = converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION])
    assert free_differences(compiled, turns) == (sum(len(turn.reply) - 1 for turn in turns), 0)


@pytest.mark.parametrize("null_cycle", ["on_input", "on_response"])
def test_soft_attention_is_exact_too_to_its_bounds(null_cycle: str) -> None:
    for number, (cycling, memory) in enumerate(itertools.product(("count", "trace"), ("counter", "trace"))):
        script = random_script(20 + number, null_cycle=null_cycle)  # type: ignore[arg-type]
        options = Options(cycling, memory, max_len=128, max_count=32, attention="soft")  # type: ignore[arg-type]
        compiled, turns = compile_script(script, options), converse(script, random_sentences(script, 32, number))
        while len(transcript(turns)) > 128:
            turns.pop()
        assert differences(compiled, transcript(turns)).wrong == 0


def test_soft_attention_is_refused_where_it_does_not_hold() -> None:
    soft = Options(max_len=128, max_count=32, attention="soft")
    for options in (replace(soft, max_len=129), replace(soft, max_count=33), replace(soft, copy="induction")):
        with pytest.raises(OptionError, match="soft attention holds"):
            compile_script(SMALL, options)
    listener = open_script("packaged:listener")
    assert isinstance(listener, DoctorScript)
    with pytest.raises(OptionError, match="rewrites inputs"):
        compile_script(machine_of_keywords(listener), soft)


def test_a_long_conversation_in_float32() -> None:
    script = random_script(5)
    turns = converse(script, random_sentences(script, 68, 5))
    compiled = compile_script(script, Options(max_len=1024, max_count=64))
    tokens = transcript(turns)
    assert 800 < len(tokens) <= 1024
    assert differences(compiled, tokens).wrong == 0


def test_a_superposed_basis_and_float64_give_the_same_logits() -> None:
    options = Options(max_len=256, max_count=16)
    tokens = transcript(converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION]))
    plain = compile_script(SMALL, options, dtype="float64")
    rotated = compile_script(SMALL, options, dtype="float64", superposed=True)
    ids = torch.tensor([plain.encode(tokens)])
    assert torch.allclose(plain.model(ids).logits, rotated.model(ids).logits, atol=1e-6)
    assert not torch.equal(plain.model.lm_head.weight, rotated.model.lm_head.weight)


def test_options_that_cannot_hold_are_refused() -> None:
    with pytest.raises(OptionError, match="float32 holds 2048 positions"):
        compile_script(SMALL, Options(max_len=4096))
    with pytest.raises(OptionError, match="rotated"):
        compile_script(SMALL, Options(), superposed=True)
    with pytest.raises(OptionError, match="not bfloat16"):
        compile_script(SMALL, Options(), dtype="bfloat16")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no word 'Q'"):
        compile_script(SMALL, Options(max_len=64, max_count=4)).encode(["Q"])
    with pytest.raises(OptionError, match="max_count"):
        compile_script(SMALL, replace(Options(), max_count=1000))
