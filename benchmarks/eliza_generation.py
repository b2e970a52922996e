"""Greedy generation of a compiled script by length of the conversation, and how fast the generator makes data.

    python benchmarks/eliza_generation.py --out FILE [--lengths 128 256 512 1024] [--conversations 500]

Generation: one conversation of a random script is decoded token by token, and the process time until each length is
added up: with a KV cache, and with a pass over the whole conversation for each token, of which every `--stride`-th is
timed and stands for `--stride`. Exponents: of the length, between the last two; 1 is linear. With the cache what grows
is attention alone. Data: the paper's multi-turn setting; the official generator makes some 30 conversations a second.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache

from glassworks.eliza.compiling import Compiled, compile_script
from glassworks.eliza.conversations import ConversationShape, ScriptShape, conversations, draw_script, tokens_of
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.random_scripts import random_script, random_sentences

SCRIPT = ScriptShape(
    max_transformations_per_template=5, max_template_len=10, null_template_cycle_version=1, max_copies=4
)
CONVERSATION = ConversationShape(
    memory_ratio=8.0, unigram_concentration=-1.0, concentration=1 / 32, max_turns=100, max_conversation_len=512
)


@torch.no_grad()
def with_cache(compiled: Compiled, ids: torch.Tensor, lengths: list[int]) -> dict[int, float]:
    """Seconds of process time until each length is reached, one token a pass; ids [1, seq]."""
    cache, found, begun = DynamicCache(), {}, time.process_time()
    for at in range(max(lengths)):
        compiled.model(ids[:, at : at + 1], cache=cache, use_cache=True).logits.argmax(-1)
        if at + 1 in lengths:
            found[at + 1] = time.process_time() - begun
    return found


@torch.no_grad()
def without_cache(compiled: Compiled, ids: torch.Tensor, lengths: list[int], stride: int) -> dict[int, float]:
    """The same with the whole conversation in each pass: every stride-th pass is timed and stands for stride."""
    found, total = {}, 0.0
    for at in range(stride, max(lengths) + 1, stride):
        begun = time.process_time()
        compiled.model(ids[:, :at], logits_to_keep=1).logits.argmax(-1)
        total += stride * (time.process_time() - begun)
        if at in lengths:
            found[at] = total
    return found


def generator_rate(count: int) -> tuple[float, float]:
    """Conversations a second of process time, and their mean length in tokens."""
    rng = np.random.default_rng(0)
    script, begun = draw_script(SCRIPT, rng), time.process_time()
    made = list(conversations(script, CONVERSATION, count, rng))
    seconds = time.process_time() - begun
    return count / seconds, sum(len(tokens_of(turns)) for turns in made) / count


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--stride", type=int, default=32)
    parser.add_argument("--conversations", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    script, longest = random_script(5), max(options.lengths)
    compiled = compile_script(script, Options(max_len=longest, max_count=128))
    tokens = transcript(converse(script, random_sentences(script, longest // 6, 5)))[:longest]
    ids = torch.tensor([compiled.encode(tokens)])
    cached = with_cache(compiled, ids, options.lengths)
    whole = without_cache(compiled, ids, options.lengths, options.stride)
    rows = [{"tokens": n, "cached_s": cached[n], "whole_s": whole[n], "cached_ms_per_token": 1000 * cached[n] / n,
             "whole_ms_per_token": 1000 * whole[n] / n} for n in options.lengths]  # fmt: skip
    last, before = options.lengths[-1], options.lengths[-2]
    exponents = {name: math.log(seconds[last] / seconds[before], last / before)
                 for name, seconds in (("cached", cached), ("whole", whole))}  # fmt: skip
    rate, mean = generator_rate(options.conversations)
    found = {"width": compiled.model.config.hidden_size, "layers": compiled.model.config.num_hidden_layers,
             "rows": rows, "exponents": exponents, "conversations": options.conversations,
             "conversations_per_second": rate, "mean_tokens": mean}  # fmt: skip
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
