"""Log-probs and KL from hidden states against the naive path through all logits: values and every gradient."""

import pytest
import torch
import torch.nn.functional as F
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from cases.token_logits import TOKENS, Case, naive_logits
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
