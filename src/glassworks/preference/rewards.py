"""What training did to a model's preferences: accuracies, margins, length, distance from the start, on held-out pairs.

Question: does the implicit reward order pairs as people did, does likelihood, and is either only length (SimPO paper,
its analyses of reward accuracy, likelihood ranking and length)? Input: `PairLogProbs` of the same pairs, after, and
before where there is a before. Output: evidence with intervals and figures. Knows no trainer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from transformers import PreTrainedModel

from glassworks.foundations.evidence import Evidence
from glassworks.foundations.statistics import (
    Estimate,
    Interval,
    bootstrap_mean,
    paired_difference,
    proportion,
    spearman,
)
from glassworks.preference.losses import PairLogProbs, method_of
from glassworks.preference.pairs import TokenizedPair
from glassworks.preference.reference import reference_sums
from glassworks.report.figures import Series, curves, densities

SYSTEM = "preference"
FIFTHS = 5
"""Groups of equal size that responses are put into by length, for a figure."""


class Rewards(NamedTuple):
    """Figures of each held-out pair, float64 [pairs] each: implicit rewards, mean log-probs a token and lengths."""

    chosen_rewards: NDArray[np.float64]
    rejected_rewards: NDArray[np.float64]
    chosen_means: NDArray[np.float64]
    rejected_means: NDArray[np.float64]
    chosen_lengths: NDArray[np.float64]
    rejected_lengths: NDArray[np.float64]

    @property
    def margins(self) -> NDArray[np.float64]:
        """Reward of chosen minus rejected, [pairs]."""
        return self.chosen_rewards - self.rejected_rewards


def held_out_log_probs(
    model: PreTrainedModel, pairs: Sequence[TokenizedPair], reference: PairLogProbs | None = None
) -> PairLogProbs:
    """The pairs' log-probs under `model`, [pairs]; `reference`: those under the start model, for rewards."""
    sums = reference_sums(pairs, [[] for _ in pairs], model)
    lengths = [torch.tensor([len(pair[side]) for pair in pairs]) for side in (1, 2)]
    start = sums if reference is None else torch.stack([reference.chosen, reference.rejected], 1)
    return PairLogProbs(sums[:, 0], sums[:, 1], lengths[0], lengths[1], start[:, 0], start[:, 1], torch.zeros(()))


def rewards_of(pairs: PairLogProbs, method: str, settings: dict[str, object]) -> Rewards:
    """The implicit rewards that `method` gives these pairs, and what they are made of; fields [pairs]."""
    result = method_of(method).function(pairs, **settings)
    fields = (
        result.chosen_rewards,
        result.rejected_rewards,
        pairs.chosen_means,
        pairs.rejected_means,
        pairs.chosen_lengths,
        pairs.rejected_lengths,
    )
    return Rewards(*(field.double().numpy() for field in fields))


def reward_evidence(before: Rewards | None, after: Rewards, setting: str, **common: str) -> list[Evidence]:
    """Claims about held-out pairs after training, and against the same pairs before where there is a before.

    common: model_sha, data_sha and the like.
    """
    n, made = len(after.margins), _maker(setting, len(after.margins), common)
    ranked = after.chosen_means > after.rejected_means
    accuracy = proportion(int((after.margins > 0).sum()), n)
    likelihood = proportion(int(ranked.sum()), n)
    agree = proportion(int(((after.margins > 0) == ranked).sum()), n)
    ranked_before = None if before is None else float((before.chosen_means > before.rejected_means).mean())
    claims = [
        made("reward_accuracy", "Held-out pairs whose chosen response has the higher implicit reward",
             accuracy.value, accuracy.interval, "share", "higher", 0.5),
        made("likelihood_accuracy", "Held-out pairs whose chosen response is likelier a token",
             likelihood.value, likelihood.interval, "share", "higher", ranked_before),
        made("reward_likelihood_agreement", "Held-out pairs that implicit reward and likelihood order alike",
             agree.value, agree.interval, "share", "none", None),
    ]  # fmt: skip
    if (length := _length_correlation(after)) is not None:
        start = None if before is None else _length_correlation(before)
        claims.append(
            made("length_correlation", "Rank correlation of a response's mean log-prob and its length",
                 length.value, length.interval, "Spearman's rho", "none", start and start.value, 2 * n)
        )  # fmt: skip
    return claims + ([] if before is None else _changes(before, after, made))


