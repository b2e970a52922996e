"""Trials: delivery into list and corpus, resumption after a kill, and the count of broken certificates."""

import dataclasses
from pathlib import Path

from glassworks.foundations.generation import Sampling
from glassworks.robustness.aggregators import KeywordAggregator
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.question_sets import RobustQuestion
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions
from glassworks.robustness.trials import TRIALS, Attacks, Trial, deliver, run_trials

QUESTIONS = synthetic_questions(4, k=6)


def trials_of(path: Path, model: ScriptedReader) -> list[Trial]:
    reading = Reading(Responder(model, Sampling()), k=6)
    given = deliver(QUESTIONS, Attacks("pia, blank"), list, 6, 0)
    return run_trials(QUESTIONS, reading, KeywordAggregator(), given, [0, 1], "injection", path / TRIALS)


def test_delivery() -> None:
    for kind, count in (("insert", 6), ("overwrite", 6)):
        found = deliver(QUESTIONS, Attacks("pia", 1, kind, "first"), list, 6, 0)["pia"]["q0"]  # type: ignore[arg-type]
        assert len(found) == count
        assert found[0].document_id == "hostile-pia-0-q0"
    corpus = [passage for question in QUESTIONS for passage in question.passages]
    found = deliver(QUESTIONS, Attacks("poisonedrag", 1, "corpus"), lambda: corpus, 6, 0)["poisonedrag"]["q1"]
    assert "hostile-poisonedrag-0-q1" in {passage.document_id for passage in found}
    assert found[-1] in corpus


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
    assert trial.violations("injection", "insert") == 0
    wrong = {name: dataclasses.replace(one, robust_right=False) for name, one in trial.attacks.items()}
    broken = dataclasses.replace(trial, attacks=wrong, certified={"0": True, "1": True})
    assert broken.violations("injection", "insert") == 2
    assert broken.violations("injection", "overwrite") == 0
    assert dataclasses.replace(broken, certified={"0": True, "1": False}).violations("injection", "insert") == 0


def test_multiple_choice(tmp_path: Path) -> None:
    asked = RobustQuestion("c", "Which?", ("x",), "y", QUESTIONS[0].passages, ("x", "y"), 0)
    reading = Reading(Responder(ScriptedReader(), Sampling()), k=6)
    (trial,) = run_trials([asked], reading, KeywordAggregator(), {}, [0], "injection", tmp_path / TRIALS)
    assert not trial.robust_right
