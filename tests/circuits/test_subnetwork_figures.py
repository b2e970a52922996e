"""Pictures of subnetworks say in words what they show, and are there only when there is something to show."""

from pathlib import Path

import torch

from glassworks.circuits.heuristic_core import EffectiveSize
from glassworks.circuits.subnetwork_figures import (
    draw_ablations,
    draw_effective_sizes,
    draw_frequency,
    draw_joint,
    draw_sparsity,
    draw_spread,
)
from glassworks.report.figures import find_figures

TABLE = {
    "original": {"0": {"mnli": 0.9, "swap_hard": 0.8}},
    "42": {"50": {"mnli": 0.85, "swap_hard": 0.1}},
    "43": {"50": {"mnli": 0.86, "swap_hard": 0.5}},
}


def texts(folder: Path) -> dict[str, str]:
    return {figure.stem: figure.read_text(encoding="utf-8") for figure in find_figures(folder)}


def test_every_seed_is_a_dot_beside_the_whole_model(tmp_path: Path) -> None:
    draw_spread(tmp_path, TABLE, ["mnli", "swap_hard", "absent"])
    draw_spread(tmp_path, TABLE, ["swap_hard"], "AUC")
    found = texts(tmp_path)
    assert set(found) == {"accuracy-50", "auc-50"}
    assert "swap hard: 0.10 to 0.50" in found["accuracy-50"]
    assert "reference-1" in found["accuracy-50"]
    assert "absent" not in found["accuracy-50"]
    assert "seed by seed: AUC" in found["auc-50"]


def test_accuracy_against_sparsity_starts_at_the_whole_model(tmp_path: Path) -> None:
    draw_sparsity(tmp_path, TABLE, {"in domain": ["mnli"], "out of domain": ["swap_hard"], "none": []})
    (text,) = texts(tmp_path).values()
    assert "in domain: 0.90 at 0 %, 0.85 at 50 %" in text or "in domain: 0.90 at 0 %, 0.86 at 50 %" in text
    assert "out of domain: 0.80 at 0 %, 0.30 at 50 %" in text


def test_heat_maps_say_what_is_shared(tmp_path: Path) -> None:
    draw_frequency(tmp_path, torch.tensor([[1.0, 0.5], [0.0, 1.0]]), 2)
    draw_joint(tmp_path, torch.tensor([[3, 0], [1, 2]]), "30 %", "50 %")
    draw_ablations(tmp_path, torch.tensor([[1.0, 3.0]]))
    found = texts(tmp_path)
    assert "Every subnetwork keeps 2 heads; none keeps 1." in found["frequency"]
    assert "2 heads are in all subnetworks of both sparsities, 3 in none" in found["joint-frequency"]
    assert "The largest loss is 3.0 points, the mean 2.0." in found["ablations"]


def test_no_sizes_no_picture(tmp_path: Path) -> None:
    draw_effective_sizes(tmp_path, {"in domain": {}})
    assert not find_figures(tmp_path)
    draw_effective_sizes(tmp_path, {"in domain": {10: EffectiveSize(50, 50), 20: EffectiveSize(35, 65)}})
    assert "in domain: 50 % at step 10, 35 % at step 20" in texts(tmp_path)["effective-size"]