def _changes(before: Rewards, after: Rewards, made: Callable[..., Evidence]) -> list[Evidence]:
    """What training changed, pair by pair. The change of chosen responses is the SimPO paper's KL to the start."""
    order = paired_difference(
        (after.chosen_means > after.rejected_means).astype(float),
        (before.chosen_means > before.rejected_means).astype(float),
    )
    moved = paired_difference(after.chosen_means, before.chosen_means)
    apart = paired_difference(after.chosen_means - after.rejected_means, before.chosen_means - before.rejected_means)
    return [
        made("likelihood_accuracy_gain", "Held-out pairs whose chosen response is likelier a token: gain by training",
             order.difference, order.interval, "share", "higher", 0.0),
        made("margin_gain", "Mean log-prob a token of chosen minus rejected responses: gain by training",
             apart.difference, apart.interval, "nats", "higher", 0.0),
        made("chosen_log_prob_change", "Mean log-prob a token of chosen responses: change by training",
             moved.difference, moved.interval, "nats", "none", 0.0),
    ]  # fmt: skip


def likelihood_figure(rewards: Rewards) -> Figure:
    """How likely chosen and rejected responses are, as distributions over the same bins."""
    return densities(
        {"chosen": rewards.chosen_means.tolist(), "rejected": rewards.rejected_means.tolist()},
        x_label="mean log-prob of a response, nats a token",
    )


def length_figure(rewards: Rewards) -> Figure | None:
    """Mean log-prob by length, chosen and rejected, a point a fifth of the responses; None where lengths are equal."""
    lines = []
    for label, means, lengths in (
        ("chosen", rewards.chosen_means, rewards.chosen_lengths),
        ("rejected", rewards.rejected_means, rewards.rejected_lengths),
    ):
        parts = [part for part in np.array_split(np.argsort(lengths, kind="stable"), FIFTHS) if len(part)]
        found = [bootstrap_mean(means[part]) for part in parts]
        ends = [one.interval if len(part) > 1 else (one.value, one.value)
                for one, part in zip(found, parts, strict=True)]  # fmt: skip
        lines.append(Series(label, [float(lengths[part].mean()) for part in parts], [one.value for one in found],
                            [low for low, _ in ends], [high for _, high in ends]))  # fmt: skip
    if np.ptp(np.concatenate([line.x for line in lines])) == 0:
        return None
    return curves(lines, x_label="length of the response, tokens", y_label="mean log-prob, nats a token")


def margin_figure(before: Rewards | None, after: Rewards, target: float | None) -> Figure:
    """The margins, before and after training over the same bins. target: the margin a method aims at, same unit."""
    groups = {"after": after.margins.tolist()}
    return densities(
        groups if before is None else {"before": before.margins.tolist(), **groups},
        x_label="implicit reward of chosen minus rejected, nats times beta",
        reference=target,
        reference_label="target margin" if target is not None else "",
    )


def _length_correlation(rewards: Rewards) -> Estimate | None:
    means = np.concatenate([rewards.chosen_means, rewards.rejected_means])
    lengths = np.concatenate([rewards.chosen_lengths, rewards.rejected_lengths])
    if len(means) < 5 or np.ptp(lengths) == 0 or np.ptp(means) == 0:
        return None
    return spearman(means, lengths)


def _maker(setting: str, pairs: int, common: dict[str, str]) -> Callable[..., Evidence]:
    def make(
        metric: str,
        claim: str,
        value: float,
        interval: Interval,
        unit: str,
        better: str,
        baseline: float | None,
        n: int = pairs,
    ) -> Evidence:
        ends = (float(interval.low), float(interval.high))
        return Evidence(
            SYSTEM, claim, metric, float(value), unit, better,  # type: ignore[arg-type]
            ends if all(map(math.isfinite, ends)) else None, n, baseline, setting, **common,  # type: ignore[arg-type]
        )  # fmt: skip

    return make
