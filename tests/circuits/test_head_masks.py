"""Gates on every family: exact at both ends, per example, hooks gone, and what must be refused."""

import pytest
import torch
from cases.tiny_models import FAMILIES, random_tokens, tiny_model
from torch import Tensor

from glassworks.circuits.head_masks import gated, masked
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means, collect_means
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.parts import Anatomy

IDS = random_tokens(3, 7)
LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module", params=[*FAMILIES, "opt"])
def parts(request: pytest.FixtureRequest) -> Anatomy:
    return anatomy(tiny_model(request.param), check=False)


@pytest.fixture(scope="module")
def bert() -> Anatomy:
    return anatomy(tiny_model("bert_classifier"), check=False)


def logits(parts: Anatomy, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = parts.model(IDS, **inputs).logits
    return found


def has_hooks(parts: Anatomy) -> bool:
    return any(module._forward_pre_hooks or module._forward_hooks for module in parts.model.modules())


def test_open_gates_change_no_bit(parts: Anatomy) -> None:
    plain, means = logits(parts), collect_means(parts, [{"input_ids": IDS}])
    with gated(parts, means) as gates:
        assert torch.equal(logits(parts), plain)
        gates.set(torch.ones(LAYERS, HEADS + 1))
        assert torch.equal(logits(parts), plain)
        # The arithmetic itself is exact too: one closed gate elsewhere in the batch keeps it from being skipped.
        z = torch.ones(3, LAYERS, HEADS + 1)
        z[0] = 0
        gates.set(z)
        some = logits(parts)
        assert not torch.allclose(some[0], plain[0])
        torch.testing.assert_close(some[1:], plain[1:], rtol=0, atol=1e-12)
    assert not has_hooks(parts)
    assert torch.equal(logits(parts), plain)


def test_a_closed_head_equals_a_zeroed_slice_of_the_output_projection(parts: Anatomy) -> None:
    with masked(parts, UnitMask.full(LAYERS, HEADS) - UnitMask.from_names(["a1.h2"], LAYERS, HEADS), ablation="zero"):
        found = logits(parts)
    weight = parts.attention_output(1).weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[parts.head_output_slice(1, 2)] = 0
        expected = logits(parts)
        weight.copy_(kept)
    assert torch.equal(found, expected)


def test_gates_an_example_equal_one_forward_each(parts: Anatomy) -> None:
    z = torch.rand(3, LAYERS, HEADS + 1, generator=torch.Generator().manual_seed(0))
    means = collect_means(parts, [{"input_ids": IDS}])
    with gated(parts, means) as gates:
        gates.set(z)
        together = logits(parts)
        for row in range(3):
            gates.set(z[row])
            torch.testing.assert_close(logits(parts)[row], together[row], rtol=0, atol=1e-10)


def test_mean_ablation_is_the_formula_of_the_paper(bert: Anatomy) -> None:
    means = collect_means(bert, [{"input_ids": IDS}])
    seen: list[Tensor] = []
    # Registered after the gates' own hook, so it sees what that one returned.
    with masked(bert, UnitMask.full(LAYERS, HEADS) - UnitMask.from_names(["a2.h0"], LAYERS, HEADS), means):
        handle = bert.attention_output(2).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        logits(bert)
        handle.remove()
    assert torch.equal(seen[0][..., :8], means.heads[2, 0].expand(3, 7, 8))


def test_resampling_takes_the_row_before_and_spares_padding(bert: Anatomy) -> None:
    mask = torch.ones(3, 7).long()
    mask[0, 4:] = 0
    seen: list[Tensor] = []
    handle = bert.mlp_output(0).register_forward_hook(lambda _, __, output: seen.append(output))
    logits(bert, attention_mask=mask)
    handle.remove()
    gate = UnitMask.full(LAYERS, HEADS) - UnitMask.from_names(["a0.mlp"], LAYERS, HEADS)
    with gated(bert, ablation="resample") as gates:
        gates.set(gate, mask)
        handle = bert.mlp_output(0).register_forward_hook(lambda _, __, output: seen.append(output))
        logits(bert, attention_mask=mask)
        handle.remove()
        plain, changed = seen
        assert torch.equal(changed[2], plain[1])
        assert torch.equal(changed[1, :4], plain[0, :4])
        assert torch.equal(changed[1, 4:], plain[1, 4:])
        gates.set(gate)
        with pytest.raises(OptionError, match="at least two rows"):
            bert.model(IDS[:1])


def test_gates_are_differentiable_and_follow_the_models_dtype() -> None:
    parts = anatomy(tiny_model("llama", dtype=torch.float32), check=False)
    parts.model.bfloat16()
    z = torch.full((LAYERS, HEADS + 1), 0.5, requires_grad=True)
    with gated(parts, ablation="zero") as gates:
        gates.set(z)
        out = parts.model(IDS).logits
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward()
    assert z.grad is not None
    assert bool((z.grad != 0).all())
    assert z.grad.dtype == torch.float32


def test_hooks_go_when_an_error_is_raised(bert: Anatomy) -> None:
    with pytest.raises(RuntimeError, match="stop"), gated(bert, ablation="zero"):
        assert has_hooks(bert)
        raise RuntimeError("stop")
    assert not has_hooks(bert)


def test_head_mask_is_refused(bert: Anatomy) -> None:
    with gated(bert, ablation="zero"), pytest.raises(OptionError, match="ignores head_mask silently.*from_head_mask"):
        bert.model(IDS, head_mask=torch.zeros(LAYERS, HEADS))


def test_faults(bert: Anatomy) -> None:
    with pytest.raises(OptionError, match="mean ablation needs the means"), gated(bert):
        pass
    with pytest.raises(OptionError, match="unknown ablation"), gated(bert, ablation="none"):  # type: ignore[arg-type]
        pass
    other = Means(torch.zeros(3, 4, 5), torch.zeros(3, 32))
    with pytest.raises(OptionError, match="means have shapes"), gated(bert, other):
        pass
    assert not has_hooks(bert)
    with gated(bert, ablation="zero") as gates:
        with pytest.raises(OptionError, match=r"expected gates of shape \[3, 5\]"):
            gates.set(torch.ones(3, 4))
        gates.set(torch.zeros(2, 3, 5))
        with pytest.raises(OptionError, match="gates for 2 examples and 3 rows"):
            logits(bert)
