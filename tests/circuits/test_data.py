"""Pairs on disk."""

from pathlib import Path

from glassworks.circuits.data import circuit_data
from glassworks.circuits.tasks import read_pairs


def test_half_of_the_pairs_is_kept_to_judge_by(tmp_path: Path) -> None:
    run = circuit_data("bool", str(tmp_path / "pairs"), n=6)
    rows = list(read_pairs(str(run.path / "pairs.jsonl")))
    assert [row.split for row in rows] == ["train"] * 3 + ["validation"] * 3
