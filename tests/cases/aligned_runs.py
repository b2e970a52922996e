"""A tiny chat checkpoint and preference rows for it, as the verbs of alignment take them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer


def preference_checkpoint(folder: Path, seed: int = 0) -> str:
    """A random llama of two layers with a chat template, saved in `folder`."""
    tokenizer = chat_tokenizer("zephyr")
    model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=2, vocab_size=len(tokenizer), seed=seed)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def preference_rows(file: Path, count: int = 40) -> str:
    """Rows whose chosen answers are short and begin with Good, written to `file`."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {i}?"}],
            "chosen": [{"role": "assistant", "content": f"Good. {i}"}],
            "rejected": [{"role": "assistant", "content": f"Bad. {i} is cold. {i}"}],
        }
        for i in range(count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)
