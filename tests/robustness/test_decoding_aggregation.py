"""Decoding: oracles of the token rule, its proof by random and extreme adversaries, and the search over texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from cases.byte_models import local
from torch import Tensor

from glassworks.foundations.generation import Sampling
from glassworks.robustness.decoding_aggregation import (
    Step,
    aggregate,
    decode,
    decode_all,
    emitted,
    explore,
    may_abstain,
    possible_tokens,
    sample_path,
    slack_of,
)

FOUR = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]]
LEADING = [[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.85, 0.1, 0.05]]
FALLBACK = [0.0, 0.0, 1.0]


def step_of(rows: Sequence[Sequence[float]], base: Sequence[float] = FALLBACK) -> Step:
    return aggregate(torch.tensor([*rows, base], dtype=torch.float64).log())


def test_sums_of_the_oracle() -> None:
    assert step_of(FOUR) == (0, pytest.approx(0.2), 2)
    assert step_of(FOUR[:3]) == (0, pytest.approx(0.9), 2)


@pytest.mark.parametrize(("eta", "tokens"), [(0, set()), (0.5, {0, 2}), (1, {0, 2}), (1.5, {0, 2}), (2, {2})])
def test_fourth_oracle(eta: float, tokens: set[int]) -> None:
    assert set(possible_tokens(step_of(FOUR[:3]), eta, 1)) == tokens


@pytest.mark.parametrize(("eta", "tokens"), [(0, {0}), (0.5, {0}), (1, {0}), (1.35, {0, 2}), (3.5, {2})])
def test_fifth_oracle(eta: float, tokens: set[int]) -> None:
    assert set(possible_tokens(step_of(LEADING), eta, 1)) == tokens


def test_the_last_passage_is_dropped_before_certifying() -> None:
    rows = [*FOUR[:3], [0.9, 0.05, 0.05]]
    assert step_of(rows).gap == pytest.approx(1.75)  # the official count would certify this
    assert possible_tokens(step_of(rows[:3]), 0, 1) == ()
    assert emitted(step_of([*rows[:3], [0.0, 1.0, 0.0]]), 0) == 1  # and one injected passage breaks it


@pytest.mark.parametrize("threat", ["injection", "modification"])
def test_no_hostile_rows_reach_a_token_outside_the_rule(threat: str) -> None:
    generator, draw, certifiable = torch.Generator().manual_seed(0), random.Random(0), 0
    vertices = torch.eye(4, dtype=torch.float64)
    while certifiable < 300:
        count, budget, eta = draw.randint(2, 6), draw.choice([1, 2]), draw.choice([0, 0.5, 1, 2, 3, 4])
        sharp = draw.choice([1.0, 4.0, 8.0])
        rows = (torch.randn(count, 4, generator=generator, dtype=torch.float64) * sharp).softmax(-1)
        rows[:, 0] += draw.choice([0, 2])
        rows /= rows.sum(-1, keepdim=True)
        base = vertices[draw.randrange(4)]
        kept = rows if threat == "modification" else rows[: max(1, count - budget)]
        allowed = possible_tokens(aggregate(torch.cat([kept, base[None]]).log()), eta, slack_of(budget, threat))
        if not allowed:
            continue
        certifiable += 1
        for _ in range(20):
            size = draw.randint(0, budget)
            noise = torch.randn(size, 4, generator=generator, dtype=torch.float64).softmax(-1)
            corners = vertices[torch.tensor([draw.randrange(4) for _ in range(size)], dtype=torch.long)]
            hostile = draw.choice([noise, corners])
            benign = kept[torch.randperm(len(kept), generator=generator)]
            benign = benign[size:] if threat == "modification" else benign
            if not len(benign) + len(hostile):
                continue  # every row abstains: a leaf of its own
            attacked = aggregate(torch.cat([benign, hostile, base[None]]).log())
            assert emitted(attacked, eta) in allowed


def test_abstaining_altogether_is_a_leaf_where_it_can_be_forced() -> None:
    assert may_abstain(0, 1, "injection")
    assert not may_abstain(1, 3, "injection")
    assert may_abstain(2, 2, "modification")
    assert not may_abstain(3, 2, "modification")


def test_suppressed_tokens_are_masked_in_every_row_and_the_rest_is_scaled() -> None:
    step = aggregate(torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.15, 0.05]]).log(), [0])
    assert step == (1, pytest.approx(0.0, abs=1e-6), 1)


class TreeState:
    """A decoding state whose distributions are a table by prefix."""

    def __init__(self, table: dict[tuple[int, ...], list[list[float]]], prefix: tuple[int, ...] = ()) -> None:
        self.table, self.prefix = table, prefix

    @property
    def log_probs(self) -> Tensor:
        return torch.tensor(self.table[self.prefix]).log()

    def append(self, tokens: int | Sequence[int]) -> None:
        assert isinstance(tokens, int)
        self.prefix = (*self.prefix, tokens)

    def select(self, rows: Sequence[int]) -> TreeState:
        return TreeState(self.table, self.prefix)

    def fork(self) -> TreeState:
        return TreeState(self.table, self.prefix)


def test_the_search_visits_every_branch_and_stops_at_a_small_lead() -> None:
    sure, split, close = [[1, 0, 0]] * 4 + [[0, 0, 1]], [[0.9, 0.1, 0]] * 2 + [[0, 0, 1]], [[0.5, 0.5, 0], [0, 0, 1]]
    table = {(): split, (0,): sure, (2,): split}
    leaves = list(explore(TreeState(table), 1.0, 1, lambda tokens: len(tokens) == 2))
    assert {leaf.tokens for leaf in leaves} == {(0, 0), (2, 0), (2, 2)}
    assert not any(leaf.refused for leaf in leaves)
    refused = list(explore(TreeState({(): split, (0,): close, (2,): sure}), 0.7, 0.9, lambda tokens: len(tokens) == 2))
    assert refused[-1].refused
    assert sample_path(TreeState(table), 1.0, 1, lambda tokens: len(tokens) == 2, seed=3).tokens in {
        leaf.tokens for leaf in leaves
    }


def test_one_passage_is_plain_greedy_and_a_great_eta_is_the_answer_without_passages() -> None:
    model = local()
    prompts = ["The passage says so. ", "No passage. "]

    def finished(tokens: Sequence[int]) -> bool:
        return len(tokens) == 8 or (bool(tokens) and tokens[-1] in model.stop_ids)

    for eta, row in ((0.0, 0), (5.0, 1)):
        steps = decode(model.open_decoding(prompts), eta, finished)
        tokens = [emitted(step, eta) for step in steps]
        tokens = tokens[:-1] if tokens[-1] in model.stop_ids else tokens
        assert tuple(tokens) == model.generate([prompts[row]], Sampling(max_new_tokens=8))[0].token_ids


def test_without_slack_the_tree_is_the_answer() -> None:
    model = local()
    prompts = ["One passage. ", "Another passage. ", "No passage. "]

    def finished(tokens: Sequence[int]) -> bool:
        return len(tokens) == 6

    steps = decode(model.open_decoding(prompts), 0.001, finished)
    leaves = list(explore(model.open_decoding(prompts), 0.001, 0, finished))
    assert [leaf.tokens for leaf in leaves] == [tuple(emitted(step, 0.001) for step in steps)]


def test_several_answers_decoded_together_are_those_decoded_alone() -> None:
    model = local()
    asked = [["One. ", "None. "], ["Two, which is longer. ", "Three. ", "None at all. "], ["Four. ", "Nothing. "]]

    def finished(tokens: Sequence[int]) -> bool:
        return bool(tokens) and (tokens[-1] in model.stop_ids or len(tokens) == 3 + tokens[0] % 4)

    state = model.open_decoding([prompt for prompts in asked for prompt in prompts])
    together = decode_all(state, [len(prompts) for prompts in asked], 0.001, finished)
    for prompts, steps in zip(asked, together, strict=True):
        alone = decode(model.open_decoding(prompts), 0.001, finished)
        assert [(s.top, s.fallback) for s in steps] == [(s.top, s.fallback) for s in alone]
        assert [s.gap for s in steps] == pytest.approx([s.gap for s in alone], abs=1e-6)
