"""What a model is measured on: conversations as the script's turns, fingerprints, and data refused before weights."""

import shutil
from pathlib import Path

import pytest
from cases.eliza_data import compiled_folder, data_folder

from glassworks.eliza.compile_verb import tokenizer_of
from glassworks.eliza.interpreter import transcript
from glassworks.eliza.train import VOCABULARY, Shape, without_positions
from glassworks.eliza.trial import open_trial
from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence


def test_a_trial() -> None:
    trial = open_trial(compiled_folder("count"), data_folder(), "test", 3, "cpu")
    assert [tuple(transcript(turns)) for turns in trial.conversations] == [example.tokens for example in trial.examples]
    stamped = trial.stamp(Evidence("eliza", "claim", "metric", 1.0))
    assert stamped.data_sha == file_sha(f"{data_folder()}/test.csv")
    assert stamped.model_sha


def test_data_are_read_before_weights(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"script\.csv"):
        open_trial("no such model", str(tmp_path), "test", 3, "cpu")


def test_faults_of_the_data_are_placed_by_row(tmp_path: Path) -> None:
    for name in ("script.csv", "args.json", "test.csv"):
        shutil.copy(Path(data_folder()) / name, tmp_path)
    file = tmp_path / "test.csv"
    lines = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([*lines[:2], lines[2].replace(" E ", " E q ", 1)]), encoding="utf-8")
    with pytest.raises(MalformedRecord, match="not the script's reply") as caught:
        open_trial("no such model", str(tmp_path), "test", 3, "cpu")
    assert caught.value.place == f"{file}:3, turn 1"
    (tmp_path / "args.json").write_text("{", encoding="utf-8")
    with pytest.raises(MalformedRecord, match=r"args\.json: not JSON"):
        open_trial("no such model", str(tmp_path), "test", 3, "cpu")


def test_a_conversation_longer_than_the_model_reads_is_refused(tmp_path: Path) -> None:
    without_positions(Shape(1, 1, 4), 8).save_pretrained(tmp_path)
    tokenizer_of(VOCABULARY).save_pretrained(tmp_path)
    with pytest.raises(OptionError, match=r"test\.csv:2: a conversation of \d+ tokens, the model reads 8"):
        open_trial(str(tmp_path), data_folder(), "test", 3, "cpu")
