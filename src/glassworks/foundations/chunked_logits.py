"""Per-token functions of the logits, with gradients, in memory for a few rows of logits instead of all.

A criterion gives one value a token from that token's row of logits. Forward goes over chunks of tokens. With a
frozen head the gradient is computed there and then, while the logits are at hand, so nothing is done twice. With
a head that trains, the weight's gradient depends on what follows: the probabilities of as many tokens as the caller
allows are kept for it, and backward recomputes the logits of the others by blocks of the vocabulary, each of which
yields its rows of the weight's gradient whole. Knows tensors only; `log_probs` is the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glassworks.errors import OptionError
from glassworks.foundations.unembedding import Unembedding

CHUNK_ELEMENTS = 2**23
"""Logits held at a time; 32 MiB a buffer in fp32. Two buffers are alive for log-probs, four for a full KL."""

SMALLEST_BLOCK = 256
"""Columns of the smallest vocabulary block: thinner products are slow."""


class Statistics(NamedTuple):
    """What the gradient of some tokens' values by their logits needs: factor * p - teacher, but `slopes` at `ids`.

    lse, teacher_lse: log of the sum of exp(logits), [tokens]; factor: [tokens]; ids, slopes: [tokens, k].
    """

    lse: Tensor
    teacher_lse: Tensor
    factor: Tensor
    ids: Tensor
    slopes: Tensor


class Measured(NamedTuple):
    """values: [tokens]; probs p: [tokens, vocab]; teacher: its probabilities [tokens, vocab], or None."""

    values: Tensor
    statistics: Statistics
    probs: Tensor
    teacher: Tensor | None = None


class Teacher(NamedTuple):
    """Another model's states [tokens, hidden] and unembedding; constants."""

    hidden: Tensor
    head: Unembedding


class Criterion(Protocol):
    """A value a token from its logits, and the teacher it compares with, if any."""

    @property
    def teacher(self) -> Teacher | None:
        """The teacher, whose probabilities backward recomputes by blocks."""

    def measure(self, logits: Tensor, rows: slice) -> Measured:
        """Values of the tokens `rows` from their logits [tokens, vocab], which must stay as they are."""


