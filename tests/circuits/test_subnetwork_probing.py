"""Ablations case by case equal scores of each mask, checkpoints are found by their numbers; verbs: test_subnetworks."""

from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model

from glassworks.circuits.head_masks import gated
from glassworks.circuits.sentence_pairs import Case, encode
from glassworks.circuits.subnetwork_probing import checkpoint_folders, sweep_scores
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.subnetworks import score_mask
from glassworks.circuits.toy_inference import toy_tokenizer, toy_training
from glassworks.errors import DataNotFound
from glassworks.foundations.anatomy import anatomy


def test_a_sweep_scores_as_one_mask_after_another() -> None:
    parts = anatomy(tiny_model("bert_classifier", num_labels=2), check=False)
    cases = [Case(name, tuple(toy_training(70, seed))) for seed, name in enumerate(("one", "two"))]
    encoded = {case.name: encode(case.examples, toy_tokenizer(), max_length=16) for case in cases}
    full = UnitMask.full(3, 4)
    with gated(parts, ablation="zero") as gates:
        swept = sweep_scores(gates, cases, encoded, full, ["a0.h1", "a2.mlp"])
        masks = {name: full - UnitMask.from_names([name] if name else [], 3, 4) for name in swept}
        for name, scores in swept.items():
            alone = score_mask(gates, masks[name], cases, encoded)
            for case in cases:  # margins in the cases' own order: buckets are by length
                found, expected = (torch.tensor(one.cases[case.name].margins) for one in (scores, alone))
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert set(swept) == {"", "a0.h1", "a2.mlp"}


def test_checkpoints_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for name in ("step-1000", "checkpoint-500", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-7").write_text("a file")
    assert [(step, path.name) for step, path in checkpoint_folders(str(tmp_path)).items()] == [
        (500, "checkpoint-500"), (1000, "step-1000"),
    ]  # fmt: skip
    with pytest.raises(DataNotFound, match="holds no checkpoints"):
        checkpoint_folders(str(tmp_path / "logs"))
