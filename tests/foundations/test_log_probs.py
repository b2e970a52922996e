"""Log-probs and KL from hidden states against the naive path through all logits: values and every gradient."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassworks.errors import EmptyResponse, OptionError
from glassworks.foundations.log_probs import (
    TopTokens,
    cross_entropy,
    kl_divergence,
    kl_from_top_tokens,
    scored_positions,
    sequence_log_probs,
    sum_by_sequence,
    token_log_probs,
    top_tokens,
)
from glassworks.foundations.unembedding import Unembedding

TOKENS, HIDDEN, VOCAB = 13, 7, 1031


class Case:
    """Random states, labels, teacher and head; every call of `heads` gives fresh leaves of the same values."""

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
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    return logits if head.soft_cap is None else torch.tanh(logits / head.soft_cap) * head.soft_cap


def naive_token_log_probs(case: Case, hidden: Tensor, head: Unembedding) -> Tensor:
    return naive_logits(hidden, head).log_softmax(-1).gather(1, case.labels.unsqueeze(1)).squeeze(1)


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


def as_logits(rows: list[list[float]]) -> tuple[Tensor, Unembedding]:
    logits = torch.tensor(rows)
    return logits, Unembedding(torch.eye(logits.shape[1]))


def test_published_log_probs_of_four_rows() -> None:
    hidden, head = as_logits([[0, 1, 2], [1, 0, 0], [2, 2, 0], [0, 0, 0]])
    values = token_log_probs(hidden[:3], torch.tensor([2, 0, 1]), head)
    assert values.tolist() == pytest.approx([-0.4076060, -0.5514447, -0.7586237], abs=1e-6)
    sequence = sum_by_sequence(values, torch.zeros(3, dtype=torch.long), 1)
    assert sequence.means.tolist() == pytest.approx([-0.5725581], abs=1e-6)
    assert sequence.lengths.tolist() == [3]


def test_published_kl_runs_from_the_teacher_to_the_student() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.5, 0.25, 0.25]]).log()
    head = Unembedding(torch.eye(3))
    assert kl_divergence(p, head, q, head).tolist() == pytest.approx([0.0992728], abs=1e-6)
    assert kl_divergence(q, head, p, head).tolist() == pytest.approx([0.1166225], abs=1e-6)
    full, head = as_logits([[2, 0, -1], [0, 0, 0]])
    sub, _ = as_logits([[1, 1, 0], [1, 0, -1]])
    rows = kl_divergence(full, head, sub, head)
    assert rows.tolist() == pytest.approx([0.379738, 0.308994], abs=1e-6)
    assert rows.mean().item() == pytest.approx(0.344366, abs=1e-6)


def test_published_kl_over_the_top_two_and_the_rest() -> None:
    student, head = as_logits([[2, 1, 0, -1], [0, 0, 3, 0]])
    teacher = torch.tensor([[0.7, 0.2, 0.05, 0.05], [0.1, 0.1, 0.75, 0.05]]).log()
    target = top_tokens(teacher, head, 2)
    assert target.ids.tolist() == [[0, 1], [2, 0]]
    assert target.log_probs.exp()[:, -1].tolist() == pytest.approx([0.1, 0.15])
    assert kl_divergence(teacher, head, student, head).mean().item() == pytest.approx(0.041099, abs=1e-6)
    assert kl_from_top_tokens(target, student, head).mean().item() == pytest.approx(0.030846, abs=1e-6)

    def without_the_rest(expected: Tensor, log_probs: Tensor) -> Tensor:
        return (expected.exp() * (expected - log_probs))[:, :-1].sum(-1)

    dropped = kl_from_top_tokens(target, student, head, divergence=without_the_rest)
    assert dropped.tolist() == pytest.approx([0.024611, -0.027695], abs=1e-6)
    assert cross_entropy(student, torch.tensor([0, 2]), head).item() == pytest.approx(0.289698, abs=1e-6)


def test_a_rest_without_mass_gives_finite_values_and_gradients() -> None:
    states = torch.tensor([[60.0, 59.0, -80.0, -80.0]], requires_grad=True)
    head = Unembedding(torch.eye(4))
    target = TopTokens(torch.tensor([[0, 1]]), torch.tensor([[math.log(0.5), math.log(0.5), -math.inf]]))
    value = kl_from_top_tokens(target, states, head)
    value.sum().backward()
    assert states.grad is not None
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(states.grad).all())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**16))
def test_the_bucketed_kl_is_a_lower_bound_of_the_full_one(tokens: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(tokens, 6, generator=generator) for _ in range(2))
    head = Unembedding(torch.randn(41, 6, generator=generator))
    full = kl_divergence(teacher, head, student, head)
    bucketed = kl_from_top_tokens(top_tokens(teacher, head, k), student, head)
    assert bool((bucketed <= full + 1e-5).all())
    assert bool((bucketed >= -1e-5).all())
    if k == 40:
        torch.testing.assert_close(bucketed, full, atol=1e-5, rtol=1e-4)


def test_ignored_labels_give_zero_and_no_gradient() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=False)
    labels = case.labels.clone()
    labels[[0, 4, 5]] = -100
    values = token_log_probs(hidden, labels, head)
    values.sum().backward()
    assert values[[0, 4, 5]].tolist() == [0, 0, 0]
    assert hidden.grad is not None
    assert not hidden.grad[[0, 4, 5]].any()
    assert hidden.grad[1].any()
    expected = F.cross_entropy(naive_logits(hidden.detach(), head), labels)
    torch.testing.assert_close(cross_entropy(hidden, labels, head), expected)
    torch.testing.assert_close(cross_entropy(hidden, labels, head, reduction="sum"), expected * 10)
    assert cross_entropy(hidden, labels, head, reduction="none").shape == (TOKENS,)


def test_nothing_to_score_is_an_empty_result_for_tokens_and_an_error_for_a_mean() -> None:
    case = Case()
    for head_trains in (False, True):
        hidden, head = case.leaves(head_trains)
        values = token_log_probs(hidden, torch.full((TOKENS,), -100), head)
        values.sum().backward()
        assert not values.any()
        assert hidden.grad is not None
        assert not hidden.grad.any()
    with pytest.raises(EmptyResponse, match="all 13 labels are -100"):
        cross_entropy(hidden, torch.full((TOKENS,), -100), head)


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


def labelled_batch(side: str, padding: int, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four sequences of different lengths, ids, mask and labels [4, 9 + padding], padded on `side`."""
    tokens, prompts, lengths = random_tokens(4, 9, seed=seed), [2, 3, 1, 4], [9, 6, 8, 5]
    ids, mask = torch.zeros(4, 9 + padding, dtype=torch.long), torch.zeros(4, 9 + padding, dtype=torch.long)
    labels = torch.full((4, 9 + padding), -100)
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        start = 0 if side == "right" else 9 + padding - length
        ids[row, start : start + length] = tokens[row, :length]
        mask[row, start : start + length] = 1
        labels[row, start + prompt : start + length] = tokens[row, prompt:length]
    return ids, mask, labels


