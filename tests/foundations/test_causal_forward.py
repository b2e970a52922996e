"""What a model can do with its state is found out from the model; it is called in eval mode and left as it was."""

from __future__ import annotations

import pytest
import torch
from cases.byte_models import GREEDY, PROMPTS, local
from cases.tiny_models import random_tokens, tiny_model
from transformers import DynamicCache, T5Config, T5ForConditionalGeneration

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.causal_forward import CausalForward, mapped_cache


def test_a_model_in_training_is_read_in_eval_mode_and_left_in_training() -> None:
    model = local()
    wanted = model.generate(PROMPTS, GREEDY)
    model.model.train()
    model.model.lm_head.eval()
    assert model.generate(PROMPTS, GREEDY) == wanted
    assert model.model.training
    assert not model.model.lm_head.training


@pytest.mark.parametrize(
    ("family", "settings", "cached", "padded", "limit"),
    [
        ("llama", {}, True, True, 130),
        ("gpt2", {}, True, True, 128),
        ("gemma2", {}, True, True, 130),
        ("mamba", {"state_size": 8}, False, False, None),
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}, False, False, 130),
    ],
)
def test_what_can_be_done_is_read_off_the_model(
    family: str, settings: dict[str, object], cached: bool, padded: bool, limit: int | None
) -> None:
    forward = CausalForward(tiny_model(family, **settings))
    assert (forward.cached, forward.padded, forward.vocabulary) == (cached, padded, 97)
    assert limit is None or forward.limit == limit


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba"])
def test_the_last_logits_are_the_last_of_all_and_need_no_gradient(family: str) -> None:
    extra = {"state_size": 8} if family == "mamba" else {}
    forward, ids = CausalForward(tiny_model(family, **extra)), random_tokens(2, 7)
    every, last = forward(ids), forward(ids, last_only=True)
    assert (every.shape, last.shape) == ((2, 7, 97), (2, 1, 97))
    torch.testing.assert_close(last, every[:, -1:], rtol=0, atol=1e-12)
    assert not every.requires_grad


def test_a_cache_grows_by_what_is_read_and_can_be_mapped() -> None:
    forward, ids, cache = CausalForward(tiny_model("llama")), random_tokens(1, 6), DynamicCache()
    forward(ids[:, :4], cache=cache)
    twice = mapped_cache(cache, lambda states: states.expand(2, -1, -1, -1))
    tail = forward(ids[:, 4:].expand(2, -1), cache=twice, positions=torch.tensor([[4, 5]]).expand(2, -1))
    torch.testing.assert_close(tail, forward(ids)[:, 4:].expand(2, -1, -1), rtol=0, atol=1e-12)
    assert (cache.get_seq_length(), twice.get_seq_length()) == (4, 6)


def test_an_encoder_decoder_is_refused() -> None:
    t5 = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    with pytest.raises(UnsupportedArchitecture, match=r"t5 is an encoder-decoder\. Use a decoder-only"):
        CausalForward(T5ForConditionalGeneration(t5))
