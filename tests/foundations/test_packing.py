"""Packed rows against the padded computation they stand for."""

from __future__ import annotations

import pytest
import torch
from cases.packed_groups import GROUPS, packed_loss
from cases.tiny_models import DECODERS, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from glassworks.errors import DataError, EmptyResponse, OptionError, UserError
from glassworks.foundations.attention_masks import visible
from glassworks.foundations.log_probs import IGNORED, sequence_log_probs, sum_by_sequence, token_log_probs
from glassworks.foundations.packing import Group, PackedRows, PackingCollator, fill_rows, pack
from glassworks.foundations.unembedding import hidden_states, unembedding_of


def padded(groups: list[Group]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same sequences right-padded: ids, attention mask and labels [sequences, longest]."""
    sequences = [([*g.prefix, *c], len(g.prefix)) for g in groups for c in g.continuations]
    longest = max(len(tokens) for tokens, _ in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (tokens, start) in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    return ids, mask, labels


@pytest.mark.parametrize("share_prefix", [True, False], ids=["shared", "copied"])
@pytest.mark.parametrize("family", DECODERS)
def test_packed_equals_padded(family: str, share_prefix: bool) -> None:
    model = tiny_model(family, dtype=torch.float32)
    ids, mask, labels = padded(GROUPS)
    reference = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    expected = F.cross_entropy(reference[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    expected.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    logits, loss = packed_loss(model, pack(GROUPS, 60, share_prefix=share_prefix))
    loss.backward()
    batch = pack(GROUPS, 60, share_prefix=share_prefix)
    difference = (batch.unpack(logits) - reference)[mask.bool()].abs().max().item()
    assert difference <= 1e-5 * max(1.0, reference.abs().max().item())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt2"])
def test_log_probs_need_no_full_logits_of_packed_rows(family: str) -> None:
    model = tiny_model(family, dtype=torch.float32)
    batch = pack(GROUPS, 60)
    wanted, inputs = batch.predictions(), batch.model_inputs(model)
    states = hidden_states(model, inputs["input_ids"], inputs["attention_mask"], inputs["position_ids"])
    scored = token_log_probs(states.flatten(0, 1)[wanted.places], wanted.targets, unembedding_of(model))
    sums = sum_by_sequence(scored, wanted.sequences, len(batch.places)).sums
    assert sums.sum().item() == pytest.approx(-packed_loss(model, batch)[1].item(), rel=1e-5)
    ids, mask, labels = padded(GROUPS)
    torch.testing.assert_close(sums, sequence_log_probs(model, ids, mask, labels).sums, rtol=1e-5, atol=1e-4)


group = st.builds(
    lambda prefix, continuations: Group(continuations, prefix),
    st.lists(st.integers(3, 96), max_size=6),
    st.lists(st.lists(st.integers(3, 96), min_size=1, max_size=5), min_size=1, max_size=4),
)


@settings(deadline=None, max_examples=60)
@given(groups=st.lists(group, min_size=1, max_size=8), extra=st.integers(0, 20), share_prefix=st.booleans())
def test_every_token_lies_once_and_sees_only_its_own_sequence(
    groups: list[Group], extra: int, share_prefix: bool
) -> None:
    budget = max(g.tokens() for g in groups) + extra
    batch = pack(groups, budget, share_prefix=share_prefix)
    assert batch.input_ids.shape[1] <= budget
    copies = [1 if share_prefix else len(g.continuations) for g in groups]
    used = [n * len(g.prefix) + sum(map(len, g.continuations)) for n, g in zip(copies, groups, strict=True)]
    assert (batch.segment_ids > 0).sum() == sum(used)
    seen = visible(batch.segment_ids, batch.prefix_ids, batch.position_ids)[:, 0]
    rows, width = batch.input_ids.shape
    whole = torch.zeros(rows * width, rows * width, dtype=torch.bool)
    for row in range(rows):
        whole[row * width : (row + 1) * width, row * width : (row + 1) * width] = seen[row]
    sequences = [([*g.prefix, *c], len(g.prefix)) for g in groups for c in g.continuations]
    owners = torch.zeros(rows * width, dtype=torch.long)
    for places, (tokens, start) in zip(batch.places, sequences, strict=True):
        mine = places[places >= 0]
        assert batch.input_ids.flatten()[mine].tolist() == tokens
        assert batch.position_ids.flatten()[mine].tolist() == list(range(len(tokens)))
        assert whole[mine][:, mine].equal(torch.ones(len(tokens), len(tokens)).tril().bool())
        assert whole[mine].sum() == len(tokens) * (len(tokens) + 1) // 2, "sees a token of another sequence"
        assert batch.labels.flatten()[mine[start:]].tolist() == tokens[start:]
        owners[mine[start:]] += 1
    assert owners.max() == 1, "a continuation's token lies in two sequences"
    assert batch.predictions().targets.tolist() == [t for tokens, start in sequences for t in tokens[max(start, 1) :]]


@given(lengths=st.lists(st.integers(0, 50), max_size=60), budget=st.integers(50, 120))
def test_first_fit_keeps_the_budget_and_loses_nothing(lengths: list[int], budget: int) -> None:
    rows = fill_rows(lengths, budget)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= budget for row in rows)
    assert rows == fill_rows(lengths, budget)
    # Two rows that together fit one would have been one.
    used = [sum(lengths[i] for i in row) for row in rows]
    assert all(a + b > budget for i, a in enumerate(used) for b in used[i + 1 :])


def test_first_fit_decreasing_by_hand() -> None:
    assert fill_rows([3, 7, 5, 2, 3], 10) == [[1, 0], [2, 4, 3]]
    assert fill_rows([], 10) == []


def test_refusals_name_the_row() -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl:418: the group has 7 tokens, the budget is 6"):
        pack([Group([[1, 2], [3]], [4, 5, 6, 7], name="pairs.jsonl:418")], 6)
    with pytest.raises(EmptyResponse, match="row 1: "):
        pack([Group([[1]]), Group([[1], []], [2])], 6)
    with pytest.raises(UserError, match="row 0: "):
        fill_rows([11], 10)
    with pytest.raises(DataError, match="labels"):
        pack([Group([[1, 2]], labels=[[1]])], 6)


def test_copied_prefixes_count_towards_the_budget() -> None:
    pair = Group([[1, 2], [3]], [4, 5, 6])
    assert pack([pair]).input_ids.shape == (1, 6)
    copied = pack([pair], share_prefix=False)
    assert copied.input_ids.tolist() == [[4, 5, 6, 1, 2], [4, 5, 6, 3, 0]]
    assert copied.groups.tolist() == [0, 0]
    with pytest.raises(DataError, match="5 tokens"):
        pack([pair], 4, share_prefix=False)


def test_labels_choose_what_is_predicted() -> None:
    batch = pack([Group([[5, 6, 7], [8, 9]], [3], labels=[[IGNORED, 6, IGNORED], [8, 9]])], 10)
    wanted = batch.predictions()
    assert wanted.targets.tolist() == [6, 8, 9]
    assert wanted.sequences.tolist() == [0, 1, 1]
    # 8 is predicted by the shared prefix's last token, which lies first in the row.
    assert wanted.places.tolist() == [1, 0, 4]


def test_collator_and_rows_make_micro_batches() -> None:
    rows = PackedRows(GROUPS, [g.tokens() for g in GROUPS], 40)
    assert sum(len(rows[i]) for i in range(len(rows))) == len(GROUPS)
    batch = PackingCollator(40)([rows[i] for i in range(len(rows))])["packed"]
    assert batch.places.shape[0] == sum(len(g.continuations) for g in GROUPS)
    assert sorted(batch.groups.bincount().tolist()) == [1, 2, 2, 3]
    with pytest.raises(OptionError, match="lengths"):
        PackedRows(GROUPS, [1], 40)
