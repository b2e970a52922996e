"""Published result files: a heat map's cells read back from PDF, effective sizes from a grid, and files that are none.

The figures are drawn here in the published format; on a copy of the release itself the last cells are 9 (MNLI) and
6 (QQP) of 144 heads.
"""

import json
from pathlib import Path

import pytest
import torch
from cases.joint_figures import draw_joint_figure, table_of_144
from matplotlib.figure import Figure

from glassworks.circuits.published_results import effective_sizes_of, read_grid, read_joint_figure, read_steps
from glassworks.errors import DataNotFound, MalformedRecord


def test_cells_of_a_heat_map_come_back(tmp_path: Path) -> None:
    draw_joint_figure(table_of_144(), tmp_path / "f.pdf")
    found = read_joint_figure(tmp_path / "f.pdf")
    assert torch.equal(found, table_of_144())
    assert int(found[-1, -1]) == 9  # the core


def test_effective_sizes_of_a_grid(tmp_path: Path) -> None:
    grid = {
        seed: {"500": {"20": {"id": 0.80 + extra, "ood": 0.5}, "50": {"id": 0.79 + extra, "ood": 0.4}}, "900": {}}
        for seed, extra in (("42", 0.0), ("43", 0.02))
    }  # fmt: skip
    (tmp_path / "grid.json").write_text(json.dumps(grid))
    (tmp_path / "whole.json").write_text(json.dumps({"500": {"id": 0.82, "ood": 0.45}}))
    found, whole = read_grid(tmp_path / "grid.json"), read_steps(tmp_path / "whole.json")
    # In domain 80 % and 50 % of seed 43 pass (above .79), only 80 % of seed 42: (80 + 50) / 2. Out of domain: .5 > .42.
    assert effective_sizes_of(found, whole, ("id",)) == {500: (65, 65)}
    assert effective_sizes_of(found, whole, ("ood",)) == {500: (80, 80)}
    with pytest.raises(MalformedRecord, match="lacks .*'hans'"):
        effective_sizes_of(found, whole, ("id", "hans"))


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no figure"):
        read_joint_figure(tmp_path / "none.pdf")
    (tmp_path / "text.pdf").write_text("no PDF")
    with pytest.raises(MalformedRecord, match="is no PDF"):
        read_joint_figure(tmp_path / "text.pdf")
    Figure().savefig(tmp_path / "empty.pdf")
    with pytest.raises(MalformedRecord, match="no numbers"):
        read_joint_figure(tmp_path / "empty.pdf")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(MalformedRecord, match="expected seed"):
        read_grid(tmp_path / "list.json")
    with pytest.raises(DataNotFound, match="no result file"):
        read_steps(tmp_path / "none.json")
