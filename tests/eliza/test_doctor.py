"""The grammar of 1966: what each construct becomes, and errors that say line, column and what was expected."""

import pytest

from glassworks.eliza.doctor import AnyOf, Link, NewKey, Pre, Say, Tagged, parse_doctor, read_doctor
from glassworks.eliza.scripts import SCRIPTS
from glassworks.errors import DataNotFound, MalformedRecord

NONE = "(NONE ((0) (GO ON)))"
PAIRS = "(0 = A 1) (0 = B) (0 = C) (0 = D)"


def test_every_construct() -> None:
    script = parse_doctor(
        "(HELLO THERE) START (ME = YOU) (MUM = MOTHER 2 DLIST(/NOUN KIN)) (HOW (=WHAT)) (WHAT ((0) (OH 1) (NEWKEY)))"
        "(I = YOU 3 ((0 YOU (* A B) 1 (/KIN)) (=WHAT) (PRE (X 3) (=WHAT))) (=HOW)) " + NONE + f"(MEMORY I {PAIRS}) ()"
    )
    assert script.opening == "HELLO THERE"
    assert script.rules["ME"].substitute == "YOU"
    assert not script.rules["ME"].is_keyword
    assert (script.rules["MUM"].rank, script.tags) == (2, {"NOUN": {"MUM"}, "KIN": {"MUM"}})
    assert script.rules["HOW"].link == "WHAT"
    assert script.rules["WHAT"].transformations[0].reassemblies == (Say(("OH", 1)), NewKey())
    rule = script.rules["I"].transformations[0]
    assert rule.decomposition == (0, "YOU", AnyOf(frozenset("AB")), 1, Tagged(frozenset({"KIN"})))
    assert rule.reassemblies == (Link("WHAT"), Pre(("X", 3), "WHAT"))
    assert script.memory is not None
    assert script.memory.pairs[0].reassemblies == (Say(("A", 1)),)
    assert script.keywords == ["HOW", "WHAT", "I"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HELLO", "s:1:1: expected the opening remark, a list of words, found 'HELLO'"),
        ("(HI)\n(A ((0)))" + NONE, "s:2:4: expected a reassembly after the decomposition"),
        ("(HI)\n(A B)" + NONE, "s:2:4: expected =, a rank, DLIST, a transformation or a link, found 'B'"),
        ("(HI)\n(A (=B))" + NONE, "s:2:6: expected a keyword of the script, found 'B'"),
        ("(HI)\n(A ((0) (PRE (B))))" + NONE, r"s:2:9: expected \(PRE \(words\) \(=KEY\)\)"),
        ("(HI) (A ((0) (X))) (A ((0) (X)))" + NONE, "s:1:21: the keyword A is given a second time"),
        ("(HI) (MEMORY A (0 = B))" + NONE, "s:1:6: expected 4 pairs of MEMORY, found 1"),
        (f"(HI) (MEMORY A {PAIRS})" + NONE, "s:1:14: expected a keyword that can decide a reply, found 'A'"),
        (f"(HI) (A = B) (MEMORY A {PAIRS})" + NONE, "s:1:22: expected a keyword that can decide a reply, found 'A'"),
        ("(HI) (A DLIST KIN)" + NONE, r"s:1:15: expected a list of tags \(/...\), found 'KIN'"),
        ("(HI)\n(A ((0 (B)) (X)))" + NONE, r"s:2:8: expected \(\*WORD ...\) or \(/TAG ...\)"),
        ("(HI) (A ((0) (X)))", "expected a rule .NONE"),
    ],
)
def test_errors_are_placed(text: str, message: str) -> None:
    with pytest.raises(MalformedRecord, match=message):
        parse_doctor(text, "s")


def test_the_shipped_script_uses_the_whole_format() -> None:
    script = read_doctor(SCRIPTS / "counsellor.txt")
    actions = {
        type(action)
        for rule in script.rules.values()
        for transformation in rule.transformations
        for action in transformation.reassemblies
    }
    assert len(script.keywords) >= 30
    assert actions == {Say, Link, NewKey, Pre}
    assert script.memory is not None


def test_no_such_file() -> None:
    with pytest.raises(DataNotFound, match="nowhere.txt"):
        read_doctor("nowhere.txt")
