"""Which keywords do enough isolated responses share, and which sets can k' corrupted passages leave standing?

RobustRAG, secure keyword aggregation (Xiang et al. 2024, section 4). In: one keyword set a passage in rank order, None
= abstained. A keyword is kept when mu = min(beta, alpha n) responses hold it, n those that did not abstain. `reachable`
gives a family that contains every set an adversary can cause; soundness needs alpha <= 1, which is asked for.
Thresholds are exact fractions, so that a count at the threshold falls on the same side everywhere. Knows no model.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf

from glassworks.errors import OptionError
from glassworks.robustness.certificate import Reason, Threat, surviving

Keywords = frozenset[str]
Threshold = Fraction | float


@dataclass(frozen=True)
class Thresholds:
    """alpha in [0, 1]: share of the responses that answer. beta >= 0: count that suffices, may be infinite."""

    alpha: float = 0.3
    beta: float = 3

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            problem = f"expected a share from 0 to 1, received {self.alpha}"
            raise OptionError(problem, place="alpha", remedy="Above 1 the certificate would not hold.")
        if not self.beta >= 0:
            raise OptionError(f"expected at least 0, received {self.beta}", place="beta")

    def at(self, answering: int) -> Threshold:
        """mu = min(beta, alpha * answering), exactly as the decimal numbers given."""
        relative = Fraction(str(self.alpha)) * answering
        return relative if self.beta == inf else min(Fraction(str(self.beta)), relative)


@dataclass(frozen=True)
class Reachable:
    """Every set that an attack can leave is `always` with some of `undecided`; refused: why there is no bound."""

    always: Keywords = frozenset()
    undecided: Keywords = frozenset()
    refused: Reason | None = None

    def sets(self) -> Iterator[Keywords]:
        """The 2^|undecided| sets: empty and full selection first, then by size."""
        items = sorted(self.undecided)
        sizes = dict.fromkeys([0, len(items), *range(1, len(items))])
        for size in sizes:
            for chosen in itertools.combinations(items, size):
                yield self.always | frozenset(chosen)


def kept_keywords(
    responses: Sequence[Keywords | None], thresholds: Thresholds, weights: Sequence[float] | None = None
) -> Keywords | None:
    """The keywords that enough responses [passages] hold; None where every one abstained.

    weights: one a passage in rank order; with them no certificate holds.
    """
    answering = [keywords for keywords in responses if keywords is not None]
    if not answering:
        return None
    if weights is None:
        counts = Counter(word for keywords in answering for word in keywords)
        threshold = thresholds.at(len(answering))
        return frozenset(word for word, count in counts.items() if count >= threshold)
    mass: Counter[str] = Counter()
    total = 0.0
    for keywords, weight in zip(responses, weights, strict=True):
        if keywords is not None:
            total += weight
            mass.update(dict.fromkeys(keywords, weight))  # type: ignore[arg-type]
    floor = min(thresholds.beta, thresholds.alpha * total)
    return frozenset(word for word, count in mass.items() if count >= floor - 1e-9)


def reachable(
    responses: Sequence[Keywords | None],
    thresholds: Thresholds,
    *,
    k: int,
    budget: int,
    threat: Threat = "injection",
    max_undecided: int = 14,
) -> Reachable:
    """Every keyword set that `budget` hostile passages can leave standing, or why there is no bound.

    responses: of at most k passages in rank order. Sound, not tight. Raises OptionError unless 0 <= budget < k.
    """
    known = [keywords for keywords in surviving(responses, k, budget, threat) if keywords is not None]
    counts = Counter(word for keywords in known for word in keywords)
    slack = 0
    if threat == "injection":
        threshold = thresholds.at(len(known) + budget)
    else:
        threshold, slack = thresholds.at(max(budget, len(known))), budget
    if not known and not budget:
        return Reachable(refused=Reason.ABSTAINED)
    if budget and threshold <= budget:
        return Reachable(refused=Reason.THRESHOLD_LE_BUDGET)
    always = frozenset(word for word, count in counts.items() if count >= threshold + slack)
    undecided = frozenset(word for word, count in counts.items() if threshold - budget <= count < threshold + slack)
    if len(undecided) > max_undecided:
        return Reachable(always, undecided, Reason.TOO_MANY_OPTIONAL)
    return Reachable(always, undecided)


def canonical_order(keywords: Keywords) -> tuple[str, ...]:
    """Longest first, then by text, both descending: a function of the set alone, so no adversary can steer it."""
    return tuple(sorted(keywords, key=lambda word: (len(word), word), reverse=True))
