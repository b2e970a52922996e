"""How a compiled script came to its reply, read from its own residual stream and attention.

The dimensions of a program have names: at the end of an input, one flag says which template is the best, one which rule
answers, others how many inputs wait in memory; heads find the ends of chunks, the remembered input and the words that
are copied. Input: Compiled and a transcript, which the model reads once. Output: lines for `eliza chat --show`. Knows
no dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glassworks.eliza.compiling import Compiled
from glassworks.eliza.script import ELIZA, END, START

Decode = Callable[[Sequence[str]], list[str]]


class Decision(NamedTuple):
    """What the flags at the end of an input say. group: -1 for a remembered input, then `remembered` is its number."""

    template: int
    group: int
    rule: int
    remembered: int | None
    waiting: int | None


class Reading(NamedTuple):
    """What a pass over a transcript shows: the last stream [seq, hidden], each layer's attention [heads, seq, seq]."""

    tokens: Sequence[str]
    stream: Tensor
    attentions: list[Tensor]


@torch.no_grad()
def read(compiled: Compiled, tokens: Sequence[str]) -> Reading:
    """One pass over a transcript."""
    ids = torch.tensor([compiled.encode(list(tokens))])
    output = compiled.model(ids, output_attentions=True, output_hidden_states=True)
    return Reading(tokens, output.hidden_states[-1][0], [weights[0] for weights in output.attentions])


def decision(compiled: Compiled, seen: Reading, at: int) -> Decision:
    """Which template and rule the model chose for the input that ends at `at`, and how many inputs then wait."""
    values = dict(zip(compiled.program.dimensions, seen.stream[at].tolist(), strict=True))

    def flagged(name: str) -> str:
        return next(key for key, value in values.items() if key.startswith(name) and value > 0.5).removeprefix(name)

    group, rule = map(int, flagged("rule:").split("."))
    remembered = int(flagged("recalled:")) if group == -1 else None
    waiting = None
    if "low" in values:  # a null input stands half a step above its walk
        waiting = math.floor(values["walk"] - values["low"] + 0.25)
    elif "held" in values:
        waiting = round(values["held"]) - (group == -1)
    return Decision(int(flagged("best:")), group, rule, remembered, waiting)


def heads_seen(compiled: Compiled, seen: Reading, at: int, chosen: Decision, decode: Decode) -> list[str]:
    """Where the heads look that found the input ending at `at` and copied its words, one line a head."""
    tokens = seen.tokens
    chunks = len(compiled.machine.patterns[chosen.template].chunks)
    shown = {f"end of chunk {k}" for k in range(chunks)} | {"last reply of the template"}
    shown |= {"memory lookup"} if chosen.remembered is not None else set()
    lines = []
    for layer, part in enumerate(compiled.program.layers):
        for number, head in enumerate(part.heads):
            looks = seen.attentions[layer][number].argmax(-1).tolist()
            name = head.name.partition(" (")[0]
            if name == "copy":
                words = {copy.target.removeprefix("out:") for copy in head.copies}
                places = [place for place in range(at, len(tokens) - 1) if looks[place] > 0]
                copied = [f"{decode([tokens[p + 1]])[0]} from {looks[p]}" for p in places if tokens[p + 1] in words]
                lines += [f"a{layer}.h{number} {head.name}: {', '.join(copied)}"] if copied else []
            elif name in shown:
                lines.append(f"a{layer}.h{number} {head.name}: looks at {looks[at]} ({decode([tokens[looks[at]]])[0]})")
    return lines


def input_ends(tokens: Sequence[str], start: int) -> list[int]:
    """Where the inputs from `start` on end, those that the model wrote to itself included."""
    return [at for at in range(start, len(tokens)) if tokens[at] == END and ELIZA not in _turn(tokens, at)]


def _turn(tokens: Sequence[str], at: int) -> Sequence[str]:
    """The tokens of the turn that ends at a position."""
    begin = max((back for back in range(at) if tokens[back] in (END, START)), default=0)
    return tokens[begin:at]
