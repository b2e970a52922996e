"""What does it mean that no k' passages can change an answer, and how is it checked? Certificates.

Xiang et al. 2024 (arXiv 2405.15556): the adversary injects up to k' passages at any ranks, whatever falls off the end
of the top k is displaced, or replaces the content of any k' of them (modification). An aggregator's mathematics
gives every output that such an adversary can cause; the certificate holds where all of them pass a checker. In:
candidates and a function that answers them. Out: `Certificate`. Knows no aggregator and no model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeVar

from glassworks.errors import OptionError

Threat = Literal["injection", "modification"]
Checker = Callable[[str], bool]
Candidate = TypeVar("Candidate", bound=Hashable)

ABSTENTION = "I don't know."


class Reason(StrEnum):
    """Why a certificate was given or refused."""

    CERTIFIED = "certified"
    WRONG_CLEAN = "the answer without any attack fails already"
    THRESHOLD_LE_BUDGET = "the adversary alone can reach the threshold"
    TOO_MANY_OPTIONAL = "too many outcomes are left to the adversary"
    COUNTEREXAMPLE = "an outcome that the adversary may cause fails"
    GAP_TOO_SMALL = "the lead is too small"
    ABSTAINED = "no passage answers the question"
    ESTIMATE_ONLY = "only some outcomes were looked at"


@dataclass(frozen=True)
class Certificate:
    """Whether no attack within the budget can make the answer fail the checker.

    outputs: every output that was enumerated, the clean one first. detail: the failing prompt or step.
    undecided: |W_B|, or leaves of the decoding tree beyond the first. calls, tokens: spent on the enumeration.
    """

    certified: bool
    reason: Reason
    budget: int
    threat: Threat
    outputs: tuple[str, ...] = ()
    detail: str = ""
    undecided: int = 0
    calls: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class SampledEstimate:
    """The lowest score among sampled outcomes. Not a certificate: outcomes that were not drawn may be worse."""

    estimated_min_score: float
    outputs: tuple[str, ...]
    samples: int
    reason: Reason = Reason.ESTIMATE_ONLY


class Enumerated(NamedTuple):
    """Outputs of the candidates looked at, in order, and the first that failed; None: all passed."""

    outputs: tuple[str, ...]
    failed: object | None


def check_budget(budget: int, k: int) -> None:
    """Raise OptionError unless 0 <= budget < k."""
    if not 0 <= budget < k:
        raise OptionError(f"expected 0 <= corruption_size < k = {k}, received {budget}", place="corruption_size")


def surviving(items: Sequence[Candidate], k: int, budget: int, threat: Threat) -> Sequence[Candidate]:
    """The items of a ranked list of at most k that every attack leaves in place, or may leave in place.

    Injection displaces the last `budget` of the k places; where the list is shorter than k - budget, none.
    Modification moves nothing.
    """
    check_budget(budget, k)
    return items[: k - budget] if threat == "injection" else items[:k]


def corrupted(clean: Sequence[Hashable], read: Sequence[Hashable], *, k: int, threat: Threat) -> int | None:
    """How many corrupted passages turn the clean list into the one that was read, both of at most k distinct items.

    None: the threat does not allow it, as where a poisoned corpus changed the order of benign passages.
    """
    clean = clean[:k]
    if threat == "modification":
        if len(read) != len(clean):
            return None
        return sum(before != after for before, after in zip(clean, read, strict=True))
    benign = [item for item in read if item in set(clean)]
    added = len(read) - len(benign)
    in_order = benign == list(clean[: len(benign)]) and len(read) == min(k, len(clean) + added)
    return added if in_order else None


def enumerate_outputs(
    candidates: Iterable[Candidate], answer: Callable[[Sequence[Candidate]], Sequence[str]], checker: Checker
) -> Enumerated:
    """Answer candidates until one fails; each distinct one is asked once, in batches that double.

    The first batch has two candidates: the extremes, which fail most often, are to stand first.
    """
    waiting = list(dict.fromkeys(candidates))
    outputs: list[str] = []
    size = 2
    while waiting:
        batch, waiting = waiting[:size], waiting[size:]
        for candidate, output in zip(batch, answer(batch), strict=True):
            outputs.append(output)
            if not checker(output):
                return Enumerated(tuple(dict.fromkeys(outputs)), candidate)
        size *= 2
    return Enumerated(tuple(dict.fromkeys(outputs)), None)


def normal_form(text: str) -> str:
    """NFKC, case-folded, white space single: the form in which texts are counted and compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def same_answer(clean: str) -> Checker:
    """The checker for "no attack can change this": equal to the clean answer but for case and edge punctuation."""

    def bare(text: str) -> str:
        return normal_form(text).strip(" .,;:!?\"'")

    wanted = bare(clean)
    return lambda output: bare(output) == wanted


def holds_answer(answers: Iterable[str]) -> Checker:
    """The checker of the paper's open questions: some gold answer, lower-cased, is a substring of the output."""
    wanted = [answer.lower().strip() for answer in answers if answer.strip()]
    return lambda output: any(answer in output.lower() for answer in wanted)


def starts_with_letter(letter: str) -> Checker:
    """The checker of multiple choice: the output starts with the gold letter and a full stop."""
    return lambda output: output.strip().startswith(f"{letter}.")
