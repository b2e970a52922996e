"""Edits by hand: what is replaced, and what each mechanism would say."""

import random

from cases.eliza import SMALL

from glassworks.eliza.counterfactuals import cycling_edit, edits, memory_edit
from glassworks.eliza.interpreter import converse
from glassworks.eliza.random_scripts import random_script, random_sentences


def test_a_cycling_edit() -> None:
    turns = converse(SMALL, [s.split() for s in ("U d a f b .", "U a e b .", "U z .")])
    edit = cycling_edit(SMALL, turns, random.Random(0))
    assert edit is not None
    assert " ".join(edit.prompt) == "$ U d a f b . E r s d y f . U a e b . E"
    assert (" ".join(edit.same), " ".join(edit.other)) == ("E r s y e .", "E p q e .")


def test_a_memory_edit() -> None:
    turns = converse(SMALL, [s.split() for s in ("U c g .", "U c h .", "U z .", "U z .", "U a b .")])
    edit = memory_edit(SMALL, turns, random.Random(0))
    assert edit is not None
    assert " ".join(edit.prompt) == "$ U c g . E t u . U c h . E t u . U z . E v w . U z . E"
    assert (" ".join(edit.same), " ".join(edit.other)) == ("E m n h .", "E m n g .")


def test_conversations_without_a_place_for_an_edit_are_left_out() -> None:
    assert edits(SMALL, [converse(SMALL, [("U", "z", ".")])], "cycling") == []
    assert edits(SMALL, [converse(SMALL, [("U", "z", ".")])], "memory_queue") == []


def test_the_two_answers_differ() -> None:
    script = random_script(2)
    talks = [converse(script, random_sentences(script, 15, seed)) for seed in range(20)]
    for edit in [*edits(script, talks, "cycling"), *edits(script, talks, "memory_queue")]:
        assert edit.same != edit.other
        assert edit.prompt[-1] == "E"
