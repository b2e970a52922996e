"""Random states, labels, teacher and head of a few tokens, and the naive path through all logits."""

import torch
from torch import Tensor

from glassworks.foundations.unembedding import Unembedding

TOKENS, HIDDEN, VOCAB = 13, 7, 1031


class Case:
    """Random states, labels, teacher and head; every call of `leaves` gives fresh leaves of the same values."""

    def __init__(self, *, scale: float = 1.0, soft_cap: float | None = None, bias: bool = True) -> None:
        generator = torch.Generator().manual_seed(5)
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        self.hidden, self.teacher_hidden = draw(TOKENS, HIDDEN), draw(TOKENS, HIDDEN + 2)
        self.weight, self.bias = draw(VOCAB, HIDDEN), draw(VOCAB) if bias else None
        self.teacher = Unembedding(draw(VOCAB, HIDDEN + 2), None, 0.7, soft_cap)
        self.labels = torch.randint(VOCAB, (TOKENS,), generator=generator)
        self.upstream, self.scale, self.soft_cap = draw(TOKENS), scale, soft_cap

    def leaves(self, head_trains: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Unembedding]:
        hidden = self.hidden.to(dtype, copy=True).requires_grad_()
        weight = self.weight.to(dtype, copy=True).requires_grad_(head_trains)
        bias = None if self.bias is None else self.bias.to(dtype, copy=True).requires_grad_(head_trains)
        return hidden, Unembedding(weight, bias, self.scale, self.soft_cap)


def naive_logits(hidden: Tensor, head: Unembedding) -> Tensor:
    """All logits [tokens, vocab], as the formula says."""
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    return logits if head.soft_cap is None else torch.tanh(logits / head.soft_cap) * head.soft_cap


def naive_token_log_probs(case: Case, hidden: Tensor, head: Unembedding) -> Tensor:
    """log p(label) [tokens], by a log-softmax over all logits."""
    return naive_logits(hidden, head).log_softmax(-1).gather(1, case.labels.unsqueeze(1)).squeeze(1)
