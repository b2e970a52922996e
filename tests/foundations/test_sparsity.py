"""The target ramp, the Lagrangian's two signs, and what weight decay does to gates that have no gradient."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassworks.errors import OptionError
from glassworks.foundations import gates
from glassworks.foundations.sparsity import (
    Lagrangian,
    Sign,
    SparsitySchedule,
    expected_sparsity,
    gate_optimiser,
    lagrangian_penalty,
    load_search,
    parameter_groups,
    sampled_sparsity,
    save_search,
    sparsity_of,
)


def scalars(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]


def test_the_penalty_and_its_gradients_for_both_signs() -> None:
    sparsity, lambda1, lambda2 = scalars(0.4, 0.5, 2.0)
    penalty = lagrangian_penalty(sparsity, 0.7, lambda1, lambda2, sign="s-t")
    assert penalty.item() == pytest.approx(0.03)
    gradients = torch.autograd.grad(penalty, (lambda1, lambda2, sparsity))
    assert [float(gradient) for gradient in gradients] == pytest.approx([-0.3, 0.09, -0.7])
    assert lagrangian_penalty(sparsity, 0.7, lambda1, lambda2, sign="t-s").item() == pytest.approx(0.33)

    sparsity, lambda1, lambda2 = scalars(0.1, 0.5, 2.0)
    penalty = lagrangian_penalty(sparsity, 0.3, lambda1, lambda2, sign="t-s")
    assert penalty.item() == pytest.approx(0.18)
    gradients = torch.autograd.grad(penalty, (lambda1, lambda2))
    assert [float(gradient) for gradient in gradients] == pytest.approx([0.2, 0.04])
    assert lagrangian_penalty(sparsity, 0.3, lambda1, lambda2, sign="s-t").item() == pytest.approx(-0.02)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1.4), st.floats(-3, 3), st.floats(-3, 3))
def test_the_signs_are_one_penalty_with_lambda1_negated(s: float, t: float, one: float, two: float) -> None:
    sparsity, lambda1, lambda2 = scalars(s, one, two)
    torch.testing.assert_close(
        lagrangian_penalty(sparsity, t, lambda1, lambda2, sign="s-t"),
        lagrangian_penalty(sparsity, t, -lambda1, lambda2, sign="t-s"),
    )


@pytest.mark.parametrize(("sign", "below", "above"), [("s-t", -1, 1), ("t-s", 1, -1)])
def test_the_multipliers_ascend_in_the_optimiser_of_the_gates(sign: Sign, below: int, above: int) -> None:
    for sparsity, direction in ((0.2, below), (0.9, above)):
        lagrangian = Lagrangian(sign)
        alpha = nn.Parameter(torch.zeros(4))
        optimiser, _ = gate_optimiser(
            parameter_groups([alpha], lagrangian, alpha_lr=0.1, lambda_lr=1.0), lr_warmup_steps=0, total_steps=10
        )
        assert not any(lagrangian.state_dict().values())
        lagrangian(torch.tensor(sparsity), 0.5).backward()
        optimiser.step()
        assert math.copysign(1, lagrangian.lambda1.item()) == direction
        assert lagrangian.lambda2.item() > 0


def test_a_run_of_one_sign_mirrors_the_run_of_the_other() -> None:
    def run(sign: Sign) -> tuple[torch.Tensor, Lagrangian]:
        alpha, lagrangian = nn.Parameter(torch.linspace(1, 3, 12)), Lagrangian(sign)
        generator = torch.Generator().manual_seed(0)
        optimiser, rate = gate_optimiser(
            parameter_groups([alpha], lagrangian, alpha_lr=0.1, lambda_lr=0.5), lr_warmup_steps=5, total_steps=60
        )
        for step in range(60):
            z = gates.sample(alpha, gates.draw_uniform(alpha, generator=generator))
            target = SparsitySchedule(0.6, 40).at(step)
            loss = (1 - z).mul(torch.linspace(0, 1, 12)).sum() + lagrangian(sampled_sparsity(z), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        return alpha.detach(), lagrangian

    (alpha, first), (mirrored, second) = run("s-t"), run("t-s")
    torch.testing.assert_close(alpha, mirrored)
    torch.testing.assert_close(first.lambda1, -second.lambda1)
    torch.testing.assert_close(first.lambda2, second.lambda2)


def test_the_linear_term_can_be_left_out() -> None:
    lagrangian = Lagrangian("s-t", linear=False)
    multipliers = parameter_groups([], lagrangian, alpha_lr=0.1, lambda_lr=1.0)[1]["params"]
    assert len(multipliers) == 1
    assert multipliers[0] is lagrangian.lambda2


def test_gates_without_a_gradient_shrink_by_weight_decay_alone() -> None:
    def final(mask_weight_decay: float) -> float:
        alpha, lagrangian = nn.Parameter(torch.tensor([10.0], dtype=torch.float64)), Lagrangian("s-t")
        groups = parameter_groups([alpha], lagrangian, alpha_lr=0.8, lambda_lr=0.8, mask_weight_decay=mask_weight_decay)
        optimiser, rate = gate_optimiser(groups, lr_warmup_steps=200, total_steps=3000)
        for _ in range(3000):
            alpha.grad = torch.zeros_like(alpha)
            optimiser.step()
            rate.step()
        return float(alpha.detach())

    assert final(0.01) / 10 == pytest.approx(5.9e-6, rel=0.02)
    assert final(0.0) == 10


def test_the_learning_rate_warms_up_then_decays_to_zero() -> None:
    groups = parameter_groups([nn.Parameter(torch.zeros(1))], Lagrangian("t-s"), alpha_lr=0.8, lambda_lr=0.4)
    optimiser, rate = gate_optimiser(groups, lr_warmup_steps=10, total_steps=30)
    seen = []
    for _ in range(31):
        seen.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        rate.step()
    assert seen[0] == [0, 0]
    assert seen[5] == pytest.approx([0.4, 0.2])
    assert seen[10] == pytest.approx([0.8, 0.4])
    assert seen[20] == pytest.approx([0.4, 0.2])
    assert seen[30] == [0, 0]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (SparsitySchedule(0.95, 2500), {0: 0, 1250: 0.475, 2499: 0.94962, 2500: 0.95, 9999: 0.95}),
        (SparsitySchedule(0.95, 2500, kind="logarithmic"), {0: 0, 1250: 0.7763932, 2499: 0.9499400, 2500: 0.95}),
        (SparsitySchedule(0.5, 100), {0: 0, 50: 0.25, 99: 0.495, 100: 0.5, 150: 0.5}),
        (SparsitySchedule(0.5, 100, kind="logarithmic"), {50: 0.292893, 99: 0.496522, 100: 0.5}),
        (SparsitySchedule(1.4, 10), {5: 0.7, 10: 1.4}),
        (SparsitySchedule(0.8, 0), {0: 0.8}),
        (SparsitySchedule(0.8, 10, start=0.2), {0: 0.2, 5: 0.5}),
    ],
)
def test_the_target_at_a_step(schedule: SparsitySchedule, expected: dict[int, float]) -> None:
    assert [schedule.at(step) for step in expected] == pytest.approx(list(expected.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 1.0, "warmup_steps": 10, "kind": "logarithmic"}, "logarithmic schedule cannot reach"),
        ({"target": 0.9, "warmup_steps": 10, "kind": "cosine"}, "unknown schedule"),
        ({"target": 0.9, "warmup_steps": 10, "start": 1.0}, "start sparsity"),
        ({"target": float("nan"), "warmup_steps": 10}, "target sparsity"),
        ({"target": 0.9, "warmup_steps": -1}, "-1 steps"),
    ],
)
def test_impossible_schedules_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SparsitySchedule(**arguments)  # type: ignore[arg-type]


def test_sampled_and_expected_sparsity_count_what_exists() -> None:
    z = torch.tensor([[1.0, 0.5, 9.0], [0.0, 0.5, 9.0]])
    exists = torch.tensor([True, True, False])
    assert float(sampled_sparsity(z[0], exists)) == 0.25
    assert float(sampled_sparsity(z, exists)) == 0.5
    alpha = torch.tensor([0.0, 0.0, -50.0])
    assert float(expected_sparsity(alpha, exists)) == pytest.approx(0.168178, abs=1e-6)
    assert float(sparsity_of("sampled", alpha, z, exists)) == 0.5
    assert float(sparsity_of("expected", alpha, z, exists)) == pytest.approx(0.168178, abs=1e-6)
    with pytest.raises(OptionError, match="unknown penalty"):
        sparsity_of("median", alpha, z)  # type: ignore[arg-type]


def test_only_the_expected_penalty_moves_saturated_gates() -> None:
    alpha = torch.full((1000,), 10.0, requires_grad=True)
    (moving,) = torch.autograd.grad(expected_sparsity(alpha), alpha)
    assert bool((moving < 0).all())
    uniform = gates.draw_uniform(alpha, generator=torch.Generator().manual_seed(0))
    (still,) = torch.autograd.grad(sampled_sparsity(gates.sample(alpha, uniform)), alpha)
    assert float((still != 0).float().mean()) < 0.005


def test_impossible_optimisers_are_refused() -> None:
    with pytest.raises(OptionError, match="--mask_weight_decay"):
        parameter_groups([], Lagrangian("s-t"), alpha_lr=0.1, lambda_lr=1.0, mask_weight_decay=-0.01)
    with pytest.raises(OptionError, match="unknown sign"):
        Lagrangian("t+s")  # type: ignore[arg-type]
    groups = parameter_groups([nn.Parameter(torch.zeros(1))], Lagrangian("s-t"), alpha_lr=0.1, lambda_lr=1.0)
    with pytest.raises(OptionError, match="warms up for 20 of 10 steps"):
        gate_optimiser(groups, lr_warmup_steps=20, total_steps=10)


def test_a_search_that_was_saved_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def search(stops: list[int]) -> dict[str, torch.Tensor]:
        """Ten steps in as many sittings as there are stops, each from the file that the one before left."""
        file = tmp_path / f"{len(stops)}.safetensors"
        for stop in stops:
            alpha, penalty = nn.Parameter(torch.linspace(-1, 2, 6)), Lagrangian("s-t")
            groups = parameter_groups([alpha], penalty, alpha_lr=0.5, lambda_lr=0.5)
            optimiser, rate = gate_optimiser(groups, lr_warmup_steps=2, total_steps=10)
            named = {"alpha": alpha, **dict(penalty.named_parameters())}
            step, others = load_search(file, named, optimiser, rate) if file.exists() else (0, {})
            assert set(others) == ({"note"} if file.exists() else set())
            for at in range(step, stop):
                loss = alpha.square().sum() + penalty(expected_sparsity(alpha), at / 10)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                rate.step()
            save_search(file, stop, named | {"note": torch.ones(2)}, optimiser)
        return {name: tensor.detach() for name, tensor in named.items()}

    whole, parts = search([10]), search([3, 4, 10])
    assert all(torch.equal(whole[name], parts[name]) for name in ("alpha", "lambda1", "lambda2"))
    assert float(whole["lambda2"]) != 0
