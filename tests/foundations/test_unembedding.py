"""The output layer read off models of every family, and refused where it is not the last step."""

from typing import Any

import pytest
import torch
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from torch import nn

from glassworks.errors import OptionError, UnsupportedArchitecture
from glassworks.foundations.unembedding import (
    Unembedding,
    hidden_states,
    unembedding_of,
    verify_unembedding,
)


@pytest.mark.parametrize("family", DECODERS)
def test_hidden_states_and_unembedding_give_the_model_s_logits(family: str) -> None:
    model = tiny_model(family)
    tokens = random_tokens(2, 7)
    received = verify_unembedding(model).logits(hidden_states(model, tokens, torch.ones_like(tokens)))
    torch.testing.assert_close(received, model(tokens).logits, atol=1e-10, rtol=1e-10)


def test_scale_and_cap_come_from_the_configuration() -> None:
    assert unembedding_of(tiny_model("granite")).scale == pytest.approx(1 / 2.5)
    assert unembedding_of(tiny_model("gemma2")).soft_cap == 3
    plain = unembedding_of(tiny_model("llama"))
    assert (plain.scale, plain.soft_cap, plain.bias) == (1, None, None)
    cohere = tiny_model("cohere", logit_scale=0.25)
    assert unembedding_of(cohere).scale == 0.25
    verify_unembedding(cohere)


def test_the_tensors_are_the_model_s_own() -> None:
    model = tiny_model("gpt2")
    assert unembedding_of(model).weight is model.lm_head.weight


def test_an_adapter_wrapper_is_looked_through() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def get_base_model(self) -> nn.Module:
            return self.inner

    model = tiny_model("llama")
    assert unembedding_of(Wrapper(model)).weight is model.lm_head.weight
    tokens = random_tokens(1, 4)
    assert torch.equal(hidden_states(Wrapper(model), tokens), hidden_states(model, tokens))


def test_a_part_of_the_vocabulary_and_bf16_logits() -> None:
    head = Unembedding(torch.randn(11, 3), torch.randn(11), 0.5, 2.0)
    states = torch.randn(4, 3)
    torch.testing.assert_close(head.logits(states)[:, 2:5], head.logits(states, slice(2, 5)))
    low = Unembedding(head.weight.bfloat16())
    assert low.logits(states.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("family", ["bert", "bert_classifier"])
def test_a_model_whose_head_is_more_than_a_layer_is_refused(family: str) -> None:
    with pytest.raises(UnsupportedArchitecture):
        verify_unembedding(tiny_model(family))


def test_a_model_that_transforms_its_logits_otherwise_is_refused() -> None:
    model = tiny_model("llama").train()

    def twice(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output * 2

    model.lm_head.register_forward_hook(twice)
    with pytest.raises(UnsupportedArchitecture, match="LlamaForCausalLM: the logits from its hidden states"):
        verify_unembedding(model)
    assert model.training


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OptionError, match=r"shape \(3,\)"):
        Unembedding(torch.zeros(3))
    with pytest.raises(OptionError, match=r"expected \[3\]"):
        Unembedding(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(OptionError, match="soft_cap is 0"):
        Unembedding(torch.zeros(3, 2), soft_cap=0)
