"""What a circuit is judged by at an answer position: divergence from the whole model, and answer metrics.

Pure functions of logits [answers, vocab]: KL(full || circuit), logit difference, and Greater-Than's probability
difference, with the vocabulary restricted to `choices` where a task has a closed set of answers (Edge Pruning,
appendix). A mean weighs an example's tokens alike, then examples alike. Knows no model and no gates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Objective = Literal["kl", "logit_diff"]


def restricted(logits: Tensor, choices: Tensor | None) -> Tensor:
    """Logits of the answers that count, fp32 (float64 stays) [answers, choices], of [answers, vocab]."""
    chosen = logits if choices is None else logits[:, choices]
    return chosen if chosen.dtype == torch.float64 else chosen.float()


def divergence(full: Tensor, circuit: Tensor) -> Tensor:
    """KL(p_full || p_circuit) in nats of each answer, [answers], from logits [answers, vocab]."""
    p, q = full.log_softmax(-1), circuit.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def logit_difference(logits: Tensor, targets: Tensor, distractors: Tensor) -> Tensor:
    """logit(target) - logit(distractor) of each answer, [answers]; against the mean logit where there is none (-1).

    logits: [answers, vocab]; targets, distractors: int64 [answers].
    """
    right = logits.gather(1, targets[:, None])[:, 0]
    wrong = logits.gather(1, distractors.clamp(min=0)[:, None])[:, 0]
    return right - torch.where(distractors < 0, logits.mean(-1), wrong)


def probability_difference(logits: Tensor, thresholds: Tensor, within: int | None = None) -> Tensor:
    """Sum of p(y > threshold) - p(y < threshold) of each answer, [answers] (Greater-Than).

    logits: [answers, choices], choices in ascending order; thresholds: place of YY, int64 [answers]; within: count
    only choices at most so far from YY.
    """
    p = logits.softmax(-1)
    away = torch.arange(p.shape[-1], device=p.device) - thresholds[:, None]
    sign = away.sign() if within is None else away.sign() * (away.abs() <= within)
    return (p * sign).sum(-1)


def by_example(values: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Means over each example's answers, [examples], of values [answers]; rows, weights as in `Batch`."""
    total = torch.zeros(int(rows.max()) + 1, dtype=values.dtype, device=values.device)
    share = torch.zeros_like(total).index_add(0, rows, weights.to(values.dtype))
    return total.index_add(0, rows, values * weights.to(values.dtype)) / share
