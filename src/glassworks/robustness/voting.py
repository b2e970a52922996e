"""Which label do most isolated responses vote for, and can k' corrupted passages change it? Pure counting.

RobustRAG, secure voting (Xiang et al. 2024, section 4). In: one vote a passage in rank order, None = abstained. Out:
winner, and whether it stays under injection (d' > k', where d' is the lead less the winner's votes among the k'
places that can be displaced) or modification (d > 2k'). The official code's k' = 0 and lists shorter than k are put
right. Votes weighted by rank have no certificate: an injected passage moves every later rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from glassworks.errors import OptionError
from glassworks.robustness.certificate import Threat, check_budget


class Tally(NamedTuple):
    """winner: the label of most votes, ties to the first in order; None without votes. lead: over the runner-up."""

    winner: str | None
    lead: float


def tally(votes: Sequence[str | None], weights: Sequence[float] | None = None) -> Tally:
    """Count votes [passages]; None counts for nothing. weights: one a passage, default 1."""
    counts: dict[str, float] = defaultdict(float)
    for vote, weight in zip(votes, weights or [1] * len(votes), strict=True):
        if vote is not None:
            counts[vote] += weight
    if not counts:
        return Tally(None, 0)
    ranked = sorted(counts, key=lambda label: (-counts[label], label))
    return Tally(ranked[0], counts[ranked[0]] - (counts[ranked[1]] if len(ranked) > 1 else 0))


def is_vote_certified(votes: Sequence[str | None], *, k: int, budget: int, threat: Threat = "injection") -> bool:
    """Whether no `budget` passages can change the winner of at most k votes in rank order. Ties are not robust.

    Raises OptionError unless 0 <= budget < k.
    """
    check_budget(budget, k)
    votes = votes[:k]
    winner, lead = tally(votes)
    if winner is None:
        return False
    if threat == "modification":
        return lead > 2 * budget
    displaced = sum(vote == winner for vote in votes[k - budget :])
    return lead - displaced > budget


def rank_weights(scheme: str, count: int) -> list[float]:
    """Weights by rank [count]: "uniform", or "geometric:GAMMA" for GAMMA^i, i from 0 (ReliabilityRAG)."""
    from_name = scheme.partition(":")
    if scheme == "uniform":
        return [1.0] * count
    try:
        gamma = float(from_name[2])
    except ValueError:
        gamma = 0.0
    if from_name[0] != "geometric" or not 0 < gamma <= 1:
        raise OptionError(
            f"expected uniform or geometric:GAMMA with 0 < GAMMA <= 1, received {scheme}", place="weights"
        )
    return [gamma**rank for rank in range(count)]
