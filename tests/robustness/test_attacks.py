"""Payloads that say what they should, and where they land: true insertion displaces, overwriting replaces."""

import pytest

from glassworks.errors import UnknownName
from glassworks.retrieval.passages import Passage
from glassworks.robustness.attacks import ATTACKS, claim, hostile_passages, insert, overwrite, payload

ASKED = "What is the capital of Kenya?"
TOP = [Passage(f"{n}#0", str(n), f"text {n}") for n in range(4)]
BAD = hostile_passages("poison", ASKED, "Lima", 2)


def names(passages: list[Passage]) -> str:
    return "".join("x" if p.id.startswith("hostile") else p.document_id for p in passages)


def test_insertion_displaces_and_keeps_the_order() -> None:
    assert names(insert(TOP, BAD[:1], k=4)) == "012x"
    assert names(insert(TOP, BAD, k=4, position="first")) == "xx01"
    assert names(insert(TOP, BAD, k=10)) == "0123xx"
    mixed = names(insert(TOP, BAD, k=4, position="random", seed=1))
    assert sorted(mixed) == sorted("01xx")
    assert mixed.replace("x", "") == "01"


def test_overwriting_replaces() -> None:
    assert names(overwrite(TOP, BAD[:1], k=4)) == "012x"
    assert names(overwrite(TOP, BAD, k=4, position="first")) == "xx23"
    assert names(overwrite(TOP[:1], BAD, k=4)) == "x"


def test_payloads() -> None:
    assert claim(ASKED, "Lima") == "The capital of Kenya is Lima."
    assert claim("When did it end?", "1945") == "The answer to the question When did it end is 1945."
    assert payload("pia", ASKED, "Lima").count("output: Lima") == 10
    assert payload("poison", ASKED, "Lima").count("Lima") == 10
    assert payload("poisonedrag", ASKED, "Lima").startswith(ASKED)
    assert "Lima" not in payload("refusal", ASKED, "Lima")
    assert len(payload("flood", ASKED, "Lima")) == 10_000
    assert payload("blank", ASKED, "Lima") == ""
    assert set(ATTACKS) == {"pia", "poison", "poisonedrag", "refusal", "template", "flood", "blank"}
    with pytest.raises(UnknownName, match="attacks"):
        payload("piA", ASKED, "Lima")
