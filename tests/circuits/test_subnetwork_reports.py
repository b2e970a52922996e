"""Cores from files of names, and figures of the official release drawn and checked from its own files."""

import json
from pathlib import Path

import pytest
import torch
from cases.joint_figures import draw_joint_figure, table_of_144

from glassworks.circuits.subnetwork_reports import core_of_subnetworks, plot_subnetworks
from glassworks.circuits.subnetwork_runs import read_accuracies
from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.evidence import read_evidence
from glassworks.report.figures import find_figures


def test_a_core_of_files_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a0.h0 a0.h1 a0.h3\na0.h0 a0.h2 a0.h3\na0.h0 a0.h1\n")
    run = core_of_subnetworks(str(tmp_path / "names.txt"), str(tmp_path / "core"), shape="1x4")
    about = json.loads((run.path / "core.json").read_text())
    assert about["core"] == ["a0.h0"]
    assert about["frequency"] == [pytest.approx([1, 2 / 3, 1 / 3, 2 / 3])]
    assert about["chance"] == pytest.approx(1.125)
    with pytest.raises(OptionError, match="how large the model is"):
        core_of_subnetworks(str(tmp_path / "names.txt"), str(tmp_path / "x"))


def test_accuracies_in_columns_are_drawn(tmp_path: Path) -> None:
    official = tmp_path / "sp50.json"
    columns = {"seed": ["original", "42", "43"], "sparsity": [0.0, 0.46, 0.46], "mnli-matched": [0.83, 0.82, 0.8],
               "ln": [0.9, 0.1, 0.3]}  # fmt: skip
    official.write_text(json.dumps(columns))
    assert read_accuracies(official)["42"] == {"46": {"mnli-matched": 0.82, "ln": 0.1}}
    run = plot_subnetworks(str(official), str(tmp_path / "plot"))
    assert sorted(item.value for item in read_evidence(run.path)) == pytest.approx([0.2, 0.81])
    assert len(find_figures(run.path)) == 2


def test_means_are_over_the_cases_that_a_row_has(tmp_path: Path) -> None:
    rows = {"original": {"0": {"ln": 0.9, "cn": 0.7}}, "42": {"50": {"ln": 0.4}}, "43": {"50": {"ln": 0.2, "cn": 0.4}}}
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    run = plot_subnetworks(str(tmp_path / "metrics.json"), str(tmp_path / "plot"))
    (claim,) = read_evidence(run.path)
    assert (claim.value, claim.n) == (pytest.approx((0.4 + 0.3) / 2), 2)


def test_the_core_of_a_published_figure(tmp_path: Path) -> None:
    draw_joint_figure(table_of_144(), tmp_path / "frequencies.pdf")
    run = plot_subnetworks(str(tmp_path / "frequencies.pdf"), str(tmp_path / "plot"))
    (claim,) = read_evidence(run.path)
    assert (claim.value, claim.n) == (9, 24)
    rows, columns = (float((table_of_144().sum(at) * torch.arange(13)).sum()) / 12 for at in (1, 0))
    assert claim.baseline == pytest.approx(144 * (rows / 144) ** 12 * (columns / 144) ** 12)
    assert [figure.stem for figure in find_figures(run.path)] == ["joint-frequency"]


def test_effective_sizes_of_the_release(tmp_path: Path) -> None:
    row = {"validation": 0.8, "hans": 0.5}
    (tmp_path / "grid.json").write_text(json.dumps({"42": {"500": {"20": row, "50": row | {"hans": 0.1}}}}))
    (tmp_path / "whole.json").write_text(json.dumps({"500": {"validation": 0.82, "hans": 0.5}}))
    run = plot_subnetworks(str(tmp_path / "grid.json"), str(tmp_path / "plot"), whole=str(tmp_path / "whole.json"))
    assert {item.claim: item.value for item in read_evidence(run.path)} == {
        "Effective size in domain at step 500": 50, "Effective size out of domain at step 500": 80,
    }  # fmt: skip


def test_a_missing_file_stops_before_a_folder_is_made(tmp_path: Path) -> None:
    for name in ("none.pdf", "none.json"):
        with pytest.raises(DataNotFound):
            plot_subnetworks(str(tmp_path / name), str(tmp_path / "plot"))
    assert not (tmp_path / "plot").exists()
