"""Frozen weights keep every bit, and one that did not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases.interruptions import At
from cases.tiny_models import tiny_model
from cases.train_two_processes import trainer

from glassworks.errors import FrozenWeightChanged
from glassworks.foundations.frozen import frozen_weights


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
