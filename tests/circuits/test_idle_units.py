"""Idle units: heads that were pruned before are found, useful ones never; rows of two stacks without MLP are none."""

import torch
from cases.tiny_models import VOCABULARY, random_tokens, randomise, tiny_model
from transformers import T5Config, T5ForSequenceClassification

from glassworks.circuits.encoder_decoder import encoder_decoder
from glassworks.circuits.export_subnetwork import masked_model
from glassworks.circuits.head_masks import gated
from glassworks.circuits.idle_units import idle_units
from glassworks.circuits.sentence_pairs import Encoded, stretches
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import collect_means
from glassworks.foundations.anatomy import anatomy

FULL = UnitMask.full(3, 4)
PRUNED = UnitMask.from_names(["a0.h2", "a2.h1"], 3, 4)


def examples(count: int) -> Encoded:
    rows = random_tokens(count, 7).tolist()
    columns = {"input_ids": rows, "attention_mask": [[1] * 7] * count}
    return Encoded(columns, torch.zeros(count, dtype=torch.long))


def test_heads_that_an_export_pruned_are_found() -> None:
    whole = anatomy(tiny_model("bert_classifier", dtype=torch.float32, num_labels=2), check=False)
    data = examples(20)
    means = collect_means(whole, [data.batch(range(20))])
    with gated(whole, means) as gates:
        assert not idle_units(gates, data).any()
    pruned = anatomy(masked_model(whole, FULL - PRUNED, means), check=False)
    with gated(pruned, collect_means(pruned, [data.batch(range(20))])) as gates:
        assert UnitMask.from_units(idle_units(gates, data, batch_size=5)) == PRUNED
        assert gates._z is None


def test_a_head_that_only_later_examples_need_is_not_idle() -> None:
    model = tiny_model("bert_classifier", dtype=torch.float32, num_labels=2)
    parts, data = anatomy(model, check=False), examples(12)
    spoken = data.columns["input_ids"][11][3]
    for row in data.columns["input_ids"][:11]:
        row[:] = [1 if token == spoken else token for token in row]
    with torch.no_grad():  # head 0 of layer 0 reads one word, whose embedding alone points its way
        embedded = model.bert.embeddings
        embedded.word_embeddings.weight[:, 0] = 0
        embedded.word_embeddings.weight[spoken, 0] = 1
        embedded.position_embeddings.weight[:, 0] = 0
        embedded.token_type_embeddings.weight[:, 0] = 0
        embedded.LayerNorm = torch.nn.Identity()
        value = model.bert.encoder.layer[0].attention.self.value
        value.weight[: parts.layers[0].attention.head_dim] = 0
        value.bias[: parts.layers[0].attention.head_dim] = 0
        value.weight[0, 0] = 1
    with gated(parts, ablation="zero") as gates:
        assert idle_units(gates, data, limit=11)[0, 0]
        assert not idle_units(gates, data)[0, 0]


def test_rows_without_mlp_are_not_idle() -> None:
    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=6, d_ff=48, num_layers=1, num_decoder_layers=1, num_heads=2,
        dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, num_labels=2,
    )  # fmt: skip
    model = T5ForSequenceClassification(config).eval()
    randomise(model)
    parts, data = encoder_decoder(model), examples(10)
    for row in data.columns["input_ids"]:
        row[:] = [*[max(2, token) for token in row[:-1]], 1]
    with torch.no_grad():
        parts.attention_output(0).weight[:, 6:] = 0
    with gated(parts, ablation="zero") as gates:
        assert UnitMask.from_units(idle_units(gates, data)).names() == ["a0.h1"]


def test_no_stretch_is_a_lone_row() -> None:
    assert stretches(0, 9, 4) == [range(4), range(4, 9)]
    assert stretches(0, 10, 4) == [range(4), range(4, 8), range(8, 10)]
    assert stretches(0, 1, 4) == [range(1)]
    assert stretches(0, 3, 1) == [range(1), range(1, 2), range(2, 3)]
    assert stretches(0, 0, 4) == []
