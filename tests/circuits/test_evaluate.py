"""Circuits of other tools and graphs are opened or refused."""

from pathlib import Path

import pytest
from cases.circuit_problems import truth, written

from glassworks.circuits.evaluate import open_circuit
from glassworks.errors import GraphMismatch, MalformedRecord
from glassworks.foundations.circuit_files import write_circuit, write_eap, write_edges
from glassworks.foundations.graph import Graph


def test_every_format_opens_as_the_same_circuit(tmp_path: Path) -> None:
    for name, write in (
        ("a.json", write_circuit),
        ("edges.json", write_edges),
        ("eap.json", write_eap),
        ("eap.pt", write_eap),
    ):
        write(tmp_path / name, truth())
        assert open_circuit(str(tmp_path / name), written().graph).same_edges(truth())
    with pytest.raises(MalformedRecord, match="names no graph"):
        open_circuit(str(tmp_path / "edges.json"))
    with pytest.raises(GraphMismatch, match="3 layers"):
        open_circuit(str(tmp_path / "a.json"), Graph(3, 4, 4))
