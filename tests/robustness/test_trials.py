"""Trials: delivery into list and corpus, resumption after a kill, and the count of broken certificates."""

import dataclasses
from pathlib import Path

import pytest
from cases.sentence_encoders import write_encoder

from glassworks.errors import OptionError, UnknownName
from glassworks.foundations.generation import Sampling
from glassworks.robustness.aggregators import KeywordAggregator
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.question_sets import RobustQuestion
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions
from glassworks.robustness.trials import TRIALS, Attacks, Trial, deliver, run_trials, target_of

QUESTIONS = synthetic_questions(4, k=6)


def trials_of(path: Path, model: ScriptedReader) -> list[Trial]:
    reading = Reading(Responder(model, Sampling()), k=6)
    given = deliver(QUESTIONS, Attacks("pia, blank"), 6, 0)
    return run_trials(QUESTIONS, reading, KeywordAggregator(), given, [0, 1], "injection", path / TRIALS)


def test_delivery() -> None:
    for kind, count in (("insert", 6), ("overwrite", 6)):
        found = deliver(QUESTIONS, Attacks("pia", 1, kind, "first"), 6, 0)["pia"]["q0"]  # type: ignore[arg-type]
        assert len(found) == count
        assert found[0].document_id == "hostile-pia-0-q0"


def test_white_box_prefixes_are_made_for_the_encoder(tmp_path: Path) -> None:
    encoder = str(write_encoder(tmp_path))
    asked = RobustQuestion("c", "the cat sat on a blue mat", ("x",), "moon", QUESTIONS[0].passages)
    found = deliver([asked], Attacks("hotflip,poison", 1), 6, 0, encoder=encoder)
    flipped, plain = found["hotflip"]["c"][-1], found["poison"]["c"][-1]
    assert flipped.text.endswith(plain.text)
    assert len(flipped.text) > len(plain.text)
    assert flipped.document_id.startswith("hostile-")


def test_attacks_are_checked() -> None:
    with pytest.raises(UnknownName, match="poison"):
        Attacks("posion").check()
    with pytest.raises(OptionError, match="count"):
        Attacks(count=0).check()
    for encoder in (None, "hashing:64"):
        with pytest.raises(OptionError, match="sentence encoder"):
            Attacks("hotflip").check(encoder)


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = trials_of(tmp_path, ScriptedReader())
    file = tmp_path / TRIALS
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    file.write_text(lines[0] + lines[1] + lines[2][:40])
    model = ScriptedReader()
    assert trials_of(tmp_path, model) == whole
    assert file.read_text() == "".join(lines)
    assert 0 < model.asked < 4 * 3 * 8


def test_broken_certificates_are_counted_but_only_within_budget_and_threat(tmp_path: Path) -> None:
    trial = trials_of(tmp_path, ScriptedReader())[0]
    assert trial.violations == 0
    assert [one.corrupted for one in trial.attacks.values()] == [1, 1]
    wrong = {name: dataclasses.replace(one, robust_right=False) for name, one in trial.attacks.items()}
    broken = dataclasses.replace(trial, attacks=wrong, certified={"0": True, "1": True})
    assert broken.violations == 2
    beyond = {name: dataclasses.replace(one, corrupted=None) for name, one in wrong.items()}
    assert dataclasses.replace(broken, attacks=beyond).violations == 0
    assert dataclasses.replace(broken, certified={"0": True, "1": False}).violations == 0
    assert dataclasses.replace(broken, certified={"0": True, "1": False, "2": True}).violations == 2


def test_a_random_place_is_one_of_each_question_s_own() -> None:
    many = synthetic_questions(20, k=6)
    delivered = deliver(many, Attacks("poison", position="random"), 6, 0)["poison"]
    places = [[p.id.startswith("hostile") for p in delivered[question.id]].index(True) for question in many]
    assert len(set(places)) > 3


def test_multiple_choice(tmp_path: Path) -> None:
    asked = RobustQuestion("c", "Which?", ("x",), "y", QUESTIONS[0].passages, ("x", "y"), 0)
    reading = Reading(Responder(ScriptedReader(), Sampling()), k=6)
    (trial,) = run_trials([asked], reading, KeywordAggregator(), {}, [0], "injection", tmp_path / TRIALS)
    assert not trial.robust_right
    assert target_of(asked)("B. y")
    assert not target_of(asked)("A. x, not y")
    free = dataclasses.replace(asked, choices=(), gold_choice=None)
    assert target_of(free)("not Y")
