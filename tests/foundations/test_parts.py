"""Slices of the parts are the weights that heads read and write with, and descriptions say what differs."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import FAMILIES, random_tokens, tiny_model
from torch import nn

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.dataflow import linear_weight


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen3", "phi3", "bert"])
def test_a_head_slice_is_what_the_head_writes_with(family: str) -> None:
    """Zeroing a head's slice of the stored weight changes the logits as zeroing its output does, and not at all
    where its output is zeroed too."""
    model, tokens = tiny_model(family), random_tokens(2, 9)
    found = anatomy(model)
    module, where = found.attention_output(1), found.head_output_slice(1, 2)
    size = found.layers[1].attention.head_dim

    def silence(_: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        silenced = args[0].clone()
        silenced[..., 2 * size : 3 * size] = 0
        return (silenced,)

    with torch.no_grad():
        plain = model(tokens).logits
        handle = module.register_forward_pre_hook(silence)
        gated = model(tokens).logits
        handle.remove()
        module.weight[where] = 0
        cut = model(tokens).logits
    assert (gated - plain).abs().max() > 1e-3
    torch.testing.assert_close(cut, gated, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_projection_slices_cover_their_modules(family: str) -> None:
    attention = anatomy(tiny_model(family)).layers[0].attention
    rows = [p.weight.flatten(0, 1) for p in (attention.query, attention.key, attention.value)]
    whole = {id(p.module): linear_weight(p.module) for p in (attention.query, attention.key, attention.value)}
    assert sorted(torch.cat(rows).sum(1).tolist()) == pytest.approx(
        sorted(torch.cat(list(whole.values())).sum(1).tolist()), abs=1e-12
    )
    assert attention.output_weight.shape == (32, 4, attention.head_dim)
    for part in (attention.query, attention.key, attention.value):
        assert part.weight.shape == (part.num_heads, attention.head_dim, 32)
        if not (part.groups > 1 and part.stop - part.start > 1):
            assert part.weight.untyped_storage().data_ptr() == part.module.weight.untyped_storage().data_ptr()


def test_layers_that_differ_are_described_apart() -> None:
    text = anatomy(tiny_model("gemma2")).describe()
    assert "layers 0, 2\n" in text
    assert "layers 1\n" in text
    assert "sliding window 5" in text
