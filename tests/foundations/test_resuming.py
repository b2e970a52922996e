"""A checkpoint is whole or it is none, however it was cut."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from cases.interruptions import At, Killed, dropping, kill

from glassworks.errors import RunError
from glassworks.foundations.resuming import WHOLE, check_whole, checkpoints, fault, last_whole_checkpoint


def test_a_truncated_checkpoint_is_never_taken_for_whole(tmp_path: Path) -> None:
    dropping(tmp_path).train()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-6"
    weights = tmp_path / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    with pytest.raises(RunError, match=r"checkpoint-6: model.safetensors has .* Resume from .*checkpoint-4"):
        dropping(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    (tmp_path / "checkpoint-4" / "optimizer.pt").unlink()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    with pytest.raises(RunError, match="interrupted"):
        check_whole(tmp_path / "checkpoint-3")


def test_a_kill_while_saving_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        dropping(tmp_path, callbacks=[At("on_save", 4, kill)]).train()
    assert (tmp_path / "checkpoint-4" / "model.safetensors").exists()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_training_anew_withdraws_checkpoints_that_it_will_overwrite(tmp_path: Path) -> None:
    dropping(tmp_path).train()
    with pytest.raises(Killed):
        dropping(tmp_path, callbacks=[At("on_step_end", 3, kill)]).train()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def write_checkpoint(folder: Path, step: int, **sizes: int) -> Path:
    """A checkpoint of one file of 5 bytes, whose list says `sizes`."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(b"12345")
    (checkpoint / WHOLE).write_text(json.dumps({"weights": 5} | sizes))
    return checkpoint


def test_checkpoints_are_in_order_of_steps_and_other_folders_are_none(tmp_path: Path) -> None:
    for step in (100, 9, 20):
        write_checkpoint(tmp_path, step)
    for name in ("checkpoint-best", "checkpoint-7.tmp", "checkpoint-"):
        (tmp_path / name).mkdir()
    assert list(checkpoints(tmp_path).items()) == [(n, tmp_path / f"checkpoint-{n}") for n in (9, 20, 100)]
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert last_whole_checkpoint(tmp_path / "none") is None


def test_each_fault_says_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = write_checkpoint(tmp_path, 1)
    shorter, absent = write_checkpoint(tmp_path, 2, weights=6), write_checkpoint(tmp_path, 3, more=1)
    torn = write_checkpoint(tmp_path, 4)
    (torn / WHOLE).write_text('{"weights": ')
    assert fault(whole) == ""
    assert fault(shorter) == f"weights has 6 bytes in {WHOLE} and 5 on disk"
    assert fault(absent) == f"more has 1 bytes in {WHOLE} and is missing on disk"
    assert fault(torn) == f"{WHOLE} is missing: saving was interrupted"
    with caplog.at_level(logging.WARNING):
        assert last_whole_checkpoint(tmp_path) == whole
    assert [record.getMessage().partition(" is not")[0] for record in caplog.records] == list(
        map(str, (torn, absent, shorter))
    )
    assert check_whole(whole) == whole
    with pytest.raises(RunError, match=r"checkpoint-3: .*Resume from .*checkpoint-1\."):
        check_whole(absent)
    (whole / "weights").unlink()
    with pytest.raises(RunError, match=r"Start the training again"):
        check_whole(absent)
