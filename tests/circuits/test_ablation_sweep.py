"""The sweep equals one forward pass an ablation on every family, restores the model, and refuses what it cannot do."""

import pytest
import torch
from cases.tiny_models import FAMILIES, random_tokens, tiny_model

from glassworks.circuits.ablation_sweep import ablation_sweep, naive_sweep
from glassworks.circuits.export_subnetwork import masked_model
from glassworks.circuits.head_masks import gated
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import collect_means
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy

FULL = UnitMask.full(3, 4)


def batch() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, 8).long()
    mask[1, 5:] = 0
    return {"input_ids": random_tokens(2, 8) * mask, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_one_forward_pass_an_ablation(family: str) -> None:
    parts = anatomy(tiny_model(family, pad_token_id=0), check=False)
    base = FULL - UnitMask.from_names(["a0.h1", "a1.mlp"], 3, 4)
    units = [name for name in FULL.names() if name != "a1.mlp"]
    with gated(parts, collect_means(parts, [batch()])) as gates:
        found = ablation_sweep(gates, batch(), base, units, rows_at_once=6)
        expected = naive_sweep(gates, batch(), base, units)
        gates.set(base)
        plain = parts.model(**batch()).logits
    kept = batch()["attention_mask"].bool() if plain.ndim == 3 else slice(None)
    torch.testing.assert_close(found.pop("")[kept], plain[kept])
    assert found.keys() == expected.keys()
    for name in units:
        torch.testing.assert_close(found[name][kept], expected[name][kept], rtol=0, atol=1e-10)
    assert not torch.allclose(found["a2.h3"][kept], plain[kept])
    assert all("forward" not in vars(module) for module in parts.model.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen3", "opt", "bert"])
def test_a_classifier_that_reads_one_place_gets_the_same_logits(family: str) -> None:
    parts = anatomy(tiny_model(family, task="sequence_classification", pad_token_id=0), check=False)
    places: list[int] = []
    with gated(parts, ablation="zero") as gates:
        last = parts.layers[-1].mlp.output.register_forward_hook(lambda _, __, out: places.append(out.shape[1]))
        found = ablation_sweep(gates, batch(), FULL, FULL.names())
        last.remove()
        expected = naive_sweep(gates, batch(), FULL, FULL.names())
    for name in FULL.names():
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-10)
    if family != "opt":  # whose MLP sees rows and places as one
        assert places[0] == 8
        assert set(places[1:]) == {1}
    assert all(parameter.grad is None for parameter in parts.model.parameters())


@pytest.mark.parametrize("family", ["bert_classifier", "llama"])
def test_equal_to_models_whose_weights_were_zeroed(family: str) -> None:
    """What a feature ablation over the vector of gates measures, by another way: no gate and no hook."""
    parts = anatomy(tiny_model(family, pad_token_id=0), check=False)
    with gated(parts, ablation="zero") as gates, torch.no_grad():
        found = ablation_sweep(gates, batch(), FULL, FULL.names())
    kept = batch()["attention_mask"].bool() if found[""].ndim == 3 else slice(None)
    for name in FULL.names():
        without = masked_model(parts, FULL - UnitMask.from_names([name], 3, 4))
        with torch.no_grad():
            expected = without(**batch()).logits
        torch.testing.assert_close(found[name][kept], expected[kept], rtol=0, atol=1e-10)


def test_faults() -> None:
    parts = anatomy(tiny_model("gpt2"), check=False)
    with gated(parts, ablation="resample") as gates, pytest.raises(OptionError, match="cannot resample"):
        ablation_sweep(gates, batch(), FULL, ["a0.h0"])
    with gated(parts, ablation="zero") as gates, pytest.raises(OptionError, match="no unit 'a0.h4'"):
        ablation_sweep(gates, batch(), FULL, ["a0.h4"])
