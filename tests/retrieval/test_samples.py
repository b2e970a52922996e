"""The ledger: keys that change with what is asked, lines that survive a kill, nothing generated twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.retrieval.attribution import lexical_entailment
from glassworks.retrieval.fusion_input import closed_book
from glassworks.retrieval.grounding import Support
from glassworks.retrieval.passages import Passage, Retrieved
from glassworks.retrieval.questions import Question
from glassworks.retrieval.samples import Generated, Ledger, answer_both_ways, generate_all, prompt_key

OPTIONS = Sampling(max_new_tokens=3)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(
        tiny_model("llama", vocab_size=BYTE_VOCABULARY, max_position_embeddings=600), byte_tokenizer(chat=False)
    )


def test_a_key_names_prompt_options_and_model() -> None:
    keys = {
        prompt_key("a", OPTIONS, "m"),
        prompt_key("b", OPTIONS, "m"),
        prompt_key("a", Sampling(max_new_tokens=4), "m"),
        prompt_key("a", OPTIONS, "n"),
    }
    assert len(keys) == 4
    assert prompt_key("a", Sampling(max_new_tokens=3), "m") in keys


def test_the_ledger_is_read_back_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    entry = Generated("k", "text\nof é", 3, 2, 0.5)
    Ledger(path).add([entry])
    with path.open("ab") as file:
        file.write('{"key": "é'.encode()[:-1])
    ledger = Ledger(path)
    assert ledger.entries == {"k": entry}
    ledger.add([Generated("l", "", 1, 0, 0.1)])
    assert list(Ledger(path).entries) == ["k", "l"]


def test_only_what_the_ledger_lacks_is_generated(model: LocalModel, tmp_path: Path) -> None:
    prompts = {str(n): closed_book(f"Question {n}?", chat=False) for n in range(20)}
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add([Generated("7", "kept", 1, 1, 0.1)])
    found = generate_all(model, prompts, OPTIONS, ledger)
    assert found["7"].text == "kept"
    assert list(found) == list(prompts)
    assert Ledger(ledger.path).entries == found
    alone = model.generate([prompts["3"].prompt], OPTIONS)[0]
    assert found["3"].text == alone.text.strip()


def test_each_question_is_answered_with_its_own_passages(model: LocalModel, tmp_path: Path) -> None:
    questions = [Question(str(n), f"What is {n}?", answers=("x",), titles=("T1",)) for n in range(3)]
    found = [[Retrieved(Passage(f"d{n}#0", f"d{n}", "word " * 60, title=f"T{n}"), 1.0, 1)] for n in range(3)]
    found[2] = []
    samples = answer_both_ways(
        model, questions, found, Support(lexical_entailment(), 0.6), OPTIONS, Ledger(tmp_path / "l"), fingerprint="m"
    )  # fmt: skip
    assert [sample.id for sample in samples] == ["0", "1", "2"]
    assert [sample.read for sample in samples] == [("d0#0",), ("d1#0",), ()]
    assert samples[2].without == samples[2].answer
    assert samples[0].scores.keys() == samples[0].without_scores.keys() == {"accuracy", "token_f1", "exact_match"}


def test_passages_that_do_not_fit_are_counted(model: LocalModel, tmp_path: Path) -> None:
    found = [[Retrieved(Passage(f"d{n}#0", f"d{n}", "word " * 80, title="T"), 1.0, n) for n in (1, 2)]]
    (sample,) = answer_both_ways(
        model, [Question("q", "What?", answers=("x",))], found, Support(lexical_entailment(), 0.6), OPTIONS,
        Ledger(tmp_path / "l"), fingerprint="m",
    )  # fmt: skip
    assert (sample.dropped_passages, sample.shortened_passage) == (1, False)
