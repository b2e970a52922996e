"""Preference training by two processes: each of three methods under DDP, one under FSDP2.

    cd tests && torchrun --standalone --nproc-per-node 2 -m cases.preference_two_processes FOLDER

Process 0 writes losses and weights of each training to FOLDER/results.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from cases.preference_pairs import preference_trainer
from cases.train_two_processes import outcome

METHODS = ("simpo", "cpo", "kto")
"""One by pair alone, one with a token mean over the step, one with an estimate over the step's mismatched pairs."""

STEPS = 2


def main(folder: Path) -> None:
    """Train each method under DDP and SimPO under FSDP2."""
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"micro_batch": 2, "processes": 2, "disable_tqdm": True, "max_steps": STEPS}
    results = {}
    for method in METHODS:
        trainer = preference_trainer(folder / method, method=method, **settings)
        trainer.train()
        results[method] = outcome(trainer)  # type: ignore[arg-type]
    sharded = preference_trainer(folder / "fsdp", fsdp=True, fsdp_config={"version": 2}, **settings)
    sharded.train()
    results["fsdp"] = outcome(sharded)  # type: ignore[arg-type]
    if sharded.is_world_process_zero():
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    distributed.destroy_process_group()  # a process that ends with open connections is sometimes aborted
