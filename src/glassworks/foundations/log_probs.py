"""Token log-probabilities, cross-entropy and KL straight from hidden states, never holding [tokens, vocab].

The quantity under every preference loss (Meng et al. 2024, section 2), language-model loss and distillation here:
exact values with log-sum-exp in fp32, and gradients, from states [tokens, hidden] and an `Unembedding`. Labels
follow the convention of causal language models: position t predicts label t + 1, and -100 is not scored.
Knows neither pairs, prompts nor losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from glassworks.errors import EmptyResponse, OptionError
from glassworks.foundations.chunked_logits import (
    CHUNK_ELEMENTS,
    BucketDivergence,
    FullKL,
    LabelLogProb,
    Teacher,
    per_token,
)
from glassworks.foundations.unembedding import Unembedding, hidden_states, unembedding_of

IGNORED = -100


class SequenceLogProbs(NamedTuple):
    """Response log-probs of a batch. sums: nats, fp32 [batch]; lengths: tokens scored, int64 [batch], above 0."""

    sums: Tensor
    lengths: Tensor

    @property
    def means(self) -> Tensor:
        """Mean log-prob a token, nats, [batch]."""
        return self.sums / self.lengths


class Scored(NamedTuple):
    """The positions of a batch that predict a label.

    hidden: [tokens, hidden]; labels: int64 [tokens]; rows: which sequence of the batch, int64 [tokens].
    """

    hidden: Tensor
    labels: Tensor
    rows: Tensor


class TopTokens(NamedTuple):
    """A distribution's k most likely tokens, best first, ties by id.

    ids: int64 [tokens, k]; log_probs: theirs and that of all the rest together, nats, [tokens, k + 1].
    """

    ids: Tensor
    log_probs: Tensor


def token_log_probs(
    hidden: Tensor,
    labels: Tensor,
    head: Unembedding,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
    kept_elements: int = 0,
) -> Tensor:
    """log p(label) of each token, nats, fp32 [tokens]; 0 without gradient where the label is -100.

    hidden: [tokens, hidden]; labels: int64 [tokens], already the ones that each state predicts. chunk_elements:
    logits held at a time; kept_elements: probabilities kept for the backward of a head that trains. Raises
    OptionError for a label outside the vocabulary or shapes that do not fit.
    """
    if labels.shape != hidden.shape[:1]:
        raise OptionError(f"{tuple(labels.shape)} labels for hidden states of shape {tuple(hidden.shape)}")
    scored = labels != IGNORED
    chosen = labels[scored]
    low, high = (0, 0) if chosen.numel() == 0 else (int(bound) for bound in chosen.aminmax())
    if low < 0 or high >= head.vocabulary:
        raise OptionError(
            f"labels lie in [{low}, {high}], the vocabulary has {head.vocabulary} tokens",
            remedy="Label positions that are not scored with -100.",
        )
    every = len(chosen) == len(labels)
    values = per_token(
        hidden if every else hidden[scored],
        head,
        LabelLogProb(chosen),
        chunk_elements=chunk_elements,
        kept_elements=kept_elements,
    )
    return values if every else values.new_zeros(len(labels)).masked_scatter(scored, values)


def cross_entropy(
    hidden: Tensor,
    labels: Tensor,
    head: Unembedding,
    *,
    reduction: Literal["mean", "sum", "none"] = "mean",
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """-log p(label), nats: mean or sum over labels that are not -100, a scalar; or each, [tokens].

    hidden: [tokens, hidden]; labels: int64 [tokens]. Raises EmptyResponse where nothing is left to average, and
    OptionError.
    """
    losses = -token_log_probs(hidden, labels, head, chunk_elements=chunk_elements)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction != "mean":
        raise OptionError(f"unknown reduction '{reduction}'", remedy="Known: mean, sum, none.")
    count = int((labels != IGNORED).sum())
    if count == 0:
        raise EmptyResponse(f"all {len(labels)} labels are -100", remedy="Drop sequences without a scored token.")
    return losses.sum() / count


def kl_divergence(
    teacher_hidden: Tensor,
    teacher_head: Unembedding,
    hidden: Tensor,
    head: Unembedding,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """KL(teacher || student) of each token over the whole vocabulary, nats, fp32 [tokens].

    teacher_hidden: [tokens, teacher's hidden]; hidden: [tokens, hidden]. The teacher is constant: no gradient
    reaches it. Raises OptionError when the two vocabularies or token counts differ.
    """
    if teacher_head.vocabulary != head.vocabulary or len(teacher_hidden) != len(hidden):
        raise OptionError(
            f"the teacher gives {len(teacher_hidden)} tokens x {teacher_head.vocabulary} logits, the student "
            f"{len(hidden)} x {head.vocabulary}",
            remedy="Distil between models with one tokenizer, over the same positions.",
        )
    head_detached = Unembedding(
        teacher_head.weight.detach(),
        None if teacher_head.bias is None else teacher_head.bias.detach(),
        teacher_head.scale,
        teacher_head.soft_cap,
    )
    states = teacher_hidden.detach().to(teacher_head.weight.dtype)
    return per_token(hidden, head, FullKL(Teacher(states, head_detached)), chunk_elements=chunk_elements)


def kl_of_log_probs(target: Tensor, log_probs: Tensor) -> Tensor:
    """KL(target || p) of distributions given by log-probs, nats, [...]; both [..., outcomes], -inf in target is 0."""
    weight = target.exp()
    return torch.where(weight > 0, weight * (target - log_probs), 0).sum(-1)


def kl_from_top_tokens(
    target: TopTokens,
    hidden: Tensor,
    head: Unembedding,
    *,
    divergence: Callable[[Tensor, Tensor], Tensor] = kl_of_log_probs,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Divergence of each token over the teacher's k tokens and one bucket for all the rest, nats, fp32 [tokens].

    target: [tokens, k] ids and [tokens, k + 1] log-probs; hidden: [tokens, hidden]. With the default this is a
    lower bound of the full KL (data processing). divergence takes (target, student) log-probs, both [n, k + 1], to
    [n], differentiably: another treatment of the rest goes there. Raises OptionError.
    """
    tokens, k = target.ids.shape
    if target.log_probs.shape != (tokens, k + 1) or tokens != len(hidden):
        raise OptionError(
            f"targets have shapes {tuple(target.ids.shape)} and {tuple(target.log_probs.shape)} for {len(hidden)} "
            "tokens, expected [tokens, k] and [tokens, k + 1]"
        )
    criterion = BucketDivergence(target.ids, target.log_probs, divergence)
    return per_token(hidden, head, criterion, chunk_elements=chunk_elements)


@torch.no_grad()
def top_tokens(hidden: Tensor, head: Unembedding, k: int, *, chunk_elements: int = CHUNK_ELEMENTS) -> TopTokens:
    """The k most likely tokens of each position and the mass of the rest, to cache a teacher.

    hidden: [tokens, hidden]; 0 < k < vocabulary. Raises OptionError.
    """
    if not 0 < k < head.vocabulary:
        raise OptionError(f"k is {k}, expected 1 to {head.vocabulary - 1}", remedy="The paper keeps 50.")
    ids, log_probs = [], []
    for states in hidden.to(head.weight.dtype).split(max(1, chunk_elements // head.vocabulary)):
        logits = head.logits(states)
        order = logits.sort(dim=-1, descending=True, stable=True)
        ids.append(order.indices[:, :k].clone())
        lse = order.values.logsumexp(-1, keepdim=True)
        rest = order.values[:, k:].logsumexp(-1, keepdim=True)
        log_probs.append(torch.cat([order.values[:, :k], rest], dim=1) - lse)
    return TopTokens(torch.cat(ids), torch.cat(log_probs))


def sum_by_sequence(log_probs: Tensor, rows: Tensor, batch: int) -> SequenceLogProbs:
    """Sums and lengths of the sequences that tokens belong to; for padded and for packed batches.

    log_probs, rows: [tokens], rows int64 in [0, batch). Raises EmptyResponse, naming the row, where one has none.
    """
    lengths = torch.bincount(rows, minlength=batch)
    empty = (lengths == 0).nonzero().flatten().tolist()
    if empty:
        raise EmptyResponse(
            "no token is left to score, so its mean log-probability does not exist",
            place=f"row {', '.join(map(str, empty))} of {batch}",
            remedy="Drop the row, or raise the length that truncation cuts to.",
        )
    return SequenceLogProbs(log_probs.new_zeros(batch).index_add(0, rows, log_probs), lengths)


def scored_positions(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    position_ids: Tensor | None = None,
) -> Scored:
    """Run the model's backbone and keep the states that predict a label other than -100.

    input_ids, attention_mask, labels, position_ids: [batch, seq]; labels align with input_ids.
    """
    states = hidden_states(model, input_ids, attention_mask, position_ids)
    targets = labels[:, 1:].to(states.device)
    rows, positions = (targets != IGNORED).nonzero(as_tuple=True)
    return Scored(states[rows, positions], targets[rows, positions], rows)


def sequence_log_probs(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    *,
    position_ids: Tensor | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> SequenceLogProbs:
    """Sum and number of the label log-probs of each sequence, differentiable in the model's parameters.

    input_ids, attention_mask, labels, position_ids: [batch, seq]; labels align with input_ids, -100 on prompt and
    padding. Equal to log-softmax over the model's logits; independent of the amount and side of padding.
    Raises EmptyResponse naming a row without labels, UnsupportedArchitecture for a model without a linear head.
    """
    head = unembedding_of(model)
    scored = scored_positions(model, input_ids, attention_mask, labels, position_ids)
    values = token_log_probs(scored.hidden, scored.labels, head, chunk_elements=chunk_elements)
    return sum_by_sequence(values, scored.rows, len(input_ids))
