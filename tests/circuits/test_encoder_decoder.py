"""T5: open gates change no bit, closed ones equal zeroed weights in each group, means leave padding out, faults."""

from pathlib import Path

import pytest
import torch
from cases.tiny_models import VOCABULARY, random_tokens, randomise, tiny_model
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration, T5ForSequenceClassification

from glassworks.circuits.ablation_sweep import ablation_sweep, naive_sweep
from glassworks.circuits.encoder_decoder import EncoderDecoder, encoder_decoder, existing_units, parts_of
from glassworks.circuits.export_subnetwork import masked_model, sliced_model
from glassworks.circuits.head_masks import gated, masked
from glassworks.circuits.sentence_pairs import Encoded
from glassworks.circuits.subnetwork_evaluation import case_logits
from glassworks.circuits.subnetwork_search import search
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import collect_means
from glassworks.errors import OptionError, UnsupportedArchitecture

HEADS, HEAD_DIM, ENCODER, DECODER = 4, 6, 2, 3
FULL = UnitMask.full(ENCODER + 2 * DECODER, HEADS)


@pytest.fixture
def parts() -> EncoderDecoder:
    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=HEAD_DIM, d_ff=48, num_layers=ENCODER, num_decoder_layers=DECODER,
        num_heads=HEADS, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration._from_config(config, dtype=torch.float64)
    randomise(model)
    return encoder_decoder(model.eval())


def inputs(source: int = 9, target: int = 5) -> dict[str, Tensor]:
    """Two rows; of the second, two source tokens and one target token are padding."""
    attention, decoder = torch.ones(2, source).long(), torch.ones(2, target).long()
    attention[1, 7:] = 0
    decoder[1, 4:] = 0
    return {
        "input_ids": random_tokens(2, source) * attention, "attention_mask": attention,
        "decoder_input_ids": random_tokens(2, target, seed=1) * decoder, "decoder_attention_mask": decoder,
    }  # fmt: skip


@torch.no_grad()
def logits(parts: EncoderDecoder) -> Tensor:
    found: Tensor = parts.model(**inputs()).logits
    return found


def test_rows_are_three_groups(parts: EncoderDecoder) -> None:
    assert [row.group for row in parts.rows] == ["encoder"] * 2 + ["decoder"] * 3 + ["cross"] * 3
    assert (parts.num_layers, parts.num_heads, parts.head_dim, parts.hidden_size) == (8, 4, 6, 32)
    assert parts.row_of("cross", 1) == 6
    assert [parts.mlp_output(row) is None for row in range(8)] == [False] * 2 + [True] * 3 + [False] * 3


def test_open_gates_change_no_bit_and_hooks_go(parts: EncoderDecoder) -> None:
    plain = logits(parts)
    with masked(parts, FULL, ablation="zero"):
        assert torch.equal(logits(parts), plain)
    with pytest.raises(RuntimeError, match="stop"), masked(parts, FULL, ablation="zero"):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in parts.model.modules())


@pytest.mark.parametrize(("group", "layer"), [("encoder", 1), ("decoder", 2), ("cross", 0)])
def test_a_closed_head_equals_a_zeroed_slice(parts: EncoderDecoder, group: str, layer: int) -> None:
    row, plain = parts.row_of(group, layer), logits(parts)
    with masked(parts, FULL - UnitMask.from_names([f"a{row}.h2"], 8, HEADS), ablation="zero"):
        found = logits(parts)
    output = parts.attention_output(row)
    assert isinstance(output, nn.Linear)
    with torch.no_grad():
        output.weight[:, 2 * HEAD_DIM : 3 * HEAD_DIM] = 0
    torch.testing.assert_close(found, logits(parts), rtol=0, atol=1e-12)
    assert not torch.allclose(found, plain)


@pytest.mark.parametrize(("group", "layer"), [("encoder", 0), ("cross", 2)])
def test_a_closed_block_equals_zeroed_weights(parts: EncoderDecoder, group: str, layer: int) -> None:
    row = parts.row_of(group, layer)
    with masked(parts, FULL - UnitMask.from_names([f"a{row}.mlp"], 8, HEADS), ablation="zero"):
        found = logits(parts)
    output = parts.mlp_output(row)
    assert isinstance(output, nn.Linear)
    with torch.no_grad():
        output.weight.zero_()
    torch.testing.assert_close(found, logits(parts), rtol=0, atol=1e-12)


