"""Decoding with models: equality with plain greedy answers, abstention scores, masks, estimates, and models without
probabilities."""

import math

import pytest
from cases.byte_models import local

from glassworks.foundations.generation import Sampling
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import answer_one, certify_answer
from glassworks.robustness.certificate import Reason, holds_answer
from glassworks.robustness.decoding_reader import DecodingAggregator, draft_score
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.opened_prompts import SUPPRESSED
from glassworks.robustness.prompts import PromptTemplates, closed_prompt
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions

TEMPLATE = PromptTemplates("Answer.", ())
PASSAGES = [Passage(f"{n}#0", str(n), text) for n, text in enumerate(["Sand melts.", "Glass is clear.", "Owls hoot."])]


@pytest.mark.parametrize("eta", [0.0, 3.0])
def test_one_passage_or_a_great_eta_is_plain_greedy(eta: float) -> None:
    model = local(prefix_tokens=0)
    reading = Reading(Responder(model, Sampling(max_new_tokens=6, stop=("\n\n",))), TEMPLATE, k=3)
    aggregator = DecodingAggregator(eta=eta, abstain_at=1.1)
    kept = PASSAGES if eta else PASSAGES[:1]
    prompt = closed_prompt(TEMPLATE, "Why?", chat=True) if eta else reading.isolated("Why?", tuple(kept))
    first = model.next_token_log_probs([prompt])[0]
    assert model.decode([int(first.argmax())]) not in SUPPRESSED  # else the mask would change it
    plain = model.generate([prompt], Sampling(max_new_tokens=6, stop=("\n\n",)))[0].text.strip()
    assert answer_one(aggregator, reading, "Why?", kept).text == (plain or "I don't know.")


def test_draft_scores() -> None:
    values = [math.log(0.5), math.log(0.8), math.log(0.9)]
    assert draft_score(values, "joint") == pytest.approx(0.36)
    assert draft_score(values, "official") == pytest.approx(0.72)
    assert draft_score(values, "mean") == pytest.approx(0.36 ** (1 / 3))


def test_passages_that_say_nothing_are_dropped() -> None:
    question = synthetic_questions(1, k=6, gold=0.0, wrong=0.0)[0]
    reading = Reading(Responder(ScriptedReader(), Sampling()), k=6)
    answer = answer_one(DecodingAggregator(), reading, question.text, question.passages)
    assert answer.abstained
    assert answer.isolated == (None,) * 6
    refused = certify_answer(
        DecodingAggregator(), reading, question.text, question.passages, 1, "injection", holds_answer(["know"])
    )
    assert refused.reason is Reason.GAP_TOO_SMALL


def test_an_estimate_is_named_so() -> None:
    question = synthetic_questions(1, k=6, gold=1.0, wrong=0.0)[0]
    reading = Reading(Responder(ScriptedReader(), Sampling()), k=6)
    found = DecodingAggregator(eta=1.0).estimate(
        reading, question.text, question.passages, 1, "injection", holds_answer(question.answers), samples=5
    )
    assert (found.reason, found.estimated_min_score, found.samples) == (Reason.ESTIMATE_ONLY, 1.0, 5)
