"""Isolated reading: abstention, groups by content, one call for all questions, and the same tokens with and without
reuse of beginnings."""

import random
from pathlib import Path

import pytest
from cases.byte_models import local

from glassworks.errors import OptionError
from glassworks.foundations.generation import Sampling
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.samples import Ledger
from glassworks.robustness.isolation import (
    Reading,
    Responder,
    abstention,
    choice_letter,
    cut_response,
    group_number,
    unit_budget,
    units_of,
)
from glassworks.robustness.prompts import PromptTemplates
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions

PASSAGES = [Passage(f"d{n}#0", f"d{n}", f"Fact number {n} is {n * n}.") for n in range(12)]
TEMPLATE = PromptTemplates("Read the passage with care and answer with as few words as you can. ", (("a?", "b"),))


def test_abstention_is_about_the_whole_response() -> None:
    abstains = abstention()
    for text in ("I don't know.", "I don’t know", "No information found", "Unknown", "", "I'm sorry, I cannot answer"):
        assert abstains(text), text
    for text in ("I don't Want to Miss a Thing", "Nowhere Man", "Nairobi"):
        assert not abstains(text), text
    assert abstention(["none"])("NONE")
    with pytest.raises(OptionError, match="abstention"):
        abstention(["("])


def test_letters_and_cuts() -> None:
    assert [choice_letter(text) for text in ("A. x", " B.", "E. no", "Ab", "")] == ["A", "B", None, None, None]
    assert cut_response("one\ntwo\n \nthree") == "one\ntwo"


def test_a_passage_moves_no_other_passage_to_another_group() -> None:
    groups = units_of(PASSAGES, 4)
    assert sorted(p.id for unit in groups for p in unit) == sorted(p.id for p in PASSAGES)
    hostile = Passage("x#0", "x", "hostile")
    changed = units_of([*PASSAGES[:3], hostile, *PASSAGES[3:]], 4)
    differing = [n for n in range(4) if changed[n] != groups[n]]
    assert differing == [group_number(hostile, 4)]


@pytest.mark.parametrize("threat", ["injection", "modification"])
def test_no_attack_alters_more_groups_than_the_budget_says(threat: str) -> None:
    draw = random.Random(0)
    for trial in range(200):
        k, budget = 8, draw.choice([1, 2])
        base = unit_budget(PASSAGES[:k], 5, k=k, budget=budget, threat=threat)  # type: ignore[arg-type]
        hostile = [Passage(f"x{n}#0", f"x{n}", f"hostile {trial} {n}") for n in range(draw.randint(0, budget))]
        top = list(PASSAGES[:k])
        for passage in hostile:
            at = draw.randrange(k)
            top = [*top[:at], passage, *top[at + (threat == "modification") :]][:k]
        found = units_of(top, 5)
        assert sum(a != b for a, b in zip(found, base.units, strict=True)) <= base.budget


def test_one_call_reads_all_questions_and_the_ledger_remembers(tmp_path: Path) -> None:
    model, questions = ScriptedReader(), synthetic_questions(3, k=4)
    reading = Reading(Responder(model, Sampling(), ledger=Ledger(tmp_path / "said.jsonl")), k=4)
    reading.prepare([(q.text, q.passages) for q in questions])
    asked = model.asked
    said = [reading.responses(q.text, reading.units(q.passages)) for q in questions]
    assert model.asked == asked == reading.responder.calls
    again = Reading(Responder(ScriptedReader(), Sampling(), ledger=Ledger(tmp_path / "said.jsonl")), k=4)
    assert [again.responses(q.text, again.units(q.passages)) for q in questions] == said
    assert again.responder.calls == 0


@pytest.mark.parametrize("invariant", [True, False])
def test_reuse_of_beginnings_and_batching_change_no_token(invariant: bool) -> None:
    def responses(prefix_tokens: int, together: bool) -> list[str]:
        model = local(batch_invariant=invariant, prefix_tokens=prefix_tokens)
        reading = Reading(Responder(model, Sampling(max_new_tokens=8)), TEMPLATE, k=6)
        units = reading.units(PASSAGES)
        if together:
            return reading.responses("Which?", units)
        return [reading.responses("Which?", [unit])[0] for unit in units]

    assert responses(0, False) == responses(512, False) == responses(512, True) == responses(0, True)


def test_random_answers_and_impossible_settings_are_refused() -> None:
    with pytest.raises(OptionError, match="temperature"):
        Responder(ScriptedReader(), Sampling(temperature=0.5))
    for field in ("k", "characters"):
        with pytest.raises(OptionError, match=field):
            Reading(Responder(ScriptedReader(), Sampling()), **{field: 0})