def test_padding_does_not_move_the_means_of_either_stack(parts: EncoderDecoder) -> None:
    padded = inputs()
    alone = []
    for row in range(2):
        source, target = (int(padded[name][row].sum()) for name in ("attention_mask", "decoder_attention_mask"))
        alone.append({
            "input_ids": padded["input_ids"][row : row + 1, :source],
            "decoder_input_ids": padded["decoder_input_ids"][row : row + 1, :target],
        })  # fmt: skip
    together, apart = collect_means(parts, [padded]), collect_means(parts, alone)
    torch.testing.assert_close(together.heads, apart.heads, rtol=0, atol=1e-10)
    torch.testing.assert_close(together.mlps, apart.mlps, rtol=0, atol=1e-10)
    assert together.tokens == apart.tokens == 16


def test_gates_an_example_equal_one_forward_each(parts: EncoderDecoder) -> None:
    z = torch.rand(2, 8, HEADS + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = collect_means(parts, [inputs()])
    with gated(parts, means) as gates:
        gates.set(z)
        together = logits(parts)
        for row in range(2):
            gates.set(z[row])
            torch.testing.assert_close(logits(parts)[row], together[row], rtol=0, atol=1e-10)


def classifier() -> EncoderDecoder:
    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=HEAD_DIM, d_ff=48, num_layers=ENCODER, num_decoder_layers=DECODER,
        num_heads=HEADS, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, num_labels=2,
    )  # fmt: skip
    model = T5ForSequenceClassification._from_config(config, dtype=torch.float64)
    randomise(model)
    found = parts_of(model.eval())
    assert isinstance(found, EncoderDecoder)
    return found


def sentences(n: int = 24) -> Encoded:
    """Rows of varied length with one end token each, which a classifier of T5 reads."""
    rows = [[max(2, token) for token in random_tokens(1, 5 + at % 3, seed=at)[0].tolist()] for at in range(n)]
    ids = [[*row, 1] for row in rows]
    return Encoded({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}, torch.zeros(n).long())


def test_search_keeps_exactly_as_many_units_as_asked_of_those_that_there_are() -> None:
    parts, data = classifier(), sentences()
    exists = existing_units(parts)
    assert exists is not None
    assert int(exists.sum()) == 8 * HEADS + ENCODER + DECODER == 37
    means = collect_means(parts, (data.batch(chosen) for chosen in data.buckets(8)))
    config = SearchConfig(steps=6, batch_size=8, lr_warmup_steps=1, alpha_lr=0.5)
    found = search(parts, data, [0.3, 0.6], [1], config=config, means=means)
    assert [one.mask.size for one in found] == [round(0.7 * 37), round(0.4 * 37)]
    assert not any(bool((one.mask.units & ~exists).any()) for one in found)
    with gated(parts, means) as gates, torch.no_grad():
        assert case_logits(gates, found[0].mask, {"all": data})["all"].shape == (24, 2)
        swept = ablation_sweep(gates, data.batch([0, 3]), found[0].mask, ["a0.h0", "a7.mlp"])
        naive = naive_sweep(gates, data.batch([0, 3]), found[0].mask, ["a0.h0", "a7.mlp"])
    assert swept.keys() == {"", "a0.h0", "a7.mlp"}
    assert torch.equal(swept["a7.mlp"], naive["a7.mlp"])


def test_export_by_zeros_is_the_gated_model_and_means_are_refused(tmp_path: Path) -> None:
    parts, batch = classifier(), sentences().batch([0, 1, 2])
    mask = FULL - UnitMask.from_names(["a1.h2", "a3.h0", "a6.h3", "a0.mlp", "a7.mlp"], 8, HEADS)
    masked_model(parts, mask).save_pretrained(tmp_path)
    loaded = T5ForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with masked(parts, mask, ablation="zero"), torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, parts.model(**batch).logits, rtol=0, atol=1e-10)
    with pytest.raises(OptionError, match="bias in the attention output, which 't5' cannot have"):
        masked_model(parts, mask, collect_means(parts, [batch]))
    with pytest.raises(OptionError, match="two stacks"):
        sliced_model(parts, mask)


def test_faults(parts: EncoderDecoder) -> None:
    with pytest.raises(UnsupportedArchitecture, match="two stacks are not known.*t5"):
        encoder_decoder(tiny_model("bert"))
    with pytest.raises(OptionError, match="cannot resample"), gated(parts, ablation="resample"):
        pass
    with pytest.raises(OptionError, match="refused"), masked(parts, FULL, ablation="zero"):
        parts.model(**inputs(), head_mask=torch.zeros(ENCODER, HEADS))
