"""Log-probs from the whole model: equal to full logits, for every family, wrapped or not, and undone after."""

from __future__ import annotations

import pytest
import torch
from cases.preference_pairs import padded_log_probs, token_pairs
from cases.tiny_models import DECODERS, tiny_model

from glassworks.foundations.packing import pack
from glassworks.foundations.prefix_sharing import supports_prefix_sharing
from glassworks.preference.policy import packed_log_probs, sums_without_gradient
from glassworks.preference.trainer import as_group


@pytest.mark.parametrize("family", DECODERS)
def test_sums_are_those_of_full_logits(family: str) -> None:
    model, pairs = tiny_model(family), token_pairs(3)
    share = supports_prefix_sharing(model).supported
    batch = pack([as_group(pair) for pair in pairs], share_prefix=share)
    sums, lengths = packed_log_probs(model, model, batch)
    expected = torch.stack([padded_log_probs(model, pairs, side) for side in (1, 2)], 1).flatten()
    torch.testing.assert_close(sums.double(), expected.double(), rtol=1e-6, atol=1e-6)
    assert lengths.tolist() == [len(pair[side]) for pair in pairs for side in (1, 2)]


def test_gradients_are_those_of_full_logits_and_the_head_is_itself_again() -> None:
    pairs = token_pairs(3)
    gradients = []
    for shared in (True, False):
        model = tiny_model("llama", num_hidden_layers=2)
        if shared:
            packed_log_probs(model, model, pack([as_group(pair) for pair in pairs])).sums.sum().backward()
        else:
            sum(padded_log_probs(model, pairs, side).sum() for side in (1, 2)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        assert model(input_ids=torch.tensor([[3, 4]])).logits.shape[-1] == model.config.vocab_size
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_an_adapter_is_part_of_the_policy() -> None:
    peft = pytest.importorskip("peft")
    pairs = token_pairs(2)
    batch = pack([as_group(pair) for pair in pairs])
    base = tiny_model("llama", num_hidden_layers=2)
    before = sums_without_gradient(base, base, batch)
    wrapped = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.testing.assert_close(sums_without_gradient(wrapped, wrapped, batch), before)
    packed_log_probs(wrapped, wrapped, batch).sums.sum().backward()
    trained = [p for p in wrapped.parameters() if p.requires_grad]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    with torch.no_grad():
        for p in trained:
            p.add_(0.1)
    assert not torch.allclose(sums_without_gradient(wrapped, wrapped, batch), before)


def test_the_head_is_restored_when_the_forward_fails() -> None:
    model, batch = tiny_model("llama"), pack([as_group(token_pairs(1)[0])])
    with pytest.raises(ValueError, match="exactly one"):
        packed_log_probs(lambda **_: model(nonsense=1), model, batch)
    assert "forward" not in vars(model.get_output_embeddings())
