"""The symbolic oracle: the conversation worked out by hand, memory and cycling, transcripts."""

from dataclasses import replace

import pytest
from cases.eliza import CONVERSATION, SMALL
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.interpreter import Interpreter, converse, response_mask, split_turns, transcript
from glassworks.eliza.random_scripts import random_script, random_sentences
from glassworks.errors import OptionError


def test_the_conversation_worked_out_by_hand() -> None:
    turns = converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION])
    assert [" ".join(turn.reply) for turn in turns] == [reply for _, reply in CONVERSATION]
    assert [turn.dequeued for turn in turns if turn.dequeued is not None] == [0, 1, 2]
    assert [turn.queue for turn in turns] == [0, 0, 1, 0, 0, 1, 2, 1, 0, 0, 0, 0]
    assert turns[0].copied == (3,)


def test_null_rules_take_turns_on_responses_only_where_asked() -> None:
    script = replace(SMALL, null_cycle="on_response")
    turns = converse(script, [s.split() for s in ("U c k .", "U z .", "U z .", "U z .")])
    assert [turn.reply[1] for turn in turns] == ["t", "m", "v", "x"]


@given(st.integers(0, 200))
def test_the_queue_is_first_in_first_out_and_transcripts_split_back(seed: int) -> None:
    script = random_script(seed)
    turns = converse(script, random_sentences(script, 25, seed))
    out = [turn.dequeued for turn in turns if turn.dequeued is not None]
    assert out == list(range(len(out)))
    tokens = transcript(turns)
    assert split_turns(tokens) == [(turn.sentence, turn.reply) for turn in turns]
    assert sum(response_mask(tokens)) == sum(len(turn.reply) - 1 for turn in turns)


def test_other_sentences_are_refused() -> None:
    for text in ("a .", "U a", "U a . b ."):
        with pytest.raises(OptionError, match="expected 'U ... .'"):
            Interpreter(SMALL).respond(text.split())
    with pytest.raises(OptionError, match="begins with"):
        split_turns(["U", "."])
    with pytest.raises(OptionError, match="in turn"):
        split_turns(["$", "U", "a", "."])
