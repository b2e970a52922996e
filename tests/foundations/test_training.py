"""The trainer: the same result for every split, process count and interruption; and its stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases.interruptions import SAVING, At, Killed, dropping, kill
from cases.tiny_models import tiny_model
from cases.train_two_processes import BATCH, STEPS, examples, outcome, trainer
from torch.nn import functional as F

from glassworks.errors import EmptyResponse, NonFiniteLoss, OptionError
from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.packing import Group, PackingCollator
from glassworks.foundations.resuming import WHOLE, last_whole_checkpoint
from glassworks.foundations.runs import Run
from glassworks.foundations.training import check_precision, training_arguments

TESTS = Path(__file__).resolve().parents[1]


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=1e-5)
    for name, weight in one["weights"].items():
        assert (weight - other["weights"][name]).abs().max() < 1e-5, name


@pytest.fixture(scope="module")
def whole_batch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    trained = trainer(tmp_path_factory.mktemp("whole"), micro_batch=BATCH)
    trained.train()
    return outcome(trained)


def token_mean(model: torch.nn.Module, groups: list[Group]) -> float:
    """The mean cross-entropy over all predicted tokens, one sequence at a time."""
    total, count = 0.0, 0
    for group in groups:
        ids = torch.tensor([group.continuations[0]])
        logits = model(input_ids=ids).logits[0, :-1]
        total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return total / count


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_the_split_into_micro_batches_changes_nothing(
    micro_batch: int, whole_batch: dict[str, Any], tmp_path: Path
) -> None:
    trained = trainer(tmp_path, micro_batch=micro_batch)
    trained.train()
    assert len(whole_batch["losses"]) == STEPS
    agree(outcome(trained), whole_batch)


def test_the_loss_is_the_mean_over_the_tokens_of_the_step(tmp_path: Path) -> None:
    one = trainer(tmp_path, micro_batch=2, train_sampling_strategy="sequential", max_steps=1)
    expected = token_mean(one.model, examples()[:BATCH])
    one.train()
    assert one.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *launch, "-m", "cases.train_two_processes", str(folder)],
        cwd=TESTS, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = torch.load(folder / "results.pt")
    return results


def test_two_processes_train_as_one(two_processes: dict[str, Any], whole_batch: dict[str, Any]) -> None:
    agree(two_processes["ddp"], whole_batch)


def test_two_sharded_processes_train_as_one(two_processes: dict[str, Any], whole_batch: dict[str, Any]) -> None:
    assert two_processes["sharded"] == len(whole_batch["weights"]), "not every weight was sharded"
    agree(two_processes["fsdp"], whole_batch)


def test_a_sharded_training_resumes_exactly(two_processes: dict[str, Any]) -> None:
    for name, weight in two_processes["fsdp"]["weights"].items():
        assert torch.equal(weight, two_processes["resumed"]["weights"][name]), name


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    dropping(tmp_path / "whole").train()
    with pytest.raises(Killed):
        dropping(tmp_path / "cut", callbacks=[At("on_step_end", 5, kill)]).train()
    # Killed while checkpoint-4 was being completed: it must be done again from checkpoint-2.
    (tmp_path / "cut" / "checkpoint-4" / WHOLE).unlink()
    resumed = dropping(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    last = [tmp_path / name / "checkpoint-6" for name in ("whole", "cut")]
    files = {file.name for file in last[0].iterdir()} - {"training_args.bin"}  # holds the path of its folder
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= files
    for file in sorted(files):
        assert (last[0] / file).read_bytes() == (last[1] / file).read_bytes(), file
    assert resumed.state.global_step == 6


def test_resuming_without_a_checkpoint_starts(tmp_path: Path) -> None:
    started = trainer(tmp_path / "none", max_steps=1)
    started.train(resume_from_checkpoint=True)
    assert started.state.global_step == 1


@torch.no_grad()
def spoil(model: torch.nn.Module) -> None:
    model.model.norm.weight[0] = float("nan")


def test_nan_stops_before_the_update_and_names_step_and_checkpoint(tmp_path: Path) -> None:
    spoilt = trainer(tmp_path, **SAVING, callbacks=[At("on_step_begin", 3, spoil)])
    untouched: list[torch.Tensor] = []
    spoilt.add_callback(At("on_step_begin", 3, lambda model: untouched.append(model.lm_head.weight.detach().clone())))
    with pytest.raises(NonFiniteLoss, match=r"^step 4: the loss is nan.*checkpoint-2"):
        spoilt.train()
    assert torch.equal(untouched[0], spoilt.model.lm_head.weight)
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_an_infinite_gradient_of_a_finite_loss_stops_too(tmp_path: Path) -> None:
    exploding = trainer(tmp_path)
    exploding.model.lm_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteLoss, match="step 1"):
        exploding.train()


def updates(dtype: torch.dtype) -> tuple[float, float]:
    """Share of weights moved and mean displacement after 50 steps of one sign at learning rate 1e-6."""
    weights = torch.nn.Parameter((torch.randn(200_000) * 0.02).to(dtype))
    start = weights.detach().clone()
    optimiser = torch.optim.AdamW([weights], lr=1e-6, weight_decay=0.0)
    for _ in range(50):
        weights.grad = torch.ones_like(weights)
        optimiser.step()
    moved = (weights.detach() - start).double()
    return float((moved != 0).double().mean()), float(moved.abs().mean())


def test_bf16_weights_hardly_move_at_a_small_learning_rate() -> None:
    share, displacement = updates(torch.bfloat16)
    assert share == pytest.approx(0.020, abs=0.003)
    assert displacement == pytest.approx(1.3e-6, rel=0.3)
    assert updates(torch.float32) == pytest.approx((1.0, 5.0e-5), rel=0.01)


def test_bf16_fine_tuning_at_such_a_rate_is_refused() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    with pytest.raises(OptionError, match="bfloat16 and the learning rate is 1e-06.*float32"):
        check_precision(model, 1e-6)
    check_precision(model, 1e-5)
    check_precision(tiny_model("llama", dtype=torch.float32), 1e-6)
    check_precision(model.requires_grad_(False), 1e-6)


def test_mixed_precision_keeps_fp32_weights(tmp_path: Path, whole_batch: dict[str, Any]) -> None:
    mixed = trainer(tmp_path, bf16=True)
    seen: list[torch.dtype] = []
    mixed.model.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    mixed.train()
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}
    assert outcome(mixed)["losses"] == pytest.approx(whole_batch["losses"], rel=0.02)


def test_evaluation_weighs_every_token_alike(tmp_path: Path) -> None:
    for batch in (3, 8):
        evaluated = trainer(tmp_path, per_device_eval_batch_size=batch)
        figures = evaluated.evaluate(examples()[:10])
        assert figures["eval_loss"] == pytest.approx(token_mean(evaluated.model, examples()[:10]), rel=1e-5)


def test_padded_batches_give_the_loss_of_packed_ones(tmp_path: Path) -> None:
    padded = trainer(tmp_path)
    groups = examples()[:4]
    packed = PackingCollator(48)(groups)
    longest = max(g.tokens() for g in groups)
    ids, labels = torch.zeros(4, longest, dtype=torch.long), torch.full((4, longest), IGNORED)
    for row, group in enumerate(groups):
        ids[row, : group.tokens()] = labels[row, : group.tokens()] = torch.tensor(group.continuations[0])
    batch = {"input_ids": ids, "labels": labels, "attention_mask": (labels != IGNORED).long()}
    assert padded.count_items(batch) == padded.count_items(packed)
    expected = padded.summed_loss(padded.model, packed).loss.item()
    assert padded.summed_loss(padded.model, batch).loss.item() == pytest.approx(expected, rel=1e-5)
    several_rows = PackingCollator(max(g.tokens() for g in groups))(groups)
    assert len(several_rows["packed"].input_ids) > 1 == len(packed["packed"].input_ids)
    assert padded.summed_loss(padded.model, several_rows).loss.item() == pytest.approx(expected, rel=1e-5)


def test_of_a_single_row_only_the_logits_that_are_scored_are_computed(tmp_path: Path) -> None:
    tried, shapes = trainer(tmp_path), []
    group = Group([[3, 4, 5], [6, 7, 8]], [1, 2, 3, 4], labels=[[IGNORED, 4, 5], [IGNORED, IGNORED, 8]])
    tried.model.lm_head.register_forward_hook(lambda module, given, logits: shapes.append(logits.shape))  # type: ignore
    tried.summed_loss(tried.model, PackingCollator()([group]))
    assert [shape[:2] for shape in shapes] == [(1, 3)]


def test_a_step_without_anything_to_predict_is_refused(tmp_path: Path) -> None:
    empty = trainer(tmp_path)
    empty.train_dataset = [Group([[5, 6]], labels=[[IGNORED, IGNORED]]) for _ in range(BATCH)]
    with pytest.raises(EmptyResponse, match="step 1"):
        empty.train()


def test_metrics_go_to_the_run_once_a_step_and_nothing_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def learn(out: str) -> None: ...

    folder = tmp_path / "run"
    with pytest.raises(Killed), Run.start(folder, learn, {"out": str(folder)}) as run:
        trainer(folder / "steps", run=run, **SAVING, callbacks=[At("on_step_end", 4, kill)]).train()
    with Run.start(folder, learn, {"out": str(folder)}) as run:
        trainer(folder / "steps", run=run, **SAVING).train(resume_from_checkpoint=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{STEPS}/{STEPS}" in printed.err
    assert "loss=" in printed.err


def test_two_checkpoints_are_kept_at_least(tmp_path: Path) -> None:
    assert training_arguments(tmp_path, device="cpu", save_total_limit=1).save_total_limit == 2
    assert training_arguments(tmp_path, device="cpu").save_total_limit is None
