"""Which token do the isolated passages agree on, and which texts can k' corrupted passages make of it?

RobustRAG, secure decoding aggregation (Xiang et al. 2024, section 4). vhat [vocab] is the sum of the passages'
next-token probabilities; where its two largest entries lie more than eta apart the first is emitted, else the token of
the prompt without passages. eta is absolute, on the sum (k eta of the paper). A hostile row moves any difference of two
entries by at most 1 (injected) or 2 (replaced), which gives the table of `possible_tokens`; `explore` walks the tree of
texts depth first. Rows are summed in float64, so their order and number leave no rounding that matters.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glassworks.foundations.language_model import DecodingState
from glassworks.robustness.certificate import Threat

_ROUNDING = 1e-9


class Step(NamedTuple):
    """One step: the token of largest vhat, its lead over the second, and the token without passages."""

    top: int
    gap: float
    fallback: int


class Leaf(NamedTuple):
    """A finished token sequence, or step at which the lead was too small for any bound."""

    tokens: tuple[int, ...]
    refused: bool = False


Reduction = Literal["sum", "median"]
Finished = Callable[[Sequence[int]], bool]


def aggregate(log_probs: Tensor, suppressed: Sequence[int] = (), reduction: Reduction = "sum") -> Step:
    """The step of rows [passages + 1, vocab], natural logarithms, the last row the prompt without passages.

    suppressed: token ids that get probability 0 in every row; the rest is scaled to 1 again. reduction: median has no
    certificate.
    """
    rows = log_probs.double() if log_probs.device.type != "mps" else log_probs
    if suppressed:
        rows = rows.index_fill(1, torch.tensor(list(suppressed), device=rows.device), -torch.inf)
        rows = rows.log_softmax(dim=-1)
    spread = rows[:-1].exp()
    summed = spread.sum(dim=0) if reduction == "sum" else spread.median(dim=0).values
    (first, second), (top, _) = (part.tolist() for part in summed.topk(2))
    return Step(int(top), float(first - second), int(rows[-1].argmax()))


def emitted(step: Step, eta: float) -> int:
    """The token that is written."""
    return step.top if step.gap > eta else step.fallback


def possible_tokens(step: Step, eta: float, slack: float) -> tuple[int, ...]:
    """Every token that hostile rows can make of a step of the surviving rows; none where anything may come.

    slack: how far they move a difference: k' for injection, 2k' for modification.
    """
    if step.gap > eta + slack + _ROUNDING * (slack > 0):
        return (step.top,)
    if step.gap <= eta - slack - _ROUNDING * (slack > 0):
        return (step.fallback,)
    if step.gap > abs(eta - slack) + _ROUNDING:
        return tuple(dict.fromkeys((step.top, step.fallback)))
    return ()


def slack_of(budget: int, threat: Threat) -> int:
    """How far `budget` hostile rows move the difference of two entries of vhat."""
    return budget if threat == "injection" else 2 * budget


def may_abstain(retained: int, budget: int, threat: Threat) -> bool:
    """Whether an attack can leave no row at all, so that the answer is an abstention."""
    return retained == 0 if threat == "injection" else retained <= budget


def decode(
    state: DecodingState, eta: float, finished: Finished, suppressed: Sequence[int] = (), reduction: Reduction = "sum"
) -> list[Step]:
    """The steps of the answer without attack. state: passages' rows and, last, the prompt without passages."""
    return decode_all(state, [len(state.log_probs)], eta, finished, suppressed, reduction)[0]


def decode_all(
    state: DecodingState,
    sizes: Sequence[int],
    eta: float,
    finished: Finished,
    suppressed: Sequence[int] = (),
    reduction: Reduction = "sum",
) -> list[list[Step]]:
    """The steps of several answers, decoded as one batch; an answer that has ended leaves it.

    state: the rows of the first answer as for `decode`, then those of the second, and so on. sizes: rows an answer.
    """
    steps: list[list[Step]] = [[] for _ in sizes]
    live = list(range(len(sizes)))
    while live:
        ends = list(itertools.accumulate(sizes[number] for number in live))
        rows = state.log_probs
        for number, end in zip(live, ends, strict=True):
            own = rows[end - sizes[number] : end]
            steps[number].append(aggregate(own, () if steps[number] else suppressed, reduction))
        going = [
            (number, range(end - sizes[number], end))
            for number, end in zip(live, ends, strict=True)
            if not finished([emitted(step, eta) for step in steps[number]])
        ]
        if len(going) < len(live):
            state = state.select([row for _, own in going for row in own]) if going else state
        live = [number for number, _ in going]
        if live:
            state.append([emitted(steps[number][-1], eta) for number in live for _ in range(sizes[number])])
    return steps


def explore(
    state: DecodingState, eta: float, slack: float, finished: Finished, suppressed: Sequence[int] = ()
) -> Iterator[Leaf]:
    """Every text that hostile rows can make, depth first; ends after a refused leaf.

    state: the surviving rows and, last, the prompt without passages; it is forked at every branch.
    """
    waiting: list[tuple[DecodingState, tuple[int, ...]]] = [(state.fork(), ())]
    while waiting:
        here, tokens = waiting.pop()
        if finished(tokens):
            yield Leaf(tokens)
            continue
        children = possible_tokens(aggregate(here.log_probs, () if tokens else suppressed), eta, slack)
        if not children:
            yield Leaf(tokens, refused=True)
            return
        for token in reversed(children):
            longer = (*tokens, token)
            if finished(longer):
                waiting.append((here, longer))
                continue
            branch = here.fork() if len(children) > 1 else here
            branch.append(token)
            waiting.append((branch, longer))


def sample_path(
    state: DecodingState, eta: float, slack: float, finished: Finished, seed: int, suppressed: Sequence[int] = ()
) -> Leaf:
    """One path of the tree, a fair choice at every branch: for an estimate, never for a certificate."""
    choose, here = random.Random(seed), state.fork()
    tokens: tuple[int, ...] = ()
    while not finished(tokens):
        if tokens:
            here.append(tokens[-1])
        children = possible_tokens(aggregate(here.log_probs, () if tokens else suppressed), eta, slack)
        if not children:
            return Leaf(tokens, refused=True)
        tokens = (*tokens, choose.choice(children))
    return Leaf(tokens)
