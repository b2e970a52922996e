"""What packing and shared prefixes save in a training step, on preference pairs.

Run: python benchmarks/packing.py

A llama shape of 4 layers, random weights, fp32, CPU, one thread; forward and backward of 4 pairs. A pair is one
prompt with two answers, lengths as in the two settings. The same pairs are run in four ways:
padded   each answer with its own copy of the prompt, padded to the longest of the batch, transformers' own masks
packed   the same sequences in rows of at most WIDE tokens
shared   the same pairs in rows as wide as the longest pair, each prompt once
wide     the same as `shared` in rows of at most WIDE tokens
The ways take turns; the first turn is not counted; CPU seconds of the process, medians. Lengths vary by up to
`spread` around the setting, as answers do; with spread 0 there is no padding to save.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.packing import Group, pack

PAIRS, WIDE, TURNS = 4, 1024, 5
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


def packed_loss(model: LlamaForCausalLM, groups: list[Group], budget: int | None, share_prefix: bool) -> Tensor:
    """The same scalar from packed rows."""
    batch = pack(groups, budget, share_prefix=share_prefix)
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
        num_key_value_heads=4, max_position_embeddings=WIDE,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = []
    ways = ("padded", "packed", "shared", "wide")
    print(
        f"{'setting':<24}{'spread':>7}" + "".join(f"{way + ' s':>10}" for way in ways) + "   times faster than padded"
    )
    for name, (prompt, answer) in SETTINGS.items():
        for spread in (0.0, 0.25):
            groups = pairs(prompt, answer, spread, config.vocab_size)
            run = partial(packed_loss, model, groups)
            steps = (partial(padded_loss, model, groups), partial(run, WIDE, False), partial(run, None, True))
            seconds = measure(model, dict(zip(ways, (*steps, partial(run, WIDE, True)), strict=True)))
            gains = {way: round(seconds["padded"] / seconds[way], 3) for way in ways[1:]}
            rows.append({"setting": name, "spread": spread, "cpu_s": seconds, "times_faster_than_padded": gains})
            figures = "".join(f"{seconds[way]:>10.3f}" for way in ways)
            print(f"{name:<24}{spread:>7}{figures}   {gains}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    measured = {"machine": platform.machine(), "torch": torch.__version__, "turns": TURNS, "pairs": PAIRS, "rows": rows}
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
