"""Runs side by side: differences that can be counted by hand, and only runs that can be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cases.aligned_runs import preference_checkpoint, preference_rows

from glassworks.errors import DataNotFound, OptionError
from glassworks.preference.compare import TABLE, Finished, prefs_compare, reward_differences
from glassworks.preference.train import Optimisation, align
from glassworks.preference.trial import Trial

FAST = Optimisation(learning_rate=3e-3, batch_size=4, micro_batch_size=4, max_steps=1, save_steps=0)
REWARD = Trial("glassworks.preference.brevity:brief_and_certain", prompts=3, max_new_tokens=4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    model = preference_checkpoint(folder / "model")
    data = preference_rows(folder / "pairs.jsonl", 16)
    made = []
    for beta in (1.0, 2.0):
        out = str(folder / f"beta-{beta}")
        align(model, data, out, settings={"beta": beta}, optimisation=FAST, trial=REWARD, held_out=0.3)
        made.append(out)
    other = str(folder / "other-split")
    align(model, data, other, optimisation=FAST, trial=REWARD, held_out=0.5)
    return [*made, other]


def test_runs_that_differ_in_a_setting_are_compared(runs: list[str], tmp_path: Path) -> None:
    run = prefs_compare(runs[:2], str(tmp_path / "run"), by="settings.beta")
    table = (run.path / TABLE).read_text().splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == ["| simpo (beta 1.0)", "| simpo (beta 2.0)"]
    rewards = [
        [json.loads(line)["reward"] for line in (Path(one) / "samples.jsonl").read_text().splitlines()]
        for one in runs[:2]
    ]
    expected = sum(b - a for a, b in zip(*rewards, strict=True)) / 3
    assert run.evidence[0].value == pytest.approx(expected)
    assert run.evidence[0].n == 3
    figures = {path.stem for path in (run.path / "figures").iterdir()}
    assert figures >= {"by_setting", "held_out_win_rate", "reward_accuracy"}


def test_differences_are_paired_and_corrected() -> None:
    def one(label: str, *rewards: float) -> Finished:
        return Finished(label, {}, {}, {str(at): value for at, value in enumerate(rewards)})

    found = reward_differences([one("a", 0, 0, 0, 0, 0, 0), one("b", 1, 1, 1, 1, 1, 1), one("c", 1, -1, 1, -1, 1, -1)])
    assert [item.value for item in found] == [1.0, 0.0]
    # all six signs alike: 2 of 64 patterns are as extreme; twice that after Holm
    assert found[0].setting.startswith("p = 0.0625 ")
    assert reward_differences([one("a", 0, 0), one("b", 1)]) == []


def test_unequal_runs_are_refused(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="has held_out = 0.5"):
        prefs_compare([runs[0], runs[2]], str(tmp_path / "a"))
    with pytest.raises(DataNotFound, match="no finished run of align"):
        prefs_compare([runs[0], str(tmp_path)], str(tmp_path / "b"))
    with pytest.raises(OptionError, match="at least two"):
        prefs_compare(runs[:1], str(tmp_path / "c"))
    with pytest.raises(OptionError, match=r"settings\.gamma"):
        prefs_compare(runs[:2], str(tmp_path / "d"), by="settings.gamma")
