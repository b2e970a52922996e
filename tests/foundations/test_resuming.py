"""A checkpoint is whole or it is none, however it was cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.interruptions import At, Killed, dropping, kill

from glassworks.errors import RunError
from glassworks.foundations.resuming import check_whole, last_whole_checkpoint


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
