"""Prompts read for decoding: remembered parts, draft probabilities, masks, and models without probabilities."""

import pytest
import torch
from cases.byte_models import local

from glassworks.foundations.generation import Sampling
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.opened_prompts import DRAFT, OpenedPrompts, draft_ids, stepwise, suppressed_ids
from glassworks.robustness.scripted_reader import ScriptedReader


def test_a_part_of_the_last_prompts_costs_nothing() -> None:
    reading, memory = Reading(Responder(ScriptedReader(), Sampling())), OpenedPrompts()
    first = memory.read(reading, ["a", "b", "a", "c"])
    assert first.places == [0, 1, 0, 2]
    assert reading.responder.calls == 3
    assert memory.read(reading, ["c", "a"]).places == [2, 0]
    assert reading.responder.calls == 3
    assert memory.read(reading, ["c", "d"]).places == [0, 1]
    assert reading.responder.calls == 5
    other = Reading(Responder(ScriptedReader(), Sampling()))
    memory.read(other, ["c"])
    assert other.responder.calls == 1, "another model has read nothing yet"


def test_the_draft_is_scored_as_a_continuation_of_every_row() -> None:
    model = local()
    prompts = [[{"role": "user", "content": text}] for text in ("Why?", "What is glass?")]
    opened = OpenedPrompts().read(Reading(Responder(model, Sampling())), prompts)
    for prompt, values in zip(prompts, opened.drafted, strict=True):
        expected = model.score(prompt, [DRAFT])[0]
        assert expected.token_ids == draft_ids(model)
        assert values == pytest.approx(list(expected.token_log_probs), abs=1e-6)
    # Probing leaves the state where it was.
    torch.testing.assert_close(opened.state.log_probs, model.next_token_log_probs(prompts))


def test_late_abstentions_are_masked() -> None:
    assert suppressed_ids(ScriptedReader(), 257) == (ord("\n"), ord("I"))


def test_a_model_without_probabilities_is_refused_with_advice() -> None:
    class Words:
        name, chat = "words", True

    with pytest.raises(TypeError, match="keyword"):
        stepwise(Words())  # type: ignore[arg-type]
