"""Leaving out the places that both prompts share changes nothing: not logits, not gradients, in any family."""

import pytest
import torch
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from torch import Tensor

from glassworks.circuits.masked_model import MaskedModel, Positions
from glassworks.circuits.prefix import Prefix, PrefixCache

AT = Positions(torch.tensor([0, 1, 1]), torch.tensor([8, 7, 5]))
CLEAN, OTHER = random_tokens(2, 9, seed=1), random_tokens(2, 9, seed=2)
SHARED = 4
CORRUPTED = torch.cat([CLEAN[:, :SHARED], OTHER[:, SHARED:]], dim=1)


@pytest.fixture(autouse=True)
def _all_of_it_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def gradient_and_logits(masked: MaskedModel, prefix: Prefix | None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    gates = torch.rand(masked.graph.exists.shape, generator=generator, dtype=torch.float64).requires_grad_()
    logits = masked.logits(CLEAN, masked.writers(CORRUPTED), gates, AT, prefix=prefix)
    return torch.autograd.grad(logits.log_softmax(-1)[:, 5].sum(), gates)[0], logits.detach()


@pytest.mark.parametrize("family", DECODERS)
def test_a_shared_prefix_left_out_changes_no_logit_and_no_gradient(family: str) -> None:
    masked = MaskedModel(tiny_model(family))
    whole, prefix = gradient_and_logits(masked, None), masked.prefix(CLEAN[:, :SHARED])
    assert prefix is not None
    assert prefix.length == SHARED
    for one, other in zip(whole, gradient_and_logits(masked, prefix), strict=True):
        assert float((one - other).abs().max()) < 1e-11
    assert float(whole[0].abs().max()) > 1e-6


@pytest.mark.parametrize(("family", "embeddings"), [("gpt2", 0), ("gpt2", 2), ("llama", 0)])
def test_in_every_convention_and_with_recomputation(family: str, embeddings: int) -> None:
    masked = MaskedModel(tiny_model(family), embeddings=embeddings, checkpointing=True)
    prefix = masked.prefix(CLEAN[:, :SHARED])
    for one, other in zip(gradient_and_logits(masked, None), gradient_and_logits(masked, prefix), strict=True):
        assert float((one - other).abs().max()) < 1e-11


def test_two_passes_before_their_backwards_keep_their_own_prefix() -> None:
    masked = MaskedModel(tiny_model("gpt2"), checkpointing=True)
    alone, losses = [], []
    for tokens in (CLEAN, OTHER):
        gates = masked.ones().mul_(0.5).requires_grad_()
        stand_ins = masked.writers(torch.cat([tokens[:, :SHARED], CLEAN.flip(0)[:, SHARED:]], dim=1))
        loss = masked.logits(tokens, stand_ins, gates, AT, prefix=masked.prefix(tokens[:, :SHARED])).square().sum()
        losses.append((loss, gates))
        again = masked.logits(tokens, stand_ins, gates, AT).square().sum()
        alone.append(torch.autograd.grad(again, gates)[0])
    for (loss, gates), wanted in zip(losses, alone, strict=True):
        torch.testing.assert_close(torch.autograd.grad(loss, gates)[0], wanted, rtol=1e-9, atol=1e-9)


def test_rows_are_cut_and_joined() -> None:
    masked = MaskedModel(tiny_model("llama"))
    prefix = masked.prefix(CLEAN[:, :SHARED])
    assert prefix is not None
    joined = Prefix.joined([prefix.row(1), prefix.row(0)], 3)
    assert joined.length == 3
    assert torch.equal(joined.keys[1], prefix.keys[1].flip(0)[..., :3, :])
    assert torch.equal(joined.values[0], prefix.values[0].flip(0)[..., :3, :])
    cache = PrefixCache(joined)
    keys, values = cache.update(prefix.keys[0], prefix.values[0], 0)
    assert cache.get_seq_length() == 3
    assert keys.shape[-2] == values.shape[-2] == 3 + SHARED
