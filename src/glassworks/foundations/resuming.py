"""Checkpoints that are taken up again only if they are whole.

transformers writes a checkpoint file by file under its final name, and takes the folder with the highest step for
the last one: a process killed while saving leaves a folder that looks like a checkpoint. Here a list of the
files and their sizes is written into the folder, last and atomically; without it, or with a file missing or of
another size, the folder is no checkpoint. Input: the folder of a training. Output: the last whole checkpoint.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from glassworks.errors import RunError
from glassworks.foundations.files import files_below, write_json

WHOLE = "whole.json"
"""The list of a checkpoint's files; its presence says that all of them were written."""

_log = logging.getLogger(__name__)
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def checkpoints(folder: Path) -> dict[int, Path]:
    """Every folder below `folder` that is named as a checkpoint, whole or not, by step, in order of steps."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def fault(checkpoint: Path) -> str:
    """Why a folder is not a whole checkpoint; empty if it is one."""
    try:
        sizes: dict[str, int] = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return f"{WHOLE} is missing: saving was interrupted"
    for name, size in sizes.items():
        file = checkpoint / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{name} has {size} bytes in {WHOLE} and {'is missing' if found is None else found} on disk"
    return ""


def last_whole_checkpoint(folder: str | Path) -> Path | None:
    """The whole checkpoint with the highest step below `folder`, or None. Others are named in the log."""
    for _step, path in sorted(checkpoints(Path(folder)).items(), reverse=True):
        reason = fault(path)
        if not reason:
            return path
        _log.warning("%s is not taken up: %s", path, reason)
    return None


def check_whole(checkpoint: str | Path) -> Path:
    """The folder, if it is a whole checkpoint. Raises RunError, naming what is wrong."""
    path = Path(checkpoint)
    reason = fault(path)
    if reason:
        last = last_whole_checkpoint(path.parent)
        remedy = f"Resume from {last}." if last else "Start the training again."
        raise RunError(reason, place=str(path), remedy=remedy)
    return path


class WholeCheckpoints(TrainerCallback):
    """Writes the list of files when all processes have saved, and withdraws that of steps trained anew."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Checkpoints of later steps will be written over: half old and half new must not pass for whole."""
        if state.is_world_process_zero:
            for step, path in checkpoints(Path(args.output_dir or ".")).items():
                if step > state.global_step:
                    (path / WHOLE).unlink(missing_ok=True)
        _wait_for_all()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Each process has written its own files (random states, shards) before process 0 lists them."""
        _wait_for_all()
        if state.is_world_process_zero:
            folder = Path(args.output_dir or ".") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            files = files_below(folder, skip={WHOLE})
            write_json(folder / WHOLE, {name: file.stat().st_size for name, file in files})
        _wait_for_all()


def _wait_for_all() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
