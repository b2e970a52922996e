"""Frozen weights keep every bit, and one that did not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases.interruptions import At
from cases.tiny_models import tiny_model
from cases.train_two_processes import trainer
from torch import nn

from glassworks.errors import FrozenWeightChanged
from glassworks.foundations.frozen import frozen_weights, weight_hashes


def test_frozen_weights_stay_bit_identical(tmp_path: Path) -> None:
    trained = trainer(tmp_path, weight_decay=0.1)
    before = trained.model.get_input_embeddings().weight.detach().clone()
    head = trained.model.lm_head.weight.detach().clone()
    with frozen_weights(trained.model):
        trained.train()
    assert torch.equal(before, trained.model.get_input_embeddings().weight)
    assert not torch.equal(head, trained.model.lm_head.weight)


@torch.no_grad()
def touch(model: torch.nn.Module) -> None:
    model.model.embed_tokens.weight[5, 3] += 1e-7


def test_one_changed_bit_of_a_frozen_weight_is_found(tmp_path: Path) -> None:
    with pytest.raises(FrozenWeightChanged, match=r"1 of 1 .*embed_tokens"):
        trainer(tmp_path, callbacks=[At("on_step_end", 2, touch)]).train()
    model = tiny_model("llama", dtype=torch.bfloat16)
    with pytest.raises(FrozenWeightChanged, match="norm"), frozen_weights(model, ["model.norm.weight"]):
        model.model.norm.weight.data[0] *= -1


def test_a_hash_is_of_bytes_kind_and_shape() -> None:
    def hashed(values: torch.Tensor) -> str:
        module = nn.Module()
        module.weight = nn.Parameter(values, requires_grad=False)
        return weight_hashes(module)["weight"]

    values = torch.arange(6.0).reshape(2, 3)
    assert hashed(values) == hashed(values.T.contiguous().T), "strides do not count"
    assert hashed(torch.tensor(0.0)) != hashed(torch.tensor(-0.0))
    others = [values, values.T, values.reshape(6), values.view(torch.int32).float(), values.double(), values.half()]
    assert len({hashed(other) for other in others}) == len(others)
    assert hashed(torch.zeros(2, dtype=torch.float16)) != hashed(torch.zeros(2, dtype=torch.bfloat16))


def test_only_weights_without_gradient_are_watched_unless_named() -> None:
    model = nn.Linear(2, 3)
    model.bias.requires_grad_(False)
    assert list(weight_hashes(model)) == ["bias"]
    assert list(weight_hashes(model, ["weight"])) == ["weight"]
    with frozen_weights(model):
        model.weight.data += 1


def test_the_first_three_of_many_are_named_and_an_error_inside_is_not_replaced() -> None:
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(3)]).requires_grad_(False)
    with (
        pytest.raises(FrozenWeightChanged, match=r"5 of 6 .*: 0\.bias, 1\.weight, 1\.bias and 2 more"),
        frozen_weights(model),
    ):
        for name, weight in model.named_parameters():
            weight.data += name != "0.weight"
    with pytest.raises(ZeroDivisionError), frozen_weights(model):
        model[0].weight.data += 1
        1 / 0  # noqa: B018