@pytest.mark.parametrize("family", DECODERS)
def test_sequences_equal_the_model_s_own_logits(family: str) -> None:
    model = tiny_model(family)
    # No more padding than this: in float64, eager attention is NaN where a sliding window holds only padding.
    ids, mask, labels = labelled_batch("right", 0)
    received = sequence_log_probs(model, ids, mask, labels)
    gradients = torch.autograd.grad(received.means.sum(), list(model.parameters()), allow_unused=True)

    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    targets = labels[:, 1:]
    values = logits.gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2) * (targets != -100)
    lengths = (targets != -100).sum(1)
    torch.testing.assert_close(received.sums, values.sum(1), atol=1e-8, rtol=1e-8)
    assert received.lengths.tolist() == lengths.tolist() == [7, 3, 7, 1]
    naive = torch.autograd.grad((values.sum(1) / lengths).sum(), list(model.parameters()), allow_unused=True)
    for mine, theirs in zip(gradients, naive, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "granite"])
def test_padding_side_amount_order_and_chunks_do_not_matter(family: str) -> None:
    model = tiny_model(family, dtype=torch.float32)
    reference = sequence_log_probs(model, *labelled_batch("right", 0))
    for side, padding in (("right", 5), ("left", 0), ("left", 4)):
        other = sequence_log_probs(model, *labelled_batch(side, padding))
        torch.testing.assert_close(other.sums, reference.sums, atol=1e-5, rtol=1e-5)
    turned = sequence_log_probs(model, *(part.flip(0) for part in labelled_batch("right", 0)), chunk_elements=1)
    torch.testing.assert_close(turned.sums.flip(0), reference.sums, atol=1e-5, rtol=1e-5)


def test_kl_of_a_model_with_itself_is_zero() -> None:
    model = tiny_model("gemma2", dtype=torch.float32)
    scored = scored_positions(model, *labelled_batch("right", 1))
    from_model = Unembedding(model.lm_head.weight, None, 1.0, 3.0)
    values = kl_divergence(scored.hidden, from_model, scored.hidden, from_model)
    assert float(values.detach().abs().max()) < 1e-6
    (gradient,) = torch.autograd.grad(values.sum(), model.lm_head.weight)
    assert float(gradient.abs().max()) < 1e-5


def test_an_empty_response_is_named() -> None:
    model = tiny_model("llama")
    ids, mask, labels = labelled_batch("right", 0)
    labels[2] = -100
    with pytest.raises(EmptyResponse, match=r"row 2 of 4: no token is left"):
        sequence_log_probs(model, ids, mask, labels)
    labels[2, 0] = 5
    with pytest.raises(EmptyResponse, match="row 2 of 4"):
        sequence_log_probs(model, ids, mask, labels)


def test_inputs_that_do_not_fit_are_refused() -> None:
    case = Case()
    hidden, head = case.leaves(head_trains=False)
    with pytest.raises(OptionError, match=r"labels lie in \[0, 2000\]"):
        token_log_probs(hidden[:2], torch.tensor([0, 2000]), head)
    with pytest.raises(OptionError, match=r"\(3,\) labels"):
        token_log_probs(hidden, case.labels[:3], head)
    with pytest.raises(OptionError, match=r"expected \[tokens, 7\]"):
        token_log_probs(hidden[:, :5], case.labels, head)
    with pytest.raises(OptionError, match="one tokenizer"):
        kl_divergence(hidden, Unembedding(head.weight[:9]), hidden, head)
    with pytest.raises(OptionError, match="unknown reduction"):
        cross_entropy(hidden, case.labels, head, reduction="max")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="k is 0"):
        top_tokens(hidden, head, 0)
    with pytest.raises(OptionError, match=r"expected \[tokens, k\]"):
        kl_from_top_tokens(TopTokens(torch.zeros(13, 2).long(), torch.zeros(13, 2)), hidden, head)