def softmax_and_lse(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax [tokens, vocab] and log-sum-exp [tokens] of logits [tokens, vocab].

    The second follows from the largest entry of each, which is well conditioned (a probability of at least
    1 / vocab), and saves the passes of a logsumexp.
    """
    probs = torch.softmax(logits, -1)
    return probs, logits.amax(-1) - probs.amax(-1).log()


@dataclass(frozen=True, eq=False)
class LabelLogProb:
    """log p[label], nats. labels: int64 [tokens], all within the vocabulary."""

    labels: Tensor
    teacher: None = None

    def measure(self, logits: Tensor, rows: slice) -> Measured:
        """See `Criterion`. The slope is 1 - p at the label and -p elsewhere."""
        labels = self.labels[rows].unsqueeze(1)
        probs, lse = softmax_and_lse(logits)
        values = logits.gather(1, labels).squeeze(1) - lse
        slopes = 1 - probs.gather(1, labels)
        return Measured(values, Statistics(lse, lse, torch.full_like(lse, -1), labels, slopes), probs)


@dataclass(frozen=True, eq=False)
class FullKL:
    """KL(teacher || p) over the whole vocabulary, nats."""

    teacher: Teacher

    def measure(self, logits: Tensor, rows: slice) -> Measured:
        """See `Criterion`. The slope is p - teacher."""
        reference = self.teacher.head.logits(self.teacher.hidden[rows])
        target, target_lse = softmax_and_lse(reference)
        probs, lse = softmax_and_lse(logits)
        # Log-ratios first, then the sum: the other order cancels where the two distributions are close.
        ratio = reference.sub_(logits).sub_((target_lse - lse).unsqueeze(1))
        nothing = lse.new_zeros(len(lse), 0)
        statistics = Statistics(lse, target_lse, torch.ones_like(lse), nothing.long(), nothing)
        return Measured(torch.linalg.vecdot(target, ratio), statistics, probs, target)


@dataclass(frozen=True, eq=False)
class BucketDivergence:
    """A divergence of two distributions over k tokens and a bucket for the rest.

    ids: the k tokens, distinct within a row, int64 [tokens, k]; target: log-probs of the k tokens and of the rest,
    [tokens, k + 1]; divergence: (target log-probs, log-probs of p), both [n, k + 1], to values [n].
    """

    ids: Tensor
    target: Tensor
    divergence: Callable[[Tensor, Tensor], Tensor]
    teacher: None = None

    def measure(self, logits: Tensor, rows: slice) -> Measured:
        """See `Criterion`. With c the divergence's gradient by p's k + 1 log-probs and C its sum, the slope is
        c_v - C p_v at the k tokens and p (c_rest / p_rest - C) elsewhere.
        """
        ids = self.ids[rows]
        probs, lse = softmax_and_lse(logits)
        listed = logits.gather(1, ids) - lse.unsqueeze(1)
        # The rest is summed, not taken as 1 - (sum of the k), which cancels where the k hold nearly everything.
        rest = probs.scatter_(1, ids, 0).sum(-1, keepdim=True).clamp_min(torch.finfo(probs.dtype).tiny)
        with torch.enable_grad():
            buckets = torch.cat([listed, rest.log()], dim=1).requires_grad_()
            values = self.divergence(self.target[rows].to(buckets), buckets)
            (slope,) = torch.autograd.grad(values.sum(), buckets)
        total = slope.sum(1, keepdim=True)
        factor = (slope[:, -1:] / rest - total).squeeze(1)
        return Measured(values.detach(), Statistics(lse, lse, factor, ids, slope[:, :-1] - total * listed.exp()), probs)


class _PerToken(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Unembedding,
        criterion: Criterion,
        chunk_elements: int,
        kept_elements: int,
        recording: bool,
    ) -> Tensor:
        """Values [tokens]; hidden: [tokens, hidden], weight: [vocab, hidden], bias: [vocab] or None."""
        head = Unembedding(weight, bias, head.scale, head.soft_cap)
        head_trains = recording and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2])
        at_once = recording and not head_trains
        collected: list[Tensor] = []
        size = max(1, chunk_elements // head.vocabulary)
        # A teacher's probabilities and a cap's logits would have to be kept too.
        keeps = head_trains and criterion.teacher is None and head.soft_cap is None
        kept_rows = min(kept_elements // head.vocabulary, len(hidden)) if keeps else 0
        kept_probs = hidden.new_empty(
            kept_rows, head.vocabulary, dtype=torch.promote_types(weight.dtype, torch.float32)
        )
        for start in range(0, max(len(hidden), 1), size):
            rows = slice(start, start + size)
            parts = _measure_chunk(hidden[rows], head, criterion, rows, at_once, head_trains, kept_probs[rows])
            # Into tensors of the final size: small ones kept from each chunk would lie between the freed large
            # ones, and the heap would grow by a chunk a turn.
            if not collected:
                collected = [part.new_empty((len(hidden), *part.shape[1:])) for part in parts]
            for whole, part in zip(collected, parts, strict=True):
                whole[rows] = part
        values, *kept = collected
        ctx.head_trains, ctx.scale, ctx.soft_cap = head_trains, head.scale, head.soft_cap
        ctx.criterion, ctx.chunk_elements, ctx.kept_probs = criterion, chunk_elements, kept_probs
        if head_trains:
            ctx.save_for_backward(hidden, weight, bias, *kept)
        else:
            ctx.save_for_backward(*kept)
        return values

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of hidden, weight and bias, in their shapes; upstream: [tokens]."""
        if not ctx.head_trains:
            (gradient,) = ctx.saved_tensors
            return (gradient * upstream.unsqueeze(1).to(gradient.dtype), *[None] * 7)
        hidden, weight, bias, *statistics = ctx.saved_tensors
        head = Unembedding(weight, bias, ctx.scale, ctx.soft_cap)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        hidden_gradient = torch.zeros_like(hidden, dtype=upstream.dtype) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight) if wants_weight else None
        bias_gradient = torch.zeros_like(bias) if wants_bias else None
        for rows, columns, slope in _slopes(ctx, hidden, head, Statistics(*statistics), upstream):
            if bias_gradient is not None:
                bias_gradient[columns] += slope.sum(0)
            slope = slope.to(weight.dtype)
            if hidden_gradient is not None:
                hidden_gradient[rows] += slope @ weight[columns]
            if weight_gradient is not None:
                weight_gradient[columns].addmm_(slope.T, hidden[rows])
            del slope  # Free before the next block takes its own.
        if hidden_gradient is not None:
            hidden_gradient = hidden_gradient.to(hidden.dtype)
        return (hidden_gradient, weight_gradient, bias_gradient, *[None] * 5)


