"""The toy language: what each kind of hypothesis claims, its shares, its tokens, and seeded training."""

import random

import pytest
import torch

from glassworks.circuits.toy_inference import (
    KINDS,
    NOUNS,
    toy_evaluation_rows,
    toy_pair,
    toy_tokenizer,
    toy_training,
    train_toy,
)


@pytest.mark.parametrize("kind", KINDS)
def test_hard_pairs_have_all_words_of_the_premise_in_wrong_roles(kind: str) -> None:
    draw = random.Random(0)
    for _ in range(50):
        hard, true = toy_pair(draw, kind, "hard"), toy_pair(draw, kind, "entailed")
        assert (hard.label, true.label) == (1, 0)
        for pair in (hard, true):
            assert pair.text_pair is not None
            assert set(pair.text_pair.split()) <= set(pair.text.split())
    fixed = toy_pair(random.Random(3), "passive", "entailed")
    patient, _, verb, _, agent = fixed.text.split()
    assert fixed.text_pair == f"{agent} {verb} {patient}"


def test_training_shares_and_easy_false_pairs() -> None:
    pairs = toy_training(6000, 0)
    assert sum(pair.label == 0 for pair in pairs) / 6000 == pytest.approx(0.5, abs=0.02)
    overlap = [set(pair.text_pair.split()) <= set(pair.text.split()) for pair in pairs]  # type: ignore[union-attr]
    hard = sum(full for full, pair in zip(overlap, pairs, strict=True) if pair.label == 1)
    assert hard / sum(pair.label for pair in pairs) == pytest.approx(0.06, abs=0.015)
    assert all(full for full, pair in zip(overlap, pairs, strict=True) if pair.label == 0)
    assert toy_training(5, 1) != toy_training(5, 0) == toy_training(5, 0)


def test_evaluation_rows_and_tokens() -> None:
    rows = toy_evaluation_rows(in_domain=10, a_kind=4)
    assert len(rows) == 10 + 4 * 2 * 4
    tokenizer = toy_tokenizer()
    ids = tokenizer(f"{NOUNS[0]} near {NOUNS[1]} saw {NOUNS[2]}", f"{NOUNS[0]} saw {NOUNS[2]}")["input_ids"]
    assert len(ids) == 11
    assert tokenizer.unk_token_id not in ids


def test_training_is_seeded_learns_and_hands_over_checkpoints() -> None:
    pairs, saved = toy_training(400, 0), []
    state = torch.random.get_rng_state()
    one = train_toy(pairs, seed=0, steps=30, layers=1, heads=2, save=lambda step, _: saved.append(step), every=20)
    assert torch.equal(torch.random.get_rng_state(), state)
    two = train_toy(pairs, seed=0, steps=30, layers=1, heads=2)
    assert saved == [20, 30]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not one.training
