"""Chunks of tokens and blocks of the vocabulary give the values and every gradient of the naive path."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases.token_logits import TOKENS, VOCAB, Case, naive_logits, naive_token_log_probs
from torch import Tensor

from glassworks.errors import OptionError
from glassworks.foundations.chunked_logits import LabelLogProb, Measured, per_token, softmax_and_lse
from glassworks.foundations.log_probs import TopTokens, kl_divergence, kl_from_top_tokens, token_log_probs, top_tokens
from glassworks.foundations.unembedding import Unembedding


def naive_kl(case: Case, hidden: Tensor, head: Unembedding) -> Tensor:
    target = naive_logits(
        case.teacher_hidden.to(hidden), Unembedding(case.teacher.weight.to(hidden), None, 0.7, case.soft_cap)
    )
    student = naive_logits(hidden, head).log_softmax(-1)
    return F.kl_div(student, target.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def top_target(case: Case, k: int = 5) -> TopTokens:
    return top_tokens(case.teacher_hidden, case.teacher, k)


def naive_kl_from_top(case: Case, hidden: Tensor, head: Unembedding) -> Tensor:
    target = top_target(case)
    probs = naive_logits(hidden, head).softmax(-1)
    listed = probs.gather(1, target.ids)
    buckets = torch.cat([listed, 1 - listed.sum(1, keepdim=True)], dim=1)
    expected = target.log_probs.to(hidden)
    return (expected.exp() * (expected - buckets.log())).sum(-1)


def ours(quantity: str, case: Case, hidden: Tensor, head: Unembedding, chunk_elements: int) -> Tensor:
    if quantity == "log_probs":
        return token_log_probs(hidden, case.labels, head, chunk_elements=chunk_elements)
    if quantity == "kl":
        return kl_divergence(case.teacher_hidden, case.teacher, hidden, head, chunk_elements=chunk_elements)
    return kl_from_top_tokens(top_target(case), hidden, head, chunk_elements=chunk_elements)


NAIVE: dict[str, Any] = {"log_probs": naive_token_log_probs, "kl": naive_kl, "kl_from_top": naive_kl_from_top}
HEADS = {
    "plain": {"bias": False},
    "bias": {},
    "scaled": {"scale": 0.4},
    "capped": {"soft_cap": 2.5},
    "all": {"scale": 1.7, "soft_cap": 3.0},
}


@pytest.mark.parametrize("chunk_elements", [1, 3 * VOCAB, 2**23], ids=["by-token", "by-three", "whole"])
@pytest.mark.parametrize("head_trains", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("settings_of", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("quantity", NAIVE)
def test_values_and_gradients_equal_the_naive_path(
    quantity: str, settings_of: dict[str, Any], head_trains: bool, chunk_elements: int
) -> None:
    case = Case(**settings_of)
    (hidden, head), (plain_hidden, plain_head) = case.leaves(head_trains), case.leaves(head_trains)
    received = ours(quantity, case, hidden, head, chunk_elements)
    expected = NAIVE[quantity](case, plain_hidden, plain_head)
    assert received.dtype == torch.float32
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=1e-5)
    received.backward(case.upstream)
    expected.backward(case.upstream)
    for mine, theirs in ((hidden, plain_hidden), (head.weight, plain_head.weight), (head.bias, plain_head.bias)):
        if mine is not None and theirs is not None and theirs.grad is not None:
            assert mine.grad is not None
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)
    assert (head.weight.grad is not None) == head_trains


@pytest.mark.parametrize("head_trains", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("quantity", NAIVE)
def test_gradients_are_those_of_finite_differences(quantity: str, head_trains: bool) -> None:
    case = Case(scale=1.3, soft_cap=4.0)
    case.weight, case.bias = case.weight[:11], case.bias[:11] if case.bias is not None else None
    case.labels = case.labels[:5] % 11
    case.teacher = Unembedding(case.teacher.weight[:11].double())
    case.hidden, case.teacher_hidden = case.hidden[:5], case.teacher_hidden[:5].double()
    hidden, head = case.leaves(head_trains, torch.float64)

    def value(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ours(quantity, case, hidden, Unembedding(weight, bias, head.scale, head.soft_cap), 40)

    assert torch.autograd.gradcheck(value, (hidden, head.weight, head.bias), atol=1e-7)


def test_only_the_head_can_train() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=True)
    token_log_probs(hidden.detach(), case.labels, head).sum().backward()
    _, plain = case.leaves(head_trains=True)
    naive_token_log_probs(case, hidden.detach(), plain).sum().backward()
    torch.testing.assert_close(head.weight.grad, plain.weight.grad, atol=1e-5, rtol=1e-4)


def test_a_rest_without_mass_gives_finite_values_and_gradients() -> None:
    states = torch.tensor([[60.0, 59.0, -80.0, -80.0]], requires_grad=True)
    head = Unembedding(torch.eye(4))
    target = TopTokens(torch.tensor([[0, 1]]), torch.tensor([[math.log(0.5), math.log(0.5), -math.inf]]))
    value = kl_from_top_tokens(target, states, head)
    value.sum().backward()
    assert states.grad is not None
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(states.grad).all())


def test_bf16_products_are_reduced_in_fp32() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=True, dtype=torch.bfloat16)
    values = token_log_probs(hidden, case.labels, head)
    assert values.dtype == torch.float32
    logits = F.linear(hidden, head.weight, head.bias).float()
    expected = logits.log_softmax(-1).gather(1, case.labels.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    values.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_autocast_multiplies_in_bf16_and_returns_fp32_gradients() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = token_log_probs(hidden, case.labels, head)
    values.sum().backward()
    low, low_head = case.leaves(head_trains=True, dtype=torch.bfloat16)
    torch.testing.assert_close(values, token_log_probs(low, case.labels, low_head))
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32


def test_no_gradient_is_prepared_without_a_tape() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=True)
    with torch.no_grad():
        assert not token_log_probs(hidden, case.labels, head).requires_grad


@dataclass(frozen=True, eq=False)
class Watched(LabelLogProb):
    """The log-prob of a label, which notes how many rows of logits it is given at a time."""

    sizes: list[int] = field(default_factory=list)

    def measure(self, logits: Tensor, rows: slice) -> Measured:
        self.sizes.append(len(logits))
        return super().measure(logits, rows)


@pytest.mark.parametrize(
    ("chunk_elements", "sizes"), [(1, [1] * 13), (VOCAB * 5, [5, 5, 3]), (VOCAB * 5 - 1, [4, 4, 4, 1]), (2**23, [13])]
)
def test_no_more_logits_are_held_than_were_allowed(chunk_elements: int, sizes: list[int]) -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=False)
    watched = Watched(case.labels)
    per_token(hidden, head, watched, chunk_elements=chunk_elements).sum().backward()
    assert watched.sizes == sizes, "forward in chunks; with a frozen head backward measures nothing again"


def test_the_log_sum_exp_from_the_largest_entry_holds_for_extreme_logits() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1e4, -1e4, 1e4], [-1e4, -1e4, -1e4 - 1], [88.0, 89.0, -300.0]])
    probs, lse = softmax_and_lse(logits)
    torch.testing.assert_close(lse, logits.logsumexp(-1))
    torch.testing.assert_close(probs, logits.softmax(-1))


def test_a_second_derivative_is_refused_and_states_must_fit() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=True)
    values = per_token(hidden, head, LabelLogProb(case.labels))
    (gradient,) = torch.autograd.grad(values.square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    with pytest.raises(OptionError, match=r"shape \(1, 13, 7\), expected \[tokens, 7\]"):
        per_token(hidden[None], head, LabelLogProb(case.labels))


@pytest.mark.parametrize("kept_tokens", [1, 4, 5, TOKENS, 10 * TOKENS])
@pytest.mark.parametrize("settings_of", HEADS.values(), ids=HEADS)
def test_kept_probabilities_change_no_gradient(settings_of: dict[str, Any], kept_tokens: int) -> None:
    case = Case(**settings_of)
    (hidden, head), (plain_hidden, plain_head) = case.leaves(True), case.leaves(True)
    kept = token_log_probs(hidden, case.labels, head, chunk_elements=3 * VOCAB, kept_elements=kept_tokens * VOCAB)
    plain = token_log_probs(plain_hidden, case.labels, plain_head, chunk_elements=3 * VOCAB)
    assert torch.equal(kept, plain)
    for _ in range(2):  # the second backward finds nothing kept, since the first has overwritten it
        kept.backward(case.upstream, retain_graph=True)
        plain.backward(case.upstream, retain_graph=True)
    for mine, theirs in ((hidden, plain_hidden), (head.weight, plain_head.weight), (head.bias, plain_head.bias)):
        if mine is not None and theirs is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_kept_probabilities_save_the_second_product(monkeypatch: pytest.MonkeyPatch) -> None:
    case, calls = Case(), []
    hidden, head = case.leaves(True)
    original = Unembedding.logits
    monkeypatch.setattr(Unembedding, "logits", lambda *args, **kw: calls.append(1) or original(*args, **kw))
    token_log_probs(hidden, case.labels, head, kept_elements=TOKENS * VOCAB).sum().backward()
    assert len(calls) == 1
