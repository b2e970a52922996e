"""What a model is measured on: conversations as the script's turns, fingerprints, and data refused before weights."""

from pathlib import Path

import pytest
from cases.eliza_data import compiled_folder, data_folder

from glassworks.eliza.interpreter import transcript
from glassworks.eliza.trial import open_trial
from glassworks.errors import DataNotFound
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
