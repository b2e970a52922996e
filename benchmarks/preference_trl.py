"""A SimPO step of this trainer against TRL's: process time and growth of the process's peak memory, as ratios.

Run: python benchmarks/preference_trl.py            (needs trl, which the extra [dev] brings)

A llama shape of 4 layers with random weights, 4 pairs a step, lengths as in the setting; and SmolLM2-135M-Instruct, 2
pairs, lengths drawn from .5 to 1.5 times the setting as those of real answers differ. fp32, CPU, one thread; forward
and backward, the optimiser left out on both sides. Both get the same tokens, and the losses must agree. Each side runs
in a process of its own: one step that is not counted, then the median of 5; the peak is that of the whole process minus
what it held before the first step. TRL's trainer is its CPOTrainer with loss_type "simpo" and cpo_alpha 0.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer

from glassworks.foundations.models import load_model

STEPS = 5
RESULTS = Path(__file__).parent / "results" / "preference_trl.json"


class Setting(NamedTuple):
    """One comparison. prompt, answer: tokens; spread: share by which lengths differ; vocabulary: entries."""

    model: str
    pairs: int
    prompt: int
    answer: int
    spread: float
    vocabulary: int


SETTINGS = {
    "4 layers, prompt 128, answer 96": Setting("4 layers", 4, 128, 96, 0.0, 32000),
    "4 layers, prompt 384, answer 64": Setting("4 layers", 4, 384, 64, 0.0, 32000),
    "SmolLM2-135M, prompt 160, answer 120": Setting("packaged:smollm2", 2, 160, 120, 0.5, 49152),
}


def policy(setting: Setting) -> PreTrainedModel:
    """The model that both sides train; random weights by one seed, or the checkpoint's."""
    if setting.model != "4 layers":
        return load_model(setting.model, device="cpu", dtype="float32")
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=setting.vocabulary, hidden_size=256, intermediate_size=688, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024,
    ))  # fmt: skip


def token_ids(setting: Setting) -> list[tuple[list[int], list[int], list[int]]]:
    """Prompt, chosen and rejected token ids of each pair; start token first, end token last, as TRL puts them."""
    draw = random.Random(0)

    def drawn(length: int) -> list[int]:
        tokens = round(length * draw.uniform(1 - setting.spread, 1 + setting.spread)) - 1
        return [draw.randrange(5, setting.vocabulary) for _ in range(tokens)]

    return [
        ([1, *drawn(setting.prompt)], [*drawn(setting.answer), 2], [*drawn(setting.answer), 2])
        for _ in range(setting.pairs)
    ]


def step_of(trainer: Trainer, batch: dict[str, Any]) -> Callable[[], float]:
    """Loss and backward of one batch by either trainer; returns the loss."""
    trainer.model.train()

    def step() -> float:
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return float(loss.detach())

    return step


def our_step(setting: Setting, folder: str) -> Callable[[], float]:
    """A step of PreferenceTrainer: loss and backward."""
    from glassworks.foundations.training import training_arguments
    from glassworks.preference.pairs import TokenizedPair
    from glassworks.preference.trainer import Example, PreferenceTrainer

    examples = [Example(TokenizedPair(*ids, f"pair {i}")) for i, ids in enumerate(token_ids(setting))]
    trainer = PreferenceTrainer(
        policy(setting),
        training_arguments(folder, device="cpu", per_device_train_batch_size=setting.pairs, save_strategy="no"),
        settings={"beta": 2.0, "gamma": 1.0},
        train_dataset=examples,
    )
    return step_of(trainer, trainer.data_collator(examples))


def trl_step(setting: Setting, folder: str) -> Callable[[], float]:
    """A step of TRL's trainer on the same tokens: loss and backward."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    names = ["<pad>", "<s>", "</s>"]  # no word may hold one: special tokens are found inside words too
    ids = {word: at for at, word in enumerate([*names, *(f"w{i}" for i in range(len(names), setting.vocabulary))])}
    words = Tokenizer(models.WordLevel(ids, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    texts = [[" ".join(f"w{t}" for t in part) for part in (p[1:], c[:-1], r[:-1])] for p, c, r in token_ids(setting)]
    rows = [{"prompt": p, "chosen": f" {c}", "rejected": f" {r}"} for p, c, r in texts]
    trainer = CPOTrainer(
        policy(setting),
        CPOConfig(
            output_dir=folder, loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0, max_length=1024,
            use_cpu=True, report_to="none", per_device_train_batch_size=setting.pairs,
            gradient_checkpointing=False, bf16=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    return step_of(trainer, next(iter(trainer.get_train_dataloader())))


def measure(side: str, name: str) -> dict[str, float]:
    """Median process seconds a step, growth of the peak in MiB, and the loss, of one side in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = {"ours": our_step, "trl": trl_step}[side](SETTINGS[name], folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loss = step()
        taken = []
        for _ in range(STEPS):
            start = time.process_time()
            step()
            taken.append(time.process_time() - start)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(taken), "peak_mib": grown / 1024, "loss": loss}


def main() -> None:
    """Measure both sides of every setting, print the ratios and write them to results/preference_trl.json."""
    rows = []
    for name in SETTINGS:
        sides = {}
        for side in ("ours", "trl"):
            done = subprocess.run([sys.executable, __file__, side, name], capture_output=True, text=True, check=True)
            sides[side] = json.loads(done.stdout.splitlines()[-1])
        ratios = {
            "times_faster": round(sides["trl"]["seconds"] / sides["ours"]["seconds"], 2),
            "share_of_peak": round(sides["ours"]["peak_mib"] / sides["trl"]["peak_mib"], 3),
        }
        assert abs(sides["ours"]["loss"] - sides["trl"]["loss"]) < 1e-4, sides
        rows.append({"setting": name, **SETTINGS[name]._asdict(), **sides, **ratios})
        print(f"{name}: {ratios} loss {sides['ours']['loss']:.4f} / {sides['trl']['loss']:.4f}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    measured = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "torch": torch.__version__,
                "trl": version("trl"), "steps": STEPS, "rows": rows}  # fmt: skip
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], sys.argv[2])))
    else:
        main()
