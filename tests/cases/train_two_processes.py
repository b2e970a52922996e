"""One small training, the same for every split of its batch, run by one process or by several.

Imported, it gives the tests their case. Launched (torchrun, accelerate launch), each process trains it under DDP
and then under FSDP2, and process 0 writes losses and weights to the folder given:

    cd tests && torchrun --standalone --nproc-per-node 2 -m cases.train_two_processes FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from cases.tiny_models import random_tokens, tiny_model
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from glassworks.foundations.packing import Group, PackingCollator
from glassworks.foundations.training import CausalLMTrainer, training_arguments

STEPS, BATCH = 5, 8


def examples(count: int = STEPS * BATCH) -> list[Group]:
    """Sequences of 4 to 19 tokens, so that micro-batches differ in their number of predicted tokens."""
    return [Group([random_tokens(1, 4 + (7 * i) % 16, seed=i)[0].tolist()], name=f"example {i}") for i in range(count)]


def trainer(
    folder: Path,
    *,
    micro_batch: int = 4,
    processes: int = 1,
    model: PreTrainedModel | None = None,
    run: Any = None,
    callbacks: list[Any] | None = None,
    **settings: Any,
) -> CausalLMTrainer:
    """A trainer of a tiny llama, its embeddings frozen, for 5 steps of 8 sequences."""
    if model is None:
        model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=2)
        model.get_input_embeddings().requires_grad_(False)
    arguments = training_arguments(
        folder,
        device="cpu",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=BATCH // (micro_batch * processes),
        **{"max_steps": STEPS, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no"} | settings,
    )
    return CausalLMTrainer(
        model=model,
        args=arguments,
        train_dataset=examples(),
        data_collator=PackingCollator(48),
        run=run,
        callbacks=callbacks,
    )


def outcome(trained: CausalLMTrainer) -> dict[str, Any]:
    """Losses of each step and the full weights; every process of a sharded training must take part."""
    weights = {}
    for name, parameter in trained.accelerator.unwrap_model(trained.model).named_parameters():
        full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        weights[name] = full.detach().clone()
    losses = [line["loss"] for line in trained.state.log_history if "loss" in line]
    return {"losses": losses, "weights": weights}


def main(folder: Path) -> None:
    """Train under DDP, then under FSDP2 and once more from FSDP2's checkpoint."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    settings: dict[str, Any] = {"micro_batch": 2, "processes": 2, "disable_tqdm": True}
    ddp = trainer(folder / "ddp", **settings)
    ddp.train()
    results["ddp"] = outcome(ddp)
    settings |= {"fsdp": True, "fsdp_config": {"version": 2}, "save_strategy": "steps", "save_steps": 3}
    fsdp = trainer(folder / "fsdp", **settings)
    fsdp.train()
    results["fsdp"] = outcome(fsdp)
    results["sharded"] = sum(isinstance(p, DTensor) for p in fsdp.model.parameters())
    resumed = trainer(folder / "fsdp", **settings)
    resumed.train(resume_from_checkpoint=str(folder / "fsdp" / "checkpoint-3"))
    results["resumed"] = outcome(resumed)
    if ddp.is_world_process_zero():
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    distributed.destroy_process_group()  # a process that ends with open connections is sometimes aborted
