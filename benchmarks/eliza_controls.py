"""Counterfactual edits on compiled models, whose mechanisms are known: counting is 100 % same, tracing 100 % other.

    python benchmarks/eliza_controls.py --out FILE [--scripts 6] [--conversations 30]

Random scripts with a memory, each compiled twice: counts and counter, traces and trace. Every conversation is edited
once for cycling and once for the memory queue where it allows that. Any other share is a fault of compiler or edit.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import torch

from glassworks.eliza.compile_verb import tokenizer_of
from glassworks.eliza.compiling import compile_script
from glassworks.eliza.counterfactuals import EditType, edits
from glassworks.eliza.evaluate import outcome
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.random_scripts import random_script, random_sentences

KINDS: tuple[EditType, ...] = ("cycling", "memory_queue")
MECHANISMS = {
    "count": Options("count", "counter", max_len=256, max_count=16),
    "trace": Options("trace", "trace", max_len=256, max_count=16),
}


def main() -> None:
    """Parse, edit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scripts", type=int, default=6)
    parser.add_argument("--conversations", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Counter[str]] = {f"{name} {kind}": Counter() for name in MECHANISMS for kind in KINDS}
    begun = time.process_time()
    for seed in range(options.scripts):
        script = random_script(seed)
        talks = [converse(script, random_sentences(script, 14, 100 * seed + n)) for n in range(options.conversations)]
        talks = [turns for turns in talks if len(transcript(turns)) <= 240]
        for name, mechanisms in MECHANISMS.items():
            compiled = compile_script(script, mechanisms)
            tokenizer = tokenizer_of(compiled.program.tokens)
            for kind in KINDS:
                for edit in edits(script, talks, kind, seed):
                    found[f"{name} {kind}"][outcome(compiled.model, tokenizer, edit)] += 1
    seconds = time.process_time() - begun
    result = {"scripts": options.scripts, "seconds": seconds, **{name: dict(counts) for name, counts in found.items()}}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
