"""Folders of subnetworks: a round trip, and files that are none."""

from pathlib import Path

import pytest
import torch

from glassworks.circuits.subnetwork_runs import load_subnetwork, read_accuracies, save_subnetwork, subnetworks_of
from glassworks.circuits.subnetwork_search import Subnetwork
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.errors import DataNotFound, MalformedRecord, OptionError


def saved(folder: Path, sha: str = "a") -> Subnetwork:
    mask = UnitMask.from_names(["a0.h1", "a1.mlp"], 2, 2)
    one = Subnetwork(mask, torch.arange(6.0).reshape(2, 3), 7, 0.35, 0.2, 0.1)
    save_subnetwork(folder, one, model="m", model_sha=sha, ablation="zero")
    return one


def test_round_trip(tmp_path: Path) -> None:
    one = saved(tmp_path)
    found, about = load_subnetwork(tmp_path / "subnetworks" / "7-0.35")
    assert found.mask == one.mask
    assert torch.equal(found.alpha, one.alpha)
    assert (found.seed, found.sparsity, found.kl, about["ablation"]) == (7, 0.35, 0.1, "zero")


def test_faults(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two", sha="b")
    with pytest.raises(OptionError, match="2 different models"):
        subnetworks_of(f"{tmp_path / 'one'},{tmp_path / 'two'}")
    with pytest.raises(DataNotFound, match="no subnetwork"):
        load_subnetwork(tmp_path)
    (tmp_path / "m.json").write_text("[1, 2]")
    with pytest.raises(MalformedRecord, match="expected seed"):
        read_accuracies(tmp_path / "m.json")
