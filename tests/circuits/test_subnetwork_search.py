"""Search: worked KL, exact sizes, planted cores, resume bit for bit, frozen weights, and what stops it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model
from transformers import PreTrainedModel

from glassworks.circuits.head_masks import masked
from glassworks.circuits.sentence_pairs import Encoded, encode
from glassworks.circuits.subnetwork_search import decide, kl_divergence, layer_groups, search
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.toy_inference import toy_tokenizer, toy_training
from glassworks.circuits.unit_means import collect_means, weights_sha
from glassworks.errors import NonFiniteLoss, OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.gates import deterministic
from glassworks.foundations.parts import Anatomy

QUICK = SearchConfig(steps=40, batch_size=16, lr_warmup_steps=5, alpha_lr=0.3)


@pytest.fixture(scope="module")
def data() -> Encoded:
    return encode(toy_training(64, 0), toy_tokenizer(), max_length=16)


def model_of(**settings: object) -> PreTrainedModel:
    return tiny_model("bert_classifier", dtype=torch.float32, num_labels=2, **settings)


@pytest.fixture(scope="module")
def parts() -> Anatomy:
    return anatomy(model_of(), check=False)


def test_kl_is_from_the_full_model_to_the_subnetwork() -> None:
    full, sub = torch.tensor([[2.0, 0, -1], [0, 0, 0]]), torch.tensor([[1.0, 1, 0], [1, 0, -1]])
    assert kl_divergence(full, sub).item() == pytest.approx(0.344366, abs=1e-6)
    assert kl_divergence(full[:1], sub[:1]).item() == pytest.approx(0.379738, abs=1e-6)
    assert kl_divergence(sub, full).item() == pytest.approx(0.364715, abs=1e-6)


def test_a_lone_mlp_is_rounded_alone_and_a_layers_heads_together() -> None:
    assert layer_groups(2, 3).tolist() == [[0, 0, 0, 2], [1, 1, 1, 3]]
    alpha = torch.tensor([[2.0, 2.0, -0.2, -0.2, -1.7], [2.0, 2.0, -0.2, -0.2, -1.5]])
    gates = deterministic(alpha, groups=layer_groups(2, 4))
    assert (gates[:, :4] > 0).all()  # 0.4493 expected zeros a layer round to none
    assert gates[:, 4].tolist() == pytest.approx([0, 0.141851], abs=1e-6)
    assert decide(alpha, 0.3, "global").size == 7
    assert decide(alpha, 0.3, "per_layer").size == 9


def test_sizes_are_exact_and_the_model_is_as_before(parts: Anatomy, data: Encoded) -> None:
    model = parts.model
    before = weights_sha(model)
    model.train()
    model.classifier.requires_grad_(False)
    logged: list[dict[str, float]] = []
    found = search(parts, data, [0.3, 0.6], [0, 1], config=QUICK, ablation="zero", log=logged.append)
    assert [(one.seed, one.sparsity, one.mask.size) for one in found] == [
        (0, 0.3, 10),
        (0, 0.6, 6),
        (1, 0.3, 10),
        (1, 0.6, 6),
    ]
    assert weights_sha(model) == before
    assert model.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert {"kl", "sampled", "expected", "target", "lambda1", "lambda2", "undecided"} <= logged[0].keys()
    model.requires_grad_(True)
    model.eval()


def test_same_seed_same_gates_and_a_killed_run_goes_on_bit_for_bit(
    parts: Anatomy, data: Encoded, tmp_path: Path
) -> None:
    means = collect_means(parts, [data.batch(range(64))])
    whole = search(parts, data, [0.5], [3], config=QUICK, means=means)[0]
    search(parts, data, [0.5], [3], config=QUICK, means=means, folder=tmp_path, stop_after=23)
    resumed = search(parts, data, [0.5], [3], config=QUICK, means=means, folder=tmp_path)[0]
    assert torch.equal(whole.alpha, resumed.alpha)
    assert whole.mask == resumed.mask
    assert (whole.kl, whole.kl_soft) == (resumed.kl, resumed.kl_soft)


def test_one_ramp_reads_lower_sparsities_on_the_way(parts: Anatomy, data: Encoded, tmp_path: Path) -> None:
    config = replace(QUICK, one_ramp=True)
    found = search(parts, data, [0.6, 0.2], [0], config=config, ablation="zero", folder=tmp_path)
    assert [(one.sparsity, one.mask.size, one.one_trajectory) for one in found] == [(0.2, 12, True), (0.6, 6, False)]
    again = search(parts, data, [0.6, 0.2], [0], config=config, ablation="zero", folder=tmp_path)
    assert torch.equal(again[0].alpha, found[0].alpha)


def test_a_head_that_writes_nothing_is_removed_at_no_cost(data: Encoded) -> None:
    model = model_of()
    parts = anatomy(model, check=False)
    with torch.no_grad():  # the others write enough that each removal costs something
        for layer in range(3):
            parts.attention_output(layer).weight *= 3
            parts.mlp_output(layer).weight *= 3
        parts.attention_output(0).weight[parts.head_output_slice(0, 2)] = 0
        model.classifier.weight *= 10
        without = UnitMask.full(3, 4) - UnitMask.from_names(["a0.h2"], 3, 4)
        plain = model(**data.batch(range(64))).logits
        with masked(parts, without, ablation="zero"):
            assert torch.equal(model(**data.batch(range(64))).logits, plain)
    targets = [0.05, 0.1, 0.2, 0.5, 0.9]
    for found in search(parts, data, targets, range(3), config=replace(QUICK, steps=80), ablation="zero"):
        assert not found.mask.heads[0, 2]
        assert found.alpha.argmin() == 2


def test_the_head_that_carries_the_label_is_kept_at_any_target(data: Encoded) -> None:
    model = model_of(num_hidden_layers=1, num_attention_heads=2)
    parts = anatomy(model, check=False)
    with torch.no_grad():  # head 0 and the MLP write next to nothing; head 1 writes a lot
        model.bert.encoder.layer[0].attention.output.dense.weight[parts.head_output_slice(0, 0)] *= 1e-3
        model.bert.encoder.layer[0].attention.output.dense.weight[parts.head_output_slice(0, 1)] *= 5
        model.bert.encoder.layer[0].output.dense.weight *= 1e-3
    means = collect_means(parts, [data.batch(range(64))])
    for seed in range(3):
        found = search(parts, data, [0.66], [seed], config=replace(QUICK, steps=70), means=means)[0]
        assert found.mask.names() == ["a0.h1"]


def test_a_language_model_is_searched_by_its_tokens(data: Encoded) -> None:
    parts = anatomy(tiny_model("llama", dtype=torch.float32), check=False)
    columns = {name: data.columns[name] for name in ("input_ids", "attention_mask")}
    found = search(parts, replace(data, columns=columns), [0.4], [0], config=replace(QUICK, steps=4), ablation="zero")
    assert found[0].mask.size == 9


def test_faults(parts: Anatomy, data: Encoded, tmp_path: Path) -> None:
    for sparsity in (-0.1, 1.0):
        with pytest.raises(OptionError, match=r"is no share in \[0, 1\)"):
            search(parts, data, [sparsity], [0], ablation="zero")
    with pytest.raises(OptionError, match="at least one sparsity"):
        search(parts, data, [], [0], ablation="zero")
    model = model_of()
    broken = anatomy(model, check=False)
    search(broken, data, [0.5], [0], config=QUICK, ablation="zero", folder=tmp_path, stop_after=20)
    kept = (tmp_path / "state-0-0.5.safetensors").read_bytes()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="seed 0, step 20"):
        search(broken, data, [0.5], [0], config=QUICK, ablation="zero", folder=tmp_path)
    assert (tmp_path / "state-0-0.5.safetensors").read_bytes() == kept
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
