"""The verb `eliza generate`: the official files, splits and columns; figures counted on what was written."""

import csv
import json
from pathlib import Path

import pytest
from cases.eliza_data import SCRIPT, TALK

from glassworks.eliza.generate import eliza_generate
from glassworks.eliza.script import read_script
from glassworks.errors import OptionError


def test_files_and_splits(tmp_path: Path) -> None:
    run = eliza_generate(str(tmp_path / "a"), 40, SCRIPT, TALK, seed=2)
    rows = {name: list(csv.DictReader((run.path / f"{name}.csv").open())) for name in ("train", "validation", "test")}
    assert {name: len(part) for name, part in rows.items()} == {"train": 20, "validation": 10, "test": 10}
    row = rows["train"][0]
    turns = len(row["turn_types"].split(";"))
    assert len(row["mask"].split()) == len(row["input"].split())
    assert all(len(row[name].split(";")) == turns for name in ("templates", "transformation_ids", "tgt_turns"))
    assert json.loads((run.path / "args.json").read_text())["max_queue_size"] == 4
    vocabulary = json.loads((run.path / "tokenizer.json").read_text())["model"]["vocab"]
    assert (vocabulary["<pad>"], vocabulary["$"], vocabulary["."], vocabulary["<unk>"]) == (0, 1, 2, 31)
    script = read_script(run.path / "script.csv")
    assert len(script.templates) == 3
    assert script.memory is not None
    figures = {item.metric: item for item in run.evidence}
    counted = sum(len(r["turn_types"].split(";")) for part in rows.values() for r in part if r["turn_types"])
    assert figures["turns"].value == counted


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    a, b = (eliza_generate(str(tmp_path / name), 12, SCRIPT, TALK, seed=3).path for name in "ab")
    assert (a / "train.csv").read_bytes() == (b / "train.csv").read_bytes()


def test_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected at least 4"):
        eliza_generate(str(tmp_path / "a"), 2)
