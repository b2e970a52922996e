"""The model: cache, padding, saving, Auto classes, and every bound refused instead of passed."""

from pathlib import Path

import pytest
import torch
from cases.eliza import CONVERSATION, SMALL
from transformers import AutoModelForCausalLM, DynamicCache

from glassworks.eliza.compiling import Compiled, compile_script
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.models import load_model

TOKENS = transcript(converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION]))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_script(SMALL, Options(max_len=256, max_count=8))


@torch.no_grad()
def test_the_cache_and_padding_change_nothing(compiled: Compiled) -> None:
    ids = torch.tensor([compiled.encode(TOKENS)])
    whole = compiled.model(ids).logits
    cache = DynamicCache()
    pieces = [compiled.model(ids[:, a:b], cache=cache).logits for a, b in ((0, 30), (30, 31), (31, ids.shape[1]))]
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-4)
    padded = torch.nn.functional.pad(ids, (5, 0))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (5, 0))
    assert torch.allclose(compiled.model(padded, attention_mask=mask).logits[:, 5:], whole, atol=1e-4)


def test_generate_answers_and_stops(compiled: Compiled) -> None:
    prompts = [compiled.encode(text.split()) for text in ("$ U d a e a f b . E", "$ U b . E")]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    out = compiled.model.generate(ids, attention_mask=(ids != 0).long(), max_new_tokens=12, do_sample=False)
    assert compiled.decode(out[0, width:].tolist()) == ["p", "q", "e", "a", "f", "."]
    assert [t for t in compiled.decode(out[1, width:].tolist()) if t != "<pad>"] == ["v", "w", "."]


def test_saved_and_loaded_through_auto_classes(compiled: Compiled, tmp_path: Path) -> None:
    compiled.model.save_pretrained(tmp_path)
    ids = torch.tensor([compiled.encode(TOKENS)])
    for loaded in (AutoModelForCausalLM.from_pretrained(tmp_path), load_model(str(tmp_path), device="cpu")):
        assert torch.equal(loaded(ids).logits, compiled.model(ids).logits)


def test_the_anatomy_is_found_and_its_blocks_are_sequential(compiled: Compiled) -> None:
    found = anatomy(compiled.model)
    assert found.difference == 0
    assert not any(layer.parallel for layer in found.layers)


def test_bounds_are_errors(compiled: Compiled) -> None:
    ids = torch.ones(1, 257, dtype=torch.long)
    with pytest.raises(OptionError, match="257 tokens, the compiled program holds 256"):
        compiled.model(ids)
    nulls = converse(SMALL, [("U", "z", ".")] * 9)
    with pytest.raises(OptionError, match="counts beyond 8 inputs"):
        compiled.model(torch.tensor([compiled.encode(transcript(nulls))]))
    compiled.model(torch.tensor([compiled.encode(transcript(nulls[:8]))]))
    half = compile_script(SMALL, Options(max_len=64, max_count=4)).model.to(torch.bfloat16)
    with pytest.raises(OptionError, match="float32 or float64, not torch.bfloat16"):
        half(torch.ones(1, 4, dtype=torch.long))


def test_the_loss_is_over_labels(compiled: Compiled) -> None:
    ids = torch.tensor([compiled.encode(["$", "U", "b", ".", "E", "v", "w", "."])])
    labels = torch.where(torch.arange(8) > 4, ids, -100)
    assert float(compiled.model(ids, labels=labels).loss.detach()) < 1e-6


@torch.no_grad()
def test_streams_and_attention_are_given_where_asked(compiled: Compiled) -> None:
    ids, layers = torch.tensor([compiled.encode(TOKENS)]), len(compiled.program.layers)
    output = compiled.model(ids, output_hidden_states=True, output_attentions=True)
    assert (len(output.hidden_states), len(output.attentions)) == (layers + 1, layers)
    assert torch.equal(compiled.model.lm_head(output.hidden_states[-1]), output.logits)
    plain = compiled.model(ids)
    assert (plain.hidden_states, plain.attentions) == (None, None)
