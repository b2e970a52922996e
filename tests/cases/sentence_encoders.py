"""A sentence encoder small enough for tests, as a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = "the a cat dog sat on mat red blue car drives fast to moon query passage : . ,".split()  # noqa: SIM905


def write_encoder(base: Path, *, pooling: str = "mean") -> Path:
    """A sentence-transformers folder of a random two-layer BERT that reads 16 tokens and has prompts."""
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32)  # fmt: skip
    BertModel(config).save_pretrained(base / "bert")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(base / "bert")
    transformer = parts.Transformer(str(base / "bert"), max_seq_length=16)
    model = SentenceTransformer(
        modules=[transformer, parts.Pooling(16, pooling_mode=pooling)],
        prompts={"query": "query : ", "document": "passage : "},
        device="cpu",
    )
    model.save(str(base / "model"))
    return base / "model"
