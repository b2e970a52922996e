"""The verb: from a checkpoint and rows to a trained checkpoint with evidence; killed and taken up; refused early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases.aligned_runs import preference_checkpoint, preference_rows
from cases.tokenizers import chat_tokenizer

from glassworks.errors import InvalidPair, OptionError, UnknownName
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.foundations.runs import Run, is_intact
from glassworks.preference import train as module
from glassworks.preference.pairs import PairFormat
from glassworks.preference.train import Adapter, Optimisation, align
from glassworks.preference.trial import Trial

FAST = Optimisation(learning_rate=3e-3, batch_size=8, micro_batch_size=4, max_steps=6, save_steps=2)
REWARD = Trial("glassworks.preference.brevity:brief_and_certain", prompts=3, max_new_tokens=6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preference_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preference_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl")


def test_a_split_of_its_own_is_measured_on_and_not_trained_on(checkpoint: str, data: str, tmp_path: Path) -> None:
    rows = Path(data).read_text().splitlines(keepends=True)
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "train.jsonl").write_text("".join(rows[:32]))
    (tmp_path / "pairs" / "test.jsonl").write_text("".join(rows[32:]))
    splits = PairFormat(split="train", test_split="test")
    run = align(checkpoint, str(tmp_path / "pairs"), str(tmp_path / "run"), pairs=splits, optimisation=FAST)
    accuracy = figures(run)["reward_accuracy"]
    assert accuracy.n == 8
    assert "trained on 32 pairs" in accuracy.setting
    with pytest.raises(UnknownName, match="absent"):
        align(checkpoint, str(tmp_path / "pairs"), str(tmp_path / "none"), pairs=PairFormat(test_split="absent"))


def figures(run: Run) -> dict[str, Any]:
    return {item.metric: item for item in run.evidence}


def test_simpo_learns_the_preference_and_leaves_a_standard_checkpoint(
    checkpoint: str, data: str, tmp_path: Path
) -> None:
    run = align(checkpoint, data, str(tmp_path / "run"), optimisation=FAST, trial=REWARD, held_out=0.25)
    assert is_intact(run.path)
    found = figures(run)
    assert found["margin_gain"].value > 0.05
    assert found["margin_gain"].interval[0] > 0
    assert found["reward_accuracy"].n == 10
    assert found["held_out_win_rate"].n == 3
    assert (run.path / "figures" / "reward_margins.svg").exists()
    assert not (run.path / "checkpoints").exists()
    trained = load_model(str(run.path / "model"))
    assert load_tokenizer(str(run.path / "model")).chat_template == chat_tokenizer("zephyr").chat_template
    start = load_model(checkpoint)
    assert any(not torch.equal(a, b) for a, b in zip(start.parameters(), trained.parameters(), strict=True))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["rewards/accuracies"] is not None


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_methods_with_a_reference_start_from_it(method: str, checkpoint: str, data: str, tmp_path: Path) -> None:
    one = Optimisation(learning_rate=3e-3, batch_size=8, micro_batch_size=8, max_steps=1, save_steps=0)
    run = align(checkpoint, data, str(tmp_path / "run"), method=method, optimisation=one)
    first = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    expected = {"dpo": 0.6931472, "kto": 0.5}[method]
    assert first["loss"] == pytest.approx(expected, abs=1e-4)
    assert (run.path / "reference.safetensors").exists()


def test_an_adapter_is_merged_into_the_checkpoint(checkpoint: str, data: str, tmp_path: Path) -> None:
    run = align(checkpoint, data, str(tmp_path / "run"), optimisation=FAST, adapter=Adapter(rank=4))
    names = {name for name, _ in load_model(str(run.path / "model")).named_parameters()}
    assert names == {name for name, _ in load_model(checkpoint).named_parameters()}
    assert figures(run)["margin_gain"].value > 0


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    checkpoint: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = align(checkpoint, data, str(tmp_path / "whole"), optimisation=FAST)
    original = module.PreferenceTrainer.training_step
    calls = 0

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module.PreferenceTrainer, "training_step", dying)
        with pytest.raises(KeyboardInterrupt):
            align(checkpoint, data, str(tmp_path / "cut"), optimisation=FAST)
    assert not is_intact(tmp_path / "cut")
    cut = align(checkpoint, data, str(tmp_path / "cut"), optimisation=FAST)
    one, other = (load_model(str(run.path / "model")) for run in (whole, cut))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    assert figures(whole)["margin_gain"].value == pytest.approx(figures(cut)["margin_gain"].value, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"method": "simp0"}, UnknownName, "simpo"),
        ({"settings": {"gamma": 1.0, "gamma_beta_ratio": 0.5}}, OptionError, "two ways"),
        ({"optimisation": Optimisation(batch_size=6, micro_batch_size=4)}, OptionError, "multiple of"),
        ({"trial": Trial("glassworks.preference.brevity:nothing")}, OptionError, "cannot be imported"),
        ({"adapter": Adapter(rank=-1)}, OptionError, "rank and alpha of at least 0"),
        (
            {"adapter": Adapter(rank=4), "optimisation": Optimisation(batch_size=8, fsdp=True)},
            OptionError,
            "sharded",
        ),
        ({"held_out": 1.0}, OptionError, "held_out"),
        ({"device": "tpu"}, OptionError, "unknown device"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(
    options: dict[str, Any], error: type[Exception], says: str, checkpoint: str, data: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        align(checkpoint, data, str(tmp_path / "run"), **options)
    assert not (tmp_path / "run").exists()


def test_a_broken_row_is_named_before_a_weight_is_read(checkpoint: str, data: str, tmp_path: Path) -> None:
    rows = Path(data).read_text().splitlines()
    broken = json.loads(rows[16])
    broken["rejected"] = broken["chosen"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join([*rows[:16], json.dumps(broken), *rows[17:]]) + "\n")
    with pytest.raises(InvalidPair, match="row 17: chosen and rejected are the same"):
        align(checkpoint, str(file), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
