"""What fits a model's prompt, and how sentences are tied to what was in it."""

from __future__ import annotations

import sys

import pytest
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer
from cases.tokenizers import chat_tokenizer

from glassworks.errors import OptionError
from glassworks.foundations.generation import LocalModel, ServerModel
from glassworks.retrieval.attribution import lexical_entailment
from glassworks.retrieval.grounding import (
    Support,
    checked_question,
    fused_prompt,
    prompt_room,
    sources_of,
    stop_texts,
    takes_system_role,
    token_counter,
)
from glassworks.retrieval.passages import Passage, Retrieved

FOUND = [Retrieved(Passage(f"d{n}#0", f"d{n}", f"Fact {n} is told here.", start=5 * n), 1.0 / n, n) for n in (1, 2, 3)]


def local(*, chat: bool = True, positions: int = 600) -> LocalModel:
    model = tiny_model("llama", vocab_size=BYTE_VOCABULARY, max_position_embeddings=positions)
    return LocalModel(model, byte_tokenizer(chat=chat))


def test_a_local_model_counts_exactly_and_a_server_estimates_high() -> None:
    model, server = local(), ServerModel("http://127.0.0.1:9", "m")
    messages = [{"role": "user", "content": "What is the capital of Kenya?"}]
    assert token_counter(model)(messages) == len(model.encode(messages))
    assert token_counter(server)(messages) >= 12
    assert token_counter(server)("x" * 30) == 26
    assert prompt_room(model, 64) == 600 - 64
    assert 1000 < prompt_room(server, 64) < sys.maxsize


def test_a_prompt_is_cut_to_the_models_context() -> None:
    small = local(positions=200)
    fused = fused_prompt("What?", FOUND, small, 16)
    assert fused.tokens <= 200 - 16
    assert fused.dropped
    assert fused_prompt("What?", [], small, 16).passages == ()


def test_a_template_without_system_messages_gets_the_instruction_in_the_users() -> None:
    model = LocalModel(tiny_model("llama", vocab_size=400, max_position_embeddings=600), chat_tokenizer("gemma"))
    assert not takes_system_role(model)
    assert takes_system_role(local())
    for found in ([], FOUND):
        (message,) = fused_prompt("What?", found, model, 16).prompt
        assert isinstance(message, dict)
        assert message["content"].startswith("Answer the question")
        assert message["content"].endswith("Question: What?")


def test_sources_keep_number_score_and_place() -> None:
    fused = fused_prompt("What?", FOUND, local(), 16)
    sources = sources_of(fused, FOUND)
    assert [(s.number, s.document_id, s.start) for s in sources] == [(1, "d3", 15), (2, "d2", 10), (3, "d1", 5)]
    assert sources[2].score == 1.0


def test_support_cites_after_the_fact_or_reads_marks() -> None:
    fused = fused_prompt("What?", FOUND, local(), 16)
    judged = Support(lexical_entailment(), 0.6).attribute("Fact 2 is told.", fused, "What?")
    assert [c.number for s in judged for c in s.citations] == [2]
    read = Support(lexical_entailment(), 0.6, marked=True).attribute("Fact 2 is told [1].", fused, "What?")
    assert [c.number for s in read for c in s.citations] == [1]


def test_base_models_stop_at_the_line() -> None:
    assert stop_texts(local(chat=False)) == ("\n",)
    assert stop_texts(local()) == ()


def test_an_empty_question_is_refused() -> None:
    assert checked_question(" a? \n") == "a?"
    with pytest.raises(OptionError, match="question"):
        checked_question("\t")
