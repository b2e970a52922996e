"""Pairs of prompts for circuit finders: two conversations with a script, token-aligned, whose last replies differ.

Edge Pruning (Bhaskar et al. 2024, section 2) puts what a model computes on a corrupted prompt into its run on the clean
one. Here both are conversations of the same script, drawn at random and matched by the lengths of prompt and reply, so
that every place has its counterpart. Output: pairs, and the JSONL that `circuits find` reads. Pure Python.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import NamedTuple

from glassworks.eliza.interpreter import Copy, converse, transcript
from glassworks.eliza.random_scripts import random_sentences
from glassworks.eliza.script import Script


class PromptPair(NamedTuple):
    """Two transcripts of equal length that end with a reply, whose words begin at `start`, behind E, in both."""

    clean: tuple[str, ...]
    corrupted: tuple[str, ...]
    start: int


def prompt_pairs(
    script: Script, count: int, *, max_len: int, max_turns: int = 3, copy: Copy = list, seed: int = 0
) -> list[PromptPair]:
    """At most `count` pairs of conversations of at most `max_turns` turns and `max_len` tokens; none comes twice."""
    draw = random.Random(f"pairs {seed}")
    shelves: dict[tuple[int, int], dict[tuple[str, ...], None]] = {}
    for number in range(12 * count):
        sentences = random_sentences(script, draw.randint(1, max_turns), 100_000 * (seed + 1) + number, max_copy=2)
        turns = converse(script, sentences, copy)
        tokens = tuple(transcript(turns))
        if len(tokens) <= max_len:
            shelves.setdefault((len(tokens), len(turns[-1].reply)), {})[tokens] = None
    pairs = []
    for (size, reply), found in sorted(shelves.items()):
        start = size - reply + 1
        shuffled = draw.sample(list(found), len(found))
        for one, other in zip(shuffled[::2], shuffled[1::2], strict=False):
            if one[start:] != other[start:]:
                pairs += [PromptPair(one, other, start), PromptPair(other, one, start)]
    return draw.sample(pairs, min(count, len(pairs)))


def as_jsonl(pairs: Iterable[PromptPair]) -> str:
    """Lines of clean and corrupted prompts, each with its reply in <predict>...</predict>."""

    def marked(tokens: tuple[str, ...], start: int) -> str:
        return f"{' '.join(tokens[:start])}<predict> {' '.join(tokens[start:])}</predict>"

    lines = [
        {"clean": marked(pair.clean, pair.start), "corrupted": marked(pair.corrupted, pair.start)} for pair in pairs
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)
