"""Scripts of the synthetic ELIZA: matching by hand, both file formats, refusals with place and remedy."""

import logging
from pathlib import Path

import pytest
from cases.eliza import SMALL
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.random_scripts import random_script
from glassworks.eliza.script import Script, captures, covers, from_csv, match, parse_script, read_script, write_script
from glassworks.errors import DataNotFound, MalformedRecord, OptionError


def test_matching_is_greedy_from_the_left() -> None:
    template, sentence = ["U", "0", "a", "0", "b", "."], ["U", "d", "a", "e", "a", "f", "b", "."]
    ends = match(template, sentence)
    assert ends == [0, 2, 7]
    assert captures(template, sentence, ends) == {1: (1, 2), 3: (3, 6)}
    assert match(template, ["U", "b", "a", "."]) is None
    assert match(["U", "a", "0", "a", "."], ["U", "a", "."]) is None
    assert match(["U", "a", "b", "."], ["U", "a", "b", "."]) == [3]


@given(st.lists(st.sampled_from("ab"), max_size=7).map(tuple), st.integers(0, 30))
def test_a_match_rebuilds_the_sentence(words: tuple[str, ...], seed: int) -> None:
    for template in random_script(seed).templates:
        sentence = ("U", *words, ".")
        ends = match(template, sentence)
        if ends is not None:
            spans = captures(template, sentence, ends)
            rebuilt = [w for at, t in enumerate(template) for w in (sentence[slice(*spans[at])] if t == "0" else [t])]
            assert tuple(rebuilt) == sentence


@given(st.integers(0, 60))
def test_text_round_trip(seed: int) -> None:
    script = random_script(seed, null_cycle="on_response" if seed % 2 else "on_input")
    assert parse_script(write_script(script)) == script


def test_official_csv() -> None:
    text = (
        "template_id,transformation_id,template,transformation,lengths,num_copies,type\n"
        "0,0,U c 0 .,E t u .,,0,transformation\n1,0,U 0 .,E v w .,,0,none\n2,0,U c 0 .,E m n 2 .,,1,memory\n"
    )
    script = from_csv(text)
    assert script.memory == 0
    assert script.dequeue == (("E", "m", "n", 2, "."),)
    with pytest.raises(MalformedRecord, match=r"script.csv:2: expected the columns"):
        from_csv("a,b\n1,2\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("U a 0\n", r"s:1:1: expected 'U ... .', received 'U a 0'"),
        ("U a 0 .\n  E p 1 .\n", r"s:2:3: 1 in 'E p 1 .' is no wildcard of 'U a 0 .'. Its wildcards are 2"),
        ("  E p .\n", r"s:1:3: expected a template \(U ... .\)"),
        ("U 0 0 .\n", "s:1:1: two wildcards beside each other"),
        ("null_cycle never\n", "s:1:1: expected on_input or on_response"),
        ("memory U a 0 .\n E p .\nmemory U b 0 .\n", "s:3:1: expected one memory template"),
    ],
)
def test_errors_are_placed(text: str, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        parse_script(text, "s")


def test_scripts_that_cannot_run_are_refused() -> None:
    with pytest.raises(OptionError, match="the last template is to be"):
        Script((("U", "a", "."),), ((("E", "b", "."),),))
    with pytest.raises(OptionError, match="expected a memory template"):
        Script(SMALL.templates, SMALL.rules, memory=2, dequeue=SMALL.dequeue)
    with pytest.raises(OptionError, match="no rule"):
        Script(SMALL.templates, (SMALL.rules[0], (), SMALL.rules[2]))
    with pytest.raises(DataNotFound, match="nowhere"):
        read_script("nowhere.eliza")


def test_a_shadowed_template_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert covers(["U", "0", "a", "0", "."], ["U", "b", "a", "0", "."])
    assert not covers(["U", "0", "a", "0", "."], ["U", "b", "0", "."])
    with caplog.at_level(logging.WARNING):
        parse_script("U 0 a 0 .\n E p .\nU b a 0 .\n E q .\nU 0 .\n E r .\n")
    assert "template 2 ('U b a 0 .') never answers" in caplog.text


def test_a_template_without_rules_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "s.eliza"
    file.write_text("U a .\n    E y .\nU 0 .\n", encoding="utf-8")
    with pytest.raises(MalformedRecord, match="no rule") as caught:
        read_script(file)
    assert caught.value.place == f"{file}, template 2"
