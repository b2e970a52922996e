"""Keywords of a response: phrases, words, normal form; a set of one response alone; spaCy only where installed."""

import importlib.util
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import MissingDependency, ModelNotFound, UnknownName
from glassworks.robustness.keywords import RuleExtractor, SpacyExtractor, open_extractor, phrases_only

EXTRACT = RuleExtractor().extract


def test_phrases_words_and_the_whole() -> None:
    found = EXTRACT("Minjee Lee won the 2022 US Women's Open.")
    assert {"minjee lee", "2022 us women's open", "minjee", "lee", "2022", "open"} <= found
    assert "minjee lee won the 2022 us women's open" in found
    assert not {"the", "", "."} & found


def test_function_words_separate_and_never_count() -> None:
    assert EXTRACT("The capital of Kenya is Nairobi.") == {
        "the capital of kenya is nairobi", "capital", "kenya", "nairobi",
    }  # fmt: skip
    assert EXTRACT("I do not know.") == {"i do not know"}
    assert EXTRACT("") == frozenset()
    assert EXTRACT(" ...!? ") == frozenset()


def test_case_and_width_do_not_split_a_keyword() -> None:
    assert "nairobi" in EXTRACT("NAIROBI") & EXTRACT("Nairobi.") & EXTRACT("Ｎairobi")


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_a_set_without_empty_words_and_always_the_same(text: str) -> None:
    found = EXTRACT(text)
    assert found == EXTRACT(text)
    assert all(word.strip() and len(word) <= 4 * len(text) + 8 for word in found)


def test_only_phrases_for_long_texts() -> None:
    assert phrases_only(frozenset({"a b", "c"})) == {"a b"}


def test_extractors_by_name() -> None:
    assert open_extractor("rules").name == "rules"
    with pytest.raises(UnknownName, match="extractor"):
        open_extractor("magic")


def test_the_extra_that_an_error_names_exists() -> None:
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(line.startswith("spacy") for line in extras["optional-dependencies"]["spacy"])


def test_both_extractors_do_the_same_for_a_plain_answer() -> None:
    try:
        spacy = SpacyExtractor()
    except (MissingDependency, ModelNotFound):
        pytest.skip("no copy of spaCy and its English model is here")
    for text, words in (("Nairobi", {"nairobi"}), ("The capital is Nairobi.", {"capital", "nairobi"}), ("", set())):
        for extract in (EXTRACT, spacy.extract):
            found = extract(text)
            assert isinstance(found, frozenset)
            assert words <= found
            assert not {"", "the", "is"} & found
            assert found == extract(text)
    assert spacy.name == "spacy:en_core_web_sm"


def test_spacy_is_asked_for_by_name_and_says_what_is_missing() -> None:
    if importlib.util.find_spec("spacy") is None:
        with pytest.raises(MissingDependency, match="spacy"):
            SpacyExtractor()
    else:
        with pytest.raises(ModelNotFound, match="no-such-model"):
            SpacyExtractor("no-such-model")
