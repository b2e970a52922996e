"""The generator: thirty balanced subcases, its claims about each sentence, seeds, and the text release's fields."""

import re
from collections import Counter
from pathlib import Path

import pytest

from glassworks.circuits import hans
from glassworks.circuits.hans import FIELDS, SUBCASES, hans_pairs_a_case, hans_rows, write_hans_text
from glassworks.errors import OptionError

ROWS = hans_rows(40)
LISTS = (hans.NOUNS, hans.TRANSITIVE, hans.INTRANSITIVE, hans.CLAUSE_OR_OBJECT, hans.PARTICIPLES, hans.OPTIONAL_OBJECT)
CONTENT = {word for words in LISTS for word in words}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_thirty_subcases_half_of_them_entailed() -> None:
    assert len(SUBCASES) == 30
    assert Counter(row["case"] for row in ROWS) == dict.fromkeys(SUBCASES, 40)
    assert Counter(row["label"] for row in ROWS) == {0: 600, 1: 600}
    assert all((row["label"] == 0) == (row["case"][1] == "e") for row in ROWS)
    assert Counter(name[:2] for name in SUBCASES) == dict.fromkeys(("ln", "le", "sn", "se", "cn", "ce"), 5)
    assert set(hans.PAPER_CASES) <= set(SUBCASES)


def test_hypotheses_take_all_words_from_the_premise() -> None:
    for row in ROWS:
        assert set(words(row["text_pair"])) <= set(words(row["text"])), row
        assert row["text"].endswith(" .")
        assert row["text"][0].isupper()


def test_subsequences_and_constituents_are_contiguous() -> None:
    for row in ROWS:
        if row["case"][0] in "sc":
            premise, hypothesis = " ".join(words(row["text"])), " ".join(words(row["text_pair"]))
            assert f" {hypothesis} " in f" {premise} ", row


def test_no_content_word_twice_and_no_pair_twice() -> None:
    for row in ROWS:
        lemmas = [
            word.removesuffix("s") if word.removesuffix("s") in hans.NOUNS else word for word in words(row["text"])
        ]
        assert max(Counter(lemma for lemma in lemmas if lemma in CONTENT).values()) == 1, row
    assert len({(row["text"], row["text_pair"]) for row in ROWS}) == len(ROWS)


def test_roles_are_right_in_cases_that_can_be_read_off() -> None:
    for row in ROWS:
        premise, hypothesis = row["text"].lower(), row["text_pair"].lower()
        if row["case"] == "le_passive":
            patient, verb, agent = re.fullmatch(r"(.+) (?:was|were) (\w+) by (.+) \.", premise).groups()  # type: ignore[union-attr]
            assert hypothesis == f"{agent} {verb} {patient} ."
            assert ("were" in premise) == patient.endswith("s")
        if row["case"] == "ln_subject/object_swap":
            a, verb, b = re.fullmatch(r"(the \w+) (\w+) (the \w+) \.", premise).groups()  # type: ignore[union-attr]
            assert hypothesis == f"{b} {verb} {a} ."


def test_same_seed_same_pairs_other_seed_others() -> None:
    assert hans_rows(3) == hans_rows(3)
    assert hans_rows(3) != hans_rows(3, seed=1)
    assert hans_rows(2, cases=("ln_passive",)) == [row | {"pairID": f"ex{i}"} for i, row in enumerate(
        row for row in hans_rows(2) if row["case"] == "ln_passive")]  # fmt: skip


def test_the_full_size_is_reached_in_every_case() -> None:
    assert len(hans_rows(1000)) == 30_000


def test_text_release_has_the_published_fields(tmp_path: Path) -> None:
    write_hans_text(tmp_path / "hans.txt", ROWS[:2])
    header, first, _ = (tmp_path / "hans.txt").read_text().splitlines()
    assert header.split("\t") == list(FIELDS)
    fields = dict(zip(FIELDS, first.split("\t"), strict=True))
    assert (fields["gold_label"], fields["pairID"], fields["heuristic"]) == ("non-entailment", "ex0", "lexical_overlap")
    assert (fields["sentence1"], fields["sentence2"]) == (ROWS[0]["text"], ROWS[0]["text_pair"])


def test_faults() -> None:
    assert (hans_pairs_a_case("hans"), hans_pairs_a_case("hans:7")) == (1000, 7)
    with pytest.raises(OptionError, match="no number of pairs"):
        hans_pairs_a_case("hans:many")
    with pytest.raises(OptionError, match="at least 1"):
        hans_rows(0)