def _slopes(
    ctx: Any, hidden: Tensor, head: Unembedding, statistics: Statistics, upstream: Tensor
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and the loss's gradient by their logits: all columns of the kept rows, then blocks of the rest."""
    kept = len(ctx.kept_probs)
    if kept:
        # Overwritten, so they serve one backward; another recomputes all.
        probs, ctx.kept_probs = ctx.kept_probs, hidden.new_empty(0)
        rows = slice(kept)
        yield (
            rows,
            slice(None),
            _scaled_slope(probs, Statistics(*(of[rows] for of in statistics)), upstream[rows], head),
        )
        del probs
    rows = slice(kept, None)
    hidden, upstream = hidden[rows], upstream[rows]
    statistics = Statistics(*(of[rows] for of in statistics))
    size = max(SMALLEST_BLOCK, ctx.chunk_elements // max(len(hidden), 1))
    for start in range(0, head.vocabulary if len(hidden) else 0, size):
        columns = slice(start, min(start + size, head.vocabulary))
        yield rows, columns, _recomputed_slope(hidden, head, statistics, ctx.criterion.teacher, upstream, columns)


def _measure_chunk(
    hidden: Tensor,
    head: Unembedding,
    criterion: Criterion,
    rows: slice,
    at_once: bool,
    head_trains: bool,
    kept_probs: Tensor,
) -> list[Tensor]:
    # A function, so that the chunk's buffers are free before the next chunk takes its own.
    logits = head.logits(hidden)
    measured = criterion.measure(logits, rows)
    kept_probs.copy_(measured.probs[: len(kept_probs)])
    if at_once:
        return [measured.values, _slope(measured, logits, head).to(head.weight.dtype) @ head.weight]
    return [measured.values, *(measured.statistics if head_trains else ())]


def _recomputed_slope(
    hidden: Tensor,
    head: Unembedding,
    statistics: Statistics,
    teacher: Teacher | None,
    upstream: Tensor,
    columns: slice,
) -> Tensor:
    # The gradient by these columns of the logits, times `upstream`, which is folded into factors of one a token.
    logits = head.logits(hidden, columns)
    lse = statistics.lse.unsqueeze(1)
    probs = (logits.sub_(lse) if head.soft_cap is None else logits - lse).exp_()
    probs.mul_((statistics.factor * upstream).unsqueeze(1))
    if teacher is not None:
        target = teacher.head.logits(teacher.hidden, columns).sub_(statistics.teacher_lse.unsqueeze(1)).exp_()
        probs.addcmul_(target, upstream.unsqueeze(1), value=-1)
    inside = (statistics.ids >= columns.start) & (statistics.ids < columns.stop)
    rows, _ = inside.nonzero(as_tuple=True)
    slopes = (statistics.slopes * upstream.unsqueeze(1))[inside]
    probs[rows, statistics.ids[inside] - columns.start] = slopes
    return _before_scale_and_cap(probs, logits, head)


def _scaled_slope(probs: Tensor, statistics: Statistics, upstream: Tensor, head: Unembedding) -> Tensor:
    # The gradient by all logits of tokens whose probabilities [tokens, vocab] were kept, in their place.
    probs.mul_((statistics.factor * upstream).unsqueeze(1))
    probs.scatter_(1, statistics.ids, statistics.slopes * upstream.unsqueeze(1))
    return probs if head.scale == 1 else probs.mul_(head.scale)


def _slope(measured: Measured, logits: Tensor, head: Unembedding) -> Tensor:
    # In place of the probabilities: a fresh buffer of this size costs more time than the arithmetic.
    slope = measured.probs.mul_(measured.statistics.factor.unsqueeze(1))
    if measured.teacher is not None:
        slope.sub_(measured.teacher)
    slope.scatter_(1, measured.statistics.ids, measured.statistics.slopes)
    return _before_scale_and_cap(slope, logits, head)


def _before_scale_and_cap(slope: Tensor, logits: Tensor, head: Unembedding) -> Tensor:
    # d tanh(x) = 1 - tanh(x)^2. Overwrites both; the logits have served.
    if head.soft_cap is not None:
        slope.mul_(logits.div_(head.soft_cap).square_().neg_().add_(1))
    return slope if head.scale == 1 else slope.mul_(head.scale)


def per_token(
    hidden: Tensor,
    head: Unembedding,
    criterion: Criterion,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
    kept_elements: int = 0,
) -> Tensor:
    """The criterion's value of each token, fp32 (float64 for a float64 head), [tokens]; differentiable.

    hidden: [tokens, hidden], converted to the weight's dtype, or under autocast both to autocast's. Gradients
    reach hidden and the head's weight and bias, once (no second derivative). chunk_elements bounds the logits
    held at a time; kept_elements, the probabilities kept from forward to backward where the head trains, which
    saves computing those logits again. Neither changes a value beyond rounding. Raises OptionError for shapes
    that do not fit.
    """
    if hidden.ndim != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise OptionError(
            f"hidden states have shape {tuple(hidden.shape)}, expected [tokens, {head.weight.shape[1]}]",
            remedy="Select the positions first; the result has one value a row.",
        )
    device, weight, bias = hidden.device.type, head.weight, head.bias
    if torch.is_autocast_enabled(device):
        weight = weight.to(torch.get_autocast_dtype(device))
        bias = None if bias is None else bias.to(weight.dtype)
    with torch.autocast(device, enabled=False):
        result: Tensor = _PerToken.apply(
            hidden.to(weight.dtype),
            weight,
            bias,
            head,
            criterion,
            chunk_elements,
            kept_elements,
            torch.is_grad_enabled(),
        )
    return result
