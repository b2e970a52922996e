"""Synthetic data: every reply is the interpreter's, queues stay small, shares and distributions are as specified."""

import time

import numpy as np
import pytest

from glassworks.eliza.conversations import (
    ConversationShape,
    Generator,
    ScriptShape,
    Segments,
    check_conversations,
    conversations,
    draw_script,
    tokens_of,
)
from glassworks.eliza.interpreter import converse, split_turns
from glassworks.errors import OptionError

PAPER = ScriptShape(max_transformations_per_template=5, null_template_cycle_version=1, max_template_len=10)
TALK = ConversationShape(memory_ratio=8, unigram_concentration=-1, concentration=1 / 32, max_turns=100)


@pytest.mark.parametrize("compat", [False, True])
def test_replies_are_the_interpreters_and_the_queue_stays_below_its_limit(compat: bool) -> None:
    rng = np.random.default_rng(1)
    script = draw_script(PAPER, rng)
    shape = ConversationShape(**{**TALK.__dict__, "compat": compat})
    for turns in conversations(script, shape, 50, rng):
        tokens = tokens_of(turns)
        assert len(tokens) <= 512
        found = converse(script, [sentence for sentence, _ in split_turns(tokens)])
        assert [turn.reply for turn in found] == [reply for _, reply in split_turns(tokens)]
        assert max((turn.queue for turn in found), default=0) <= 4
        for turn, exchange in zip(found, turns, strict=True):
            assert (turn.dequeued is not None) is (exchange.kind == "dequeue")
            assert exchange.copied == sum(turn.copied)


def test_share_of_null_inputs_over_scripts() -> None:
    null = total = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        for turns in conversations(draw_script(PAPER, rng), TALK, 60, rng):
            null += sum(turn.kind in ("dequeue", "none") for turn in turns)
            total += len(turns)
    assert 0.08 <= null / total <= 0.17


def test_null_gets_half_of_memorys_weight() -> None:
    rng = np.random.default_rng(0)
    generator = Generator(draw_script(PAPER, rng), TALK, rng)
    for _ in range(50):
        shares = generator._mixture()
        assert shares.sum() == pytest.approx(1)
        assert shares[-1] >= shares[generator.script.memory or 0] / 2 - 1e-12


def test_segments() -> None:
    rng = np.random.default_rng(0)
    skewed = Segments(ConversationShape(max_copy_len=20, unigram_concentration=0.01), rng)
    even = Segments(ConversationShape(max_copy_len=20, unigram_concentration=100.0), rng)
    few, many = ([segments.draw() for _ in range(500)] for segments in (skewed, even))
    assert np.mean([len(s) for s in few]) == pytest.approx(10, abs=1)
    assert np.mean([len(set(s)) for s in few]) < 1.6 < np.mean([len(set(s)) for s in many])


def test_scripts_have_the_asked_shape() -> None:
    script = draw_script(PAPER, np.random.default_rng(3))
    assert len(script.templates) == 33
    assert [len(t) for t in script.templates[:-1]] == sorted((len(t) for t in script.templates[:-1]), reverse=True)
    assert all(len(t) <= 10 and 2 <= t.count("0") <= 4 for t in script.templates[:-1])
    prefixes = [rule[1:3] for _, rule in script.all_rules]
    assert len(set(prefixes)) == len(prefixes)
    with pytest.raises(OptionError, match="template_prefix_len"):
        draw_script(ScriptShape(template_prefix_len=1), np.random.default_rng(0))


def test_speed() -> None:
    rng = np.random.default_rng(0)
    script = draw_script(PAPER, rng)
    begun = time.process_time()
    list(conversations(script, TALK, 150, rng))
    assert 150 / (time.process_time() - begun) >= 300


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_templates", 0), ("max_transformations_per_template", 0), ("max_ngram_len", 0), ("max_num_wildcards", 1),
     ("min_copies", 5), ("template_prefix_len", 0), ("null_template_cycle_version", 3)],
)  # fmt: skip
def test_impossible_scripts_are_refused(name: str, value: int) -> None:
    shape = ScriptShape(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="script_shape"):
        draw_script(shape, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_queue_size", 0), ("min_copy_len", -1), ("max_copy_len", -1), ("min_copy_len", 11), ("max_turns", 0),
     ("max_conversation_len", 6), ("memory_ratio", 0.0), ("concentration", -1.0)],
)  # fmt: skip
def test_impossible_conversations_are_refused(name: str, value: float) -> None:
    script = draw_script(ScriptShape(), np.random.default_rng(0))
    check_conversations(ConversationShape(), script)
    with pytest.raises(OptionError, match="conversation_shape"):
        check_conversations(ConversationShape(**{name: value}), script)  # type: ignore[arg-type]


def test_without_copied_words_null_inputs_are_single_letters() -> None:
    script, rng = draw_script(ScriptShape(num_templates=3), np.random.default_rng(0)), np.random.default_rng(0)
    made = list(conversations(script, ConversationShape(max_copy_len=0, max_turns=8), 20, rng))
    null = [turn.sentence for turns in made for turn in turns if turn.kind == "none"]
    assert null
    assert {len(sentence) for sentence in null} == {1}
