"""Tiny models of bytes that answer prompts, and what transformers makes of the same prompts."""

from __future__ import annotations

import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.foundations.generation import LocalModel, Sampling

SHARED = "The same beginning of sixty-four characters or a few more, to fill a block. "
PROMPTS = ["a", "What is the capital of Kenya?", SHARED + "one", "Zork " * 6, SHARED + "another", SHARED]
GREEDY = Sampling(max_new_tokens=12)


def local(family: str = "llama", *, dtype: torch.dtype = torch.float64, **options: object) -> LocalModel:
    """A tiny model of 260 bytes that reads 512 of them; byte 2 and another one end a text."""
    size = {"n_positions": 512} if family == "gpt2" else {"max_position_embeddings": 512}
    model = tiny_model(family, dtype=dtype, vocab_size=BYTE_VOCABULARY, **size)
    model.generation_config.eos_token_id = [2, 40]
    return LocalModel(model, byte_tokenizer(), **options)


def reference(model: LocalModel, prompt: str, options: Sampling) -> list[int]:
    """Greedy tokens by transformers, one prompt at a time, without the token that ends the text."""
    ids = torch.tensor([model.encode(prompt)])
    out = model.model.generate(ids, max_new_tokens=options.max_new_tokens, do_sample=False, pad_token_id=0)
    tokens = out[0, ids.shape[1] :].tolist()
    return tokens[:-1] if tokens and tokens[-1] in (2, 40) else tokens


def independent(model: LocalModel, prompt: str, continuation: str) -> float:
    """log p(continuation | prompt) from one pass over both."""
    ids = model.encode(prompt)
    whole = torch.tensor([model.encode(prompt + continuation)])
    table = model.model(whole).logits[0, len(ids) - 1 : -1].double().log_softmax(-1)
    return table.gather(1, whole[0, len(ids) :, None]).sum().item()
