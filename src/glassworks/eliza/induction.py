"""How far copying by content can get: an induction head with a context of n tokens, simulated exactly.

Friedman et al. 2025 (arXiv 2407.10949), section 3.1, option 1: at each step the head looks for the place in the group
that the last n tokens it wrote precede, the earliest of the best; it goes wrong where letters repeat. Copying by
position never does. Inputs: groups of letters. Outputs: copies and the share of turns that are right. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def induction_copy(group: Sequence[str], context: int) -> list[str]:
    """The copy of a group by an induction head that sees the last `context` written tokens.

    A place with fewer predecessors in the group than the context has tokens counts as no match.
    """
    copied: list[str] = []
    for _ in group:
        recent = copied[max(0, len(copied) - context) :]
        best, place = -1, 0
        for candidate in range(len(group)):
            score = 0
            if candidate >= len(recent):
                while score < len(recent) and group[candidate - 1 - score] == recent[-1 - score]:
                    score += 1
            if score > best:
                best, place = score, candidate
        copied.append(group[place])
    return copied


def copies_right(group: Sequence[int], context: int) -> bool:
    """Whether `induction_copy` returns the group itself, faster: it must choose each next token from a right past."""
    for step in range(1, len(group)):
        width = min(context, step)
        best, place = -1, 0
        for candidate in range(width, len(group)):
            score = 0
            while score < width and group[candidate - 1 - score] == group[step - 1 - score]:
                score += 1
            if score > best:
                best, place = score, candidate
        # Places with too few predecessors score 0 and come first.
        if best <= 0 and width > 0:
            place = 0
        if group[place] != group[step]:
            return False
    return True


def ceiling(max_len: int, alpha: float, context: int, turns: int = 4000, seed: int = 0) -> float:
    """Share of turns of two groups that an induction head copies right.

    max_len: longest group, lengths uniform from 0. alpha: Dirichlet parameter of each of the 26 letters, a
    distribution a group.
    """
    rng = np.random.default_rng(seed)
    right = 0
    for _ in range(turns):
        right += all(copies_right(group_of(rng, max_len, alpha), context) for _ in range(2))
    return right / turns


def group_of(rng: np.random.Generator, max_len: int, alpha: float) -> list[int]:
    """One group of letters 0 to 25."""
    logs = np.log(rng.gamma(alpha + 1, size=26)) + np.log(rng.random(26)) / alpha
    shares = np.exp(logs - logs.max())
    size = int(rng.integers(max_len + 1))
    letters: list[int] = rng.choice(26, size=size, p=shares / shares.sum()).tolist()
    return letters
