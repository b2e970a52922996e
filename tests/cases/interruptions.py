"""Things that happen to a training at one step, the end of its process among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from cases.tiny_models import tiny_model
from cases.train_two_processes import trainer
from transformers import TrainerCallback

SAVING = {"save_strategy": "steps", "save_steps": 2}


class At(TrainerCallback):
    """Does something at one step of the training; `event` is a callback's name."""

    def __init__(self, event: str, step: int, act: Any) -> None:
        setattr(self, event, lambda args, state, control, **kw: act(kw["model"]) if state.global_step == step else None)


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(model: torch.nn.Module) -> None:
    """End the training here."""
    raise Killed


def dropping(folder: Path, **settings: Any) -> Any:
    """A trainer whose result depends on the random state too: the model drops out."""
    model = tiny_model("gpt2", dtype=torch.float32, n_layer=1, resid_pdrop=0.2)
    return trainer(folder, model=model, max_steps=6, **SAVING, **settings)
