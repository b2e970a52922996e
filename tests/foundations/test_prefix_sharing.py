"""Which models may share a prefix: by structure, and by trying."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import DECODERS, tiny_model
from torch import nn

from glassworks.foundations.prefix_sharing import disable_dropout, supports_prefix_sharing


@pytest.mark.parametrize("family", DECODERS)
def test_attention_models_qualify(family: str) -> None:
    assert supports_prefix_sharing(tiny_model(family, dtype=torch.float32)) == (True, "")


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("mamba", {"state_size": 4}, "recurrent"),
        ("bloom", {}, "position_ids"),
        ("gpt_neo", {"attention_types": [[["global", "local", "local"], 1]]}, "columns"),
        ("llama", {"expert_capacity": 64}, "capacity"),
        ("gpt2", {"attn_pdrop": 0.1}, "dropout"),
        ("llama", {"attention_dropout": 0.1}, "dropout"),
    ],
)
def test_others_are_refused_with_the_reason(family: str, settings: dict[str, object], reason: str) -> None:
    supported, why = supports_prefix_sharing(tiny_model(family, dtype=torch.float32, **settings))
    assert not supported
    assert reason in why


class _LooksAhead(nn.Module):
    """A projection that adds the previous column: token mixing that no structure betrays."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.inner(hidden + hidden.roll(1, dims=1))


def test_a_model_that_mixes_columns_is_found_by_trying() -> None:
    model = tiny_model("llama", dtype=torch.float32)
    model.model.layers[1].mlp = _LooksAhead(model.model.layers[1].mlp)
    supported, why = supports_prefix_sharing(model)
    assert not supported
    assert "differ" in why
    assert supports_prefix_sharing(model, verify=False).supported


def test_disabling_dropout_lets_a_model_qualify() -> None:
    model = tiny_model("gpt2", dtype=torch.float32, attn_pdrop=0.1, resid_pdrop=0.2)
    disable_dropout(model)
    assert supports_prefix_sharing(model.train()).supported
    assert model.training, "the trial leaves the mode as it was"
