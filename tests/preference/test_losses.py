"""The losses: the spec's oracles to 1e-6, gradients by autograd and by hand, identities, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassworks.errors import EmptyResponse, OptionError, UnknownName
from glassworks.preference.losses import LOSSES, PairLogProbs, chosen_nll, method_of, settings_of, simpo

CHOSEN, REJECTED = (-0.1, -0.5, -0.3, -0.7), (-0.9, -1.1)
REFERENCE_CHOSEN, REFERENCE_REJECTED = (-0.2, -0.6, -0.4, -0.8), (-0.8, -1.0)


def total(values: tuple[float, ...] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64).sum()[None]


def oracle(chosen: Any = CHOSEN, rejected: Any = REJECTED, z: float = 0.05) -> PairLogProbs:
    return PairLogProbs(
        total(chosen),
        total(rejected),
        torch.tensor([len(chosen)]),
        torch.tensor([len(rejected)]),
        total(REFERENCE_CHOSEN),
        total(REFERENCE_REJECTED),
        torch.tensor(z, dtype=torch.float64),
    )


def value(name: str, pairs: PairLogProbs | None = None, **settings: Any) -> float:
    return method_of(name).function(oracle() if pairs is None else pairs, **settings).losses.mean().item()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("simpo", {"beta": 2, "gamma": 1}, 0.5981389),
        ("simpo", {"beta": 2, "gamma_beta_ratio": 0.5}, 0.5981389),
        ("simpo", {"beta": 2.5, "gamma": 1.375}, 0.6325990),
        ("simpo", {"beta": 10, "gamma": 3}, 0.0485874),
        ("simpo", {"beta": 2, "gamma": 0}, 0.2632825),
        ("simpo", {"beta": 2, "gamma": 1, "label_smoothing": 0.1}, 0.6181389),
        ("simpo", {"beta": 2, "gamma": 1, "loss_type": "hinge"}, 0.8),
        ("simpo", {"beta": 2, "gamma": 1, "sft_weight": 1.0}, 0.9981389),
        ("dpo", {"beta": 0.1}, 0.6635971),
        ("dpo", {"beta": 1.0}, 0.4374880),
        ("ipo", {"tau": 0.1, "ipo_normalize": False}, 19.36),
        ("ipo", {"tau": 0.1}, 23.04),
        ("cpo", {"beta": 0.1, "nll_reduction": "sum"}, 2.2733472),
        ("cpo", {"beta": 0.1}, 1.0733472),
        ("orpo", {"odds_weight": 0.1}, 0.4251716),
        ("rdpo", {"beta": 0.1, "alpha": 0.05}, 0.6163438),
        ("rrhf", {}, 0.4),
        ("rrhf", {"nll_reduction": "sum"}, 1.6),
        ("slic", {"delta": 1, "nll_weight": 0.1, "nll_reduction": "sum"}, 0.76),
        ("slic", {"delta": 1, "nll_weight": 0.1}, 0.64),
        ("kto", {"beta": 0.1}, 0.4925006),
        ("dpo-norm", {"beta": 5.0}, 0.3132617),
    ],
)
def test_oracles(name: str, settings: dict[str, Any], expected: float) -> None:
    assert value(name, **settings) == pytest.approx(expected, abs=1e-6)


def test_both_halves_of_kto_and_of_orpo() -> None:
    assert value("kto", beta=0.1, undesirable_weight=0) * 2 == pytest.approx(0.4912509, abs=1e-6)
    assert value("kto", beta=0.1, desirable_weight=0) * 2 == pytest.approx(0.4937503, abs=1e-6)
    assert (value("orpo", odds_weight=1.0) - value("orpo", odds_weight=0.0)) == pytest.approx(0.2517159, abs=1e-6)


def test_simpo_gradient_of_each_token() -> None:
    chosen = torch.tensor(CHOSEN, dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor(REJECTED, dtype=torch.float64, requires_grad=True)
    pairs = oracle()._replace(chosen=chosen.sum()[None], rejected=rejected.sum()[None])
    simpo(pairs, beta=2, gamma=1).losses.sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.tolist() == pytest.approx([-0.2250830] * 4, abs=1e-6)
    assert rejected.grad.tolist() == pytest.approx([0.4501660] * 2, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_agree_with_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    sums = -torch.rand(4, 5, generator=generator, dtype=torch.float64) * 4 - 0.5

    def losses(chosen: Tensor, rejected: Tensor) -> Tensor:
        lengths = torch.tensor([1, 2, 3, 4, 5])
        mismatch = torch.tensor(0.1, dtype=torch.float64)
        pairs = PairLogProbs(chosen, rejected, lengths, lengths.flip(0), sums[2], sums[3], mismatch)
        return method_of(name).function(pairs).losses

    inputs = (sums[0].clone().requires_grad_(), sums[1].clone().requires_grad_())
    assert torch.autograd.gradcheck(losses, inputs)


def test_lengths_decide_between_means_and_sums() -> None:
    pairs = PairLogProbs(torch.tensor([-100.0]), torch.tensor([-60.0]), torch.tensor([100]), torch.tensor([50]))
    result = simpo(pairs, beta=2.5, gamma=1.4)
    assert (result.chosen_rewards - result.rejected_rewards - 1.4).item() == pytest.approx(-0.9, abs=1e-5)
    assert result.losses.item() == pytest.approx(1.2411539, abs=1e-6)
    ones = torch.ones(1)
    by_sums = simpo(pairs._replace(chosen_lengths=ones, rejected_lengths=ones), beta=2.5, gamma=1.4)
    assert by_sums.losses.item() == pytest.approx(101.4, abs=1e-4)


def random_pairs(seed: int, equal_lengths: bool = False) -> PairLogProbs:
    generator = torch.Generator().manual_seed(seed)
    sums = -torch.rand(4, 6, generator=generator, dtype=torch.float64) * 20 - 0.1
    lengths = torch.randint(1, 30, (2, 6), generator=generator)
    second = lengths[0] if equal_lengths else lengths[1]
    return PairLogProbs(sums[0], sums[1], lengths[0], second, sums[2], sums[3], torch.tensor(0.2))


def losses_of(name: str, pairs: PairLogProbs, **settings: Any) -> Tensor:
    return method_of(name).function(pairs, **settings).losses


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_identities_between_methods(seed: int) -> None:
    pairs = random_pairs(seed)
    close = torch.testing.assert_close
    same = pairs._replace(reference_chosen=pairs.chosen, reference_rejected=pairs.rejected)
    zero = pairs._replace(reference_chosen=torch.zeros(6), reference_rejected=torch.zeros(6))
    close(losses_of("dpo", same, beta=0.3), torch.full((6,), math.log(2), dtype=torch.float64))
    close(losses_of("dpo", zero, beta=0.3), losses_of("cpo", pairs, beta=0.3, nll_weight=0.0))
    close(losses_of("ipo", same, tau=0.2), torch.full((6,), 1 / (4 * 0.04), dtype=torch.float64))
    close(losses_of("rdpo", pairs, beta=0.3, alpha=0.0), losses_of("dpo", pairs, beta=0.3))
    by_means = pairs._replace(chosen=pairs.chosen_means, rejected=pairs.rejected_means)
    hinge = losses_of("simpo", pairs, beta=4.0, gamma=0.0, loss_type="hinge")
    close(hinge, 4.0 * losses_of("slic", by_means, delta=0.25, nll_weight=0.0))
    swapped = PairLogProbs(pairs.rejected, pairs.chosen, pairs.rejected_lengths, pairs.chosen_lengths)
    plain = losses_of("simpo", pairs, gamma=0.0)
    smoothed = losses_of("simpo", pairs, gamma=0.0, label_smoothing=0.2)
    close(smoothed, 0.8 * plain + 0.2 * losses_of("simpo", swapped, gamma=0.0))
    even = random_pairs(seed, equal_lengths=True)
    for i in range(6):
        one = PairLogProbs(*(field[i : i + 1] for field in even[:4]))
        n = float(even.chosen_lengths[i])
        close(losses_of("simpo", one, beta=0.1 * n, gamma=0.0), losses_of("cpo", one, beta=0.1, nll_weight=0.0))


def test_dpo_starts_with_half_beta_on_each_token() -> None:
    pairs = random_pairs(0)
    chosen = pairs.chosen.clone().requires_grad_()
    at_start = pairs._replace(chosen=chosen, reference_chosen=pairs.chosen, reference_rejected=pairs.rejected)
    losses_of("dpo", at_start, beta=0.4).sum().backward()
    assert chosen.grad is not None
    torch.testing.assert_close(chosen.grad, torch.full((6,), -0.2, dtype=torch.float64))


def test_gamma_changes_the_weight_of_a_gradient_but_not_its_direction() -> None:
    directions = []
    for gamma in (0.0, 1.0, 3.0):
        pairs = random_pairs(5)
        inputs = torch.stack([pairs.chosen[0], pairs.rejected[0]]).requires_grad_()
        one = PairLogProbs(inputs[:1], inputs[1:], pairs.chosen_lengths[:1], pairs.rejected_lengths[:1])
        losses_of("simpo", one, gamma=gamma).sum().backward()
        assert inputs.grad is not None
        directions.append(inputs.grad / inputs.grad.norm())
    torch.testing.assert_close(directions[0], directions[1])
    torch.testing.assert_close(directions[0], directions[2])


def test_a_rejected_response_that_falls_lowers_the_kto_loss() -> None:
    assert value("kto", oracle(rejected=(-2.0, -2.0))) < value("kto", oracle(rejected=(-1.0, -1.0)))


def test_token_mean_gives_each_token_of_the_step_one_weight_over_any_split() -> None:
    pairs = random_pairs(7)
    whole = chosen_nll(pairs, "token_mean").mean()
    assert whole.item() == pytest.approx((-pairs.chosen.sum() / pairs.chosen_lengths.sum()).item())
    mean = pairs.chosen_lengths.double().mean()
    parts = [
        chosen_nll(PairLogProbs(*(field[half] for field in pairs[:4]), mean_chosen_length=mean), "token_mean")
        for half in (slice(0, 2), slice(2, 6))
    ]
    assert torch.cat(parts).mean().item() == pytest.approx(whole.item())


def test_orpo_stays_finite_where_a_response_is_certain() -> None:
    chosen = torch.zeros(1, requires_grad=True)
    pairs = PairLogProbs(chosen, torch.tensor([-1.0]), torch.tensor([3]), torch.tensor([2]))
    losses = losses_of("orpo", pairs)
    losses.sum().backward()
    assert chosen.grad is not None
    assert torch.isfinite(losses).all()
    assert torch.isfinite(chosen.grad).all()


def test_an_empty_response_is_named_and_never_nan() -> None:
    pairs = random_pairs(1)
    lengths = pairs.rejected_lengths.clone()
    lengths[4] = 0
    with pytest.raises(EmptyResponse, match="pair 4 of 6.*"):
        losses_of("simpo", pairs._replace(rejected_lengths=lengths))


@pytest.mark.parametrize("name", [name for name, method in sorted(LOSSES.items()) if method.needs_reference])
def test_a_missing_reference_is_refused(name: str) -> None:
    pairs = PairLogProbs(*random_pairs(1)[:4], mismatch=torch.tensor(0.0))
    with pytest.raises(OptionError, match="reference"):
        losses_of(name, pairs)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("simpo", {"gamma": 1.0, "gamma_beta_ratio": 0.5}, "two ways"),
        ("simpo", {"beta": 0.0}, "beta is 0"),
        ("simpo", {"gamma": -1.0}, "gamma is -1"),
        ("simpo", {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ("simpo", {"loss_type": "hinged"}, "Did you mean hinge"),
        ("simpo", {"betta": 1.0}, "Did you mean beta"),
        ("dpo", {"gamma": 1.0}, "setting of dpo"),
        ("ipo", {"tau": "fast"}, "expected a number"),
        ("ipo", {"ipo_normalize": 3}, "true or false"),
        ("dpo", {"beta": float("nan")}, "beta is nan"),
    ],
)
def test_wrong_settings_are_refused_by_name(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        settings_of(name, settings)


def test_settings_are_completed_and_typed() -> None:
    assert settings_of("ipo", {"tau": "0.5", "ipo_normalize": "false"}) == {"tau": 0.5, "ipo_normalize": False}
    assert settings_of("dpo", {}) == {"beta": 0.01, "label_smoothing": 0.0}


def test_an_unknown_method_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match="simpo"):
        method_of("simp")
