"""The trainer: the plain computation's losses and weights, whatever the split, layout or method; and its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases.preference_pairs import BATCH, STEPS, examples_of, plain_pairs, preference_trainer, token_pairs
from cases.preference_two_processes import METHODS
from cases.tiny_models import tiny_model

from glassworks.errors import OptionError
from glassworks.preference.losses import LOSSES, method_of
from glassworks.preference.trainer import Example, PairCollator, PreferenceTrainer, mismatched_pairs


def outcome(trainer: PreferenceTrainer) -> dict[str, Any]:
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    return {"losses": [line["loss"] for line in trainer.state.log_history if "loss" in line], "weights": weights}


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=1e-5, abs=1e-5)
    for name, weight in one["weights"].items():
        assert (weight - other["weights"][name]).abs().max() < 2e-5, name


def plain_training(steps: int, learning_rate: float, order: list[int], **settings: float) -> list[float]:
    """SimPO by full logits of one sequence at a time, AdamW, constant rate; the loss of each step."""
    model, pairs = tiny_model("llama", dtype=torch.float32, num_hidden_layers=2), token_pairs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for step in range(steps):
        start = step * BATCH % len(pairs)
        batch = [pairs[at] for at in order[start : start + BATCH]]
        loss = method_of("simpo").function(plain_pairs(model, batch), **settings).losses.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_twenty_steps_follow_a_plain_implementation(tmp_path: Path) -> None:
    trainer = preference_trainer(
        tmp_path,
        settings={"beta": 2.0, "gamma": 1.0},
        max_steps=20,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    expected = plain_training(20, 1e-3, list(range(STEPS * BATCH)), beta=2.0, gamma=1.0)
    assert outcome(trainer)["losses"] == pytest.approx(expected, abs=1e-4)
    assert expected[-1] < expected[0] - 0.1  # it learns, so agreement is not that of two standstills


@pytest.mark.parametrize("method", sorted(LOSSES))
def test_the_split_into_micro_batches_changes_nothing(method: str, tmp_path: Path) -> None:
    results = []
    for micro_batch in (8, 2):
        trainer = preference_trainer(tmp_path / str(micro_batch), method=method, micro_batch=micro_batch, max_steps=2)
        trainer.train()
        results.append(outcome(trainer))
    agree(*results)


def test_two_processes_change_nothing(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "cases.preference_two_processes", str(tmp_path)],
        cwd=tests,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = torch.load(tmp_path / "results.pt")
    for method in METHODS:
        alone = preference_trainer(tmp_path / f"{method}-alone", method=method, max_steps=2)
        alone.train()
        agree(outcome(alone), results[method])
        if method == "simpo":
            agree(outcome(alone), results["fsdp"])


def test_layout_changes_nothing(tmp_path: Path) -> None:
    results = []
    for name, collator in {
        "shared": PairCollator(),
        "apart": PairCollator(share_prefix=False),
        "wide": PairCollator(budget=120),
    }.items():
        trainer = preference_trainer(tmp_path / name, trainer={"data_collator": collator}, max_steps=2)
        trainer.train()
        results.append(outcome(trainer))
    agree(results[0], results[1])
    agree(results[0], results[2])


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    results = []
    for checkpointing in (False, True):
        trainer = preference_trainer(tmp_path / str(checkpointing), gradient_checkpointing=checkpointing, max_steps=2)
        trainer.train()
        results.append(outcome(trainer))
    agree(*results)


def test_logged_keys_and_their_meaning(tmp_path: Path) -> None:
    pairs = token_pairs(8)
    trainer = preference_trainer(
        tmp_path, examples=examples_of(pairs), settings={"beta": 2.0, "gamma": 1.0}, max_steps=1
    )
    plain = plain_pairs(trainer.model, pairs)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["logps/chosen"] == pytest.approx(plain.chosen_means.mean().item(), rel=1e-5)
    assert logged["rewards/rejected"] == pytest.approx(2 * plain.rejected_means.mean().item(), rel=1e-5)
    wins = (plain.chosen_means > plain.rejected_means).float().mean().item()
    assert logged["rewards/accuracies"] == pytest.approx(wins)
    assert logged["rewards/margins"] == pytest.approx(logged["rewards/chosen"] - logged["rewards/rejected"], rel=1e-4)
    lengths = [len(pair.chosen_ids) for pair in pairs]
    assert logged["lengths/chosen"] == pytest.approx(sum(lengths) / 8)


def test_kto_takes_its_mean_over_mismatched_pairs_of_the_whole_step(tmp_path: Path) -> None:
    pairs = token_pairs(8)
    model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=2)
    others = [pair._replace(chosen_ids=other) for pair, other in zip(pairs, mismatched_pairs(pairs), strict=True)]
    with torch.no_grad():
        sums, own = plain_pairs(model, others).chosen, plain_pairs(model, pairs)
    examples = [
        Example(pair, own.chosen[i].item(), own.rejected[i].item(), other, sums[i].item() - 1.0)
        for i, (pair, other) in enumerate(zip(pairs, mismatched_pairs(pairs), strict=True))
    ]
    trainer = preference_trainer(
        tmp_path, method="kto", examples=examples, model=model, micro_batch=2, settings={"beta": 0.5}, max_steps=1
    )
    trainer.train()
    z = 1.0  # every reference sum lies 1 below the policy's
    expected = 1 - (torch.sigmoid(torch.tensor(-0.5 * z)) + torch.sigmoid(torch.tensor(0.5 * z))).item() / 2
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_a_method_with_a_reference_refuses_pairs_without(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="pair 0: dpo compares with a reference"):
        preference_trainer(tmp_path, method="dpo", examples=examples_of(token_pairs(8)))


def test_a_wrong_setting_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="setting of simpo"):
        preference_trainer(tmp_path, settings={"tau": 1.0})


def test_evaluation_weighs_each_pair_alike(tmp_path: Path) -> None:
    pairs = token_pairs(7)
    trainer = preference_trainer(tmp_path, method="cpo", trainer={"eval_dataset": examples_of(pairs)})
    trainer.args.per_device_eval_batch_size = 3
    result = trainer.evaluate()
    with torch.no_grad():
        expected = method_of("cpo").function(plain_pairs(trainer.model, pairs)).losses.mean().item()
    assert result["eval_loss"] == pytest.approx(expected, rel=1e-5)
