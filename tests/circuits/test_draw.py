"""Only the highest edges where a number is given."""

from pathlib import Path

import pytest
import torch
from cases.circuit_problems import truth

from glassworks.circuits.draw import draw_circuit
from glassworks.errors import OptionError
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.circuit_files import write_circuit


def test_cut_to_the_highest_scores(tmp_path: Path) -> None:
    graph = truth().graph
    write_circuit(tmp_path / "c.json", Circuit.from_scores(graph, torch.rand(graph.exists.shape), 20))
    run = draw_circuit(str(tmp_path / "c.json"), str(tmp_path / "out"), edges=7)
    assert run.evidence[0].value == 7
    with pytest.raises(OptionError, match="edges: expected at least 1, received 0"):
        draw_circuit(str(tmp_path / "c.json"), str(tmp_path / "none"), edges=0)
    write_circuit(tmp_path / "t.json", truth())
    with pytest.raises(OptionError, match="no scores"):
        draw_circuit(str(tmp_path / "t.json"), str(tmp_path / "other"), edges=2)
