"""Who sees whom: by hand, as each attention implementation takes it, and for each kind of layer."""

from __future__ import annotations

import pytest
import torch
from cases.packed_groups import GROUPS, packed_loss
from cases.tiny_models import tiny_model
from torch.nn.attention.flex_attention import create_mask
from transformers import PreTrainedConfig

from glassworks.errors import OptionError
from glassworks.foundations.attention_masks import attention_masks, layer_reaches, visible
from glassworks.foundations.packing import Group, pack


@pytest.mark.parametrize("family", ["llama", "gemma2", "mistral", "gpt2"])
def test_eager_attention_gives_the_same_logits(family: str) -> None:
    model = tiny_model(family, dtype=torch.float32)
    batch = pack(GROUPS, 60)
    sdpa = model(**batch.model_inputs(model)).logits
    model.set_attn_implementation("eager")
    assert batch.model_inputs(model)["attention_mask"] is not None
    eager = model(**batch.model_inputs(model)).logits
    assert (batch.unpack(sdpa) - batch.unpack(eager)).abs().max() < 1e-4


def test_masks_come_one_for_each_kind_of_layer() -> None:
    batch = pack(GROUPS, 60)
    gemma = batch.model_inputs(tiny_model("gemma2", dtype=torch.float32))["attention_mask"]
    assert set(gemma) == {"full_attention", "sliding_attention"}
    # Eager attention: 0 where a token is seen.
    assert (gemma["sliding_attention"] == 0).sum() < (gemma["full_attention"] == 0).sum()
    assert isinstance(batch.model_inputs(tiny_model("mistral"))["attention_mask"], torch.Tensor)


def test_visible_by_hand() -> None:
    # Prefix a b, continuations c d and e, a padding place; a window of 2 hides a from c, d and e.
    batch = pack([Group(prefix=[1, 2], continuations=[[3, 4], [5]])], 6, full_width=True)
    ids = (batch.segment_ids, batch.prefix_ids, batch.position_ids)
    full = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]]
    assert visible(*ids)[0, 0].int().tolist() == [*full, [0, 0, 0, 0, 0, 1]]
    reach = layer_reaches(tiny_model("mistral", sliding_window=2).config)["sliding_attention"]
    near = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]]
    assert visible(*ids, reach)[0, 0].int().tolist() == [*near, [0, 0, 0, 0, 0, 1]]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 2, 0]


def test_flash_attention_is_refused_with_a_remedy() -> None:
    model = tiny_model("llama")
    batch = pack(GROUPS, 60)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(OptionError, match="attn_implementation='sdpa'"):
        attention_masks(model.config, batch.segment_ids, batch.prefix_ids, batch.position_ids)


@pytest.mark.gpu
def test_flex_attention_equals_the_mask_path() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: flex attention has no backward on the CPU")
    model = tiny_model("gemma2", dtype=torch.float32, head_dim=16).cuda()
    batch = pack(GROUPS, 128, full_width=True).to("cuda")
    model.set_attn_implementation("eager")
    reference, expected = packed_loss(model, batch)
    model.set_attn_implementation("flex_attention")
    logits, loss = packed_loss(model, batch)
    loss.backward()
    assert (batch.unpack(logits) - batch.unpack(reference)).abs().max() < 1e-3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_chunk_is_counted_from_the_first_position_of_a_sequence() -> None:
    config = PreTrainedConfig(attention_chunk_size=2, layer_types=["chunked_attention", "recurrent", "full_attention"])
    reaches = layer_reaches(config)
    assert list(reaches) == ["chunked_attention", "full_attention"]
    # A prefix of one token and two continuations of two, whose positions are 1 and 2: the second begins a chunk.
    batch = pack([Group(prefix=[1], continuations=[[2, 3], [4, 5]])], 5)
    seen = visible(batch.segment_ids, batch.prefix_ids, batch.position_ids, reaches["chunked_attention"])
    assert seen[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("window", [None, 4])
def test_each_implementation_takes_the_same_relation(window: int | None) -> None:
    config = tiny_model("mistral", sliding_window=window).config
    batch = pack(GROUPS, 60)
    ids = (batch.segment_ids, batch.prefix_ids, batch.position_ids)
    (reach,) = layer_reaches(config).values()
    seen = visible(*ids, reach)
    assert window is None or not seen.equal(visible(*ids))
    rows, width = batch.segment_ids.shape
    received = {}
    for implementation in ("sdpa", "eager", "flex_attention"):
        config._attn_implementation = implementation
        received[implementation] = attention_masks(config, *ids, torch.bfloat16)
    assert received["sdpa"].equal(seen)
    assert received["eager"].dtype == torch.bfloat16
    assert (received["eager"] == 0).equal(seen)
    assert (received["eager"][~seen] == torch.finfo(torch.bfloat16).min).all()
    flex = received["flex_attention"]
    assert create_mask(flex.mask_mod, rows, None, width, width, device="cpu").equal(seen)
