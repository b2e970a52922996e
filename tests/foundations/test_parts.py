"""Slices of the parts are the weights that heads read and write with, and descriptions say what differs."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import FAMILIES, random_tokens, tiny_model
from torch import nn

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.dataflow import linear_weight
from glassworks.foundations.parts import Mlp, Projection, first_tensor


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


def test_a_projection_reads_its_slots_of_each_group_by_hand() -> None:
    # Two groups of (query, query, key, value), head size 1: the layout of grouped heads in one module.
    module = nn.Linear(1, 8)
    with torch.no_grad():
        module.weight.copy_(torch.arange(8.0)[:, None])
        module.bias.copy_(torch.arange(8.0) + 10)
    heads = {
        name: Projection(module, 2, *slots, 4, 1) for name, slots in {"q": (0, 2), "k": (2, 3), "v": (3, 4)}.items()
    }
    assert {name: part.num_heads for name, part in heads.items()} == {"q": 4, "k": 2, "v": 2}
    assert {name: part.weight.flatten().tolist() for name, part in heads.items()} == {
        "q": [0, 1, 4, 5], "k": [2, 6], "v": [3, 7],
    }  # fmt: skip
    assert heads["k"].bias is not None
    assert heads["k"].bias.flatten().tolist() == [12, 16]


def test_an_mlp_is_its_modules_in_turn() -> None:
    class Experts(nn.Module):
        """Gives router scores along, as mixtures of experts do."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return x * 2, "scores"

    experts, last = Experts(), nn.ReLU()
    x = torch.tensor([[-1.0, 3.0]])
    assert Mlp((experts, last), last)(x).tolist() == [[0.0, 6.0]]
    assert Mlp((last, experts), experts)(x).tolist() == [[0.0, 6.0]]
    assert first_tensor((x, None)) is first_tensor(x) is x


def test_a_module_that_is_not_in_the_model_has_no_name() -> None:
    found = anatomy(tiny_model("llama"))
    assert found.name_of(found.layers[2].mlp.output) == "model.layers.2.mlp.down_proj"
    with pytest.raises(KeyError, match="Linear"):
        found.name_of(nn.Linear(1, 1))


def test_layers_that_are_alike_are_described_once() -> None:
    text = anatomy(tiny_model("granite")).describe()
    assert text.count("layers 0-2\n") == text.count("  attention ") == text.count("  MLP ") == 1
    assert "embedding   3 x model.embed_tokens" in text
    assert "logits x 0.4" in text
    assert text.count("; x 0.4") == 2
