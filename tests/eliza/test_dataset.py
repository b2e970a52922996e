"""Data folders: read back, checked against the script, refused with file and row."""

from pathlib import Path

import pytest
from cases.eliza_data import data_folder

from glassworks.eliza.dataset import Example, read_folder_script, read_split, turns_of
from glassworks.errors import DataNotFound, MalformedRecord


def test_every_reply_is_the_scripts() -> None:
    script = read_folder_script(data_folder())
    assert script.null_cycle == "on_input"
    examples = read_split(data_folder(), "test", 5)
    assert len(examples) == 5
    for example in examples:
        assert len(turns_of(script, example)) == len(example.kinds)
    broken = Example((*examples[0].tokens[:-2], "q", "."), examples[0].kinds)
    with pytest.raises(MalformedRecord, match="is not the script's reply"):
        turns_of(script, broken)


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"test.csv: no such split"):
        read_split(tmp_path, "test")
    (tmp_path / "test.csv").write_text("input,turn_types\n$ U a . E b .,none;none\n")
    with pytest.raises(MalformedRecord, match=r"test.csv:2: 1 turns, but 2 turn types"):
        read_split(tmp_path, "test")
    (tmp_path / "test.csv").write_text("input,turn_types\nU a .,none\n")
    with pytest.raises(MalformedRecord, match=r"test.csv:2: not a conversation"):
        read_split(tmp_path, "test")
