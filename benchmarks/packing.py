"""What packing and shared prefixes save in a training step, on preference pairs.

Run: python benchmarks/packing.py

A llama shape of 4 layers, random weights, fp32, CPU, one thread; forward and backward of 8 pairs. A pair is one
prompt with two answers, lengths as in the two settings. Three ways to run the same pairs:
padded   each answer with its own copy of the prompt, padded to the longest of the batch, transformers' own masks
packed   the same sequences in rows of at most BUDGET tokens
shared   the same pairs in such rows, each prompt once
The ways take turns; the first turn is not counted; CPU seconds of the process, medians. Lengths vary by up to a
quarter around the setting, as answers do; `spread 0` is the case without any padding to save.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.packing import Group, pack

PAIRS, BUDGET, TURNS = 8, 1024, 7
SETTINGS = {"prompt 128, answer 96": (128, 96), "prompt 384, answer 64": (384, 64)}
RESULTS = Path(__file__).parent / "results" / "packing.json"


def pairs(prompt: int, answer: int, spread: float, vocabulary: int) -> list[Group]:
    """Random pairs; each length is drawn from (1 - spread, 1 + spread) times the setting."""
    draw = random.Random(0)

    def tokens(length: int) -> list[int]:
        longest = max(1, round(length * draw.uniform(1 - spread, 1 + spread)))
        return [draw.randrange(3, vocabulary) for _ in range(longest)]

    return [Group((tokens(answer), tokens(answer)), tokens(prompt)) for _ in range(PAIRS)]


def padded_loss(model: LlamaForCausalLM, groups: list[Group]) -> Tensor:
    """The summed cross-entropy of the answers, a scalar, from a right-padded batch."""
    sequences = [([*g.prefix, *c], len(g.prefix)) for g in groups for c in g.continuations]
    longest = max(len(tokens) for tokens, _ in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (tokens, start) in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    return F.cross_entropy(logits[wanted], labels[:, 1:][wanted], reduction="sum")


def packed_loss(model: LlamaForCausalLM, groups: list[Group], share_prefix: bool) -> Tensor:
    """The same scalar from packed rows."""
    batch = pack(groups, BUDGET, share_prefix=share_prefix)
    logits = model(**batch.model_inputs(model)).logits.flatten(0, 1)
    wanted = batch.predictions()
    return F.cross_entropy(logits[wanted.places], wanted.targets, reduction="sum")


def measure(model: LlamaForCausalLM, ways: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """Median CPU seconds a step of each way; all ways must give the same loss."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, float] = {}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            model.zero_grad()
            start = time.process_time()
            loss = way()
            loss.backward()
            if turn:
                taken[name].append(time.process_time() - start)
            losses[name] = loss.item()
    assert max(losses.values()) - min(losses.values()) < 1e-4 * losses["padded"], losses
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Measure every setting, print a table and write the figures to results/packing.json."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=BUDGET,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = []
    print(
        f"{'setting':<24}{'spread':>7}{'padded s':>10}{'packed s':>10}{'shared s':>10}{'packed x':>10}{'shared x':>10}"
    )
    for name, (prompt, answer) in SETTINGS.items():
        for spread in (0.0, 0.25):
            groups = pairs(prompt, answer, spread, config.vocab_size)
            seconds = measure(
                model,
                {
                    "padded": lambda groups=groups: padded_loss(model, groups),
                    "packed": lambda groups=groups: packed_loss(model, groups, share_prefix=False),
                    "shared": lambda groups=groups: packed_loss(model, groups, share_prefix=True),
                },
            )
            gains = {way: seconds["padded"] / seconds[way] for way in ("packed", "shared")}
            rows.append({"setting": name, "spread": spread, "cpu_s": seconds, "times_faster_than_padded": gains})
            print(
                f"{name:<24}{spread:>7}"
                + "".join(f"{seconds[way]:>10.3f}" for way in ("padded", "packed", "shared"))
                + "".join(f"{gains[way]:>10.2f}" for way in ("packed", "shared"))
            )
    RESULTS.parent.mkdir(exist_ok=True)
    measured = {"machine": platform.machine(), "torch": torch.__version__, "turns": TURNS, "pairs": PAIRS, "rows": rows}
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
