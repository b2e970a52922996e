"""Model families: those whose anatomy is proven by tests, and the few facts that structure does not tell.

A family is a row. Most rows say nothing but "tested": the parts are found by watching tensors flow. Unnamed
families are tried by structure alone and used if they recompose. The key is `config.model_type`.
See docs/how-to-add-a-family.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fused = Literal["concatenated", "grouped"]
GUIDE = "docs/how-to-add-a-family.md"


@dataclass(frozen=True)
class Family:
    """What structure does not tell of a family.

    fused: how one linear map for queries, keys and values orders its output, "concatenated" (all queries, all
    keys, all values) or "grouped" (for each key-value head: its queries, its key, its value); None: try both.
    refused: why the family cannot be taken apart, "" where it can.
    """

    fused: Fused | None = None
    refused: str = ""


FAMILIES: dict[str, Family] = {
    "bert": Family(),
    "deberta-v2": Family(),
    "distilbert": Family(),
    "electra": Family(),
    "gemma2": Family(),
    "gemma3_text": Family(),
    "gpt2": Family(fused="concatenated"),
    "gpt_neox": Family(fused="grouped"),
    "granite": Family(),
    "llama": Family(),
    "mistral": Family(),
    "mixtral": Family(),
    "modernbert": Family(),
    "olmo2": Family(),
    "phi3": Family(fused="concatenated"),
    "qwen2": Family(),
    "qwen3": Family(),
    "roberta": Family(),
}


def family_of(model_type: str) -> Family:
    """The row of `model_type`, an empty one where the family is not named."""
    return FAMILIES.get(model_type, Family())


def supported() -> str:
    """The families that tests prove, for messages."""
    return ", ".join(sorted(name for name, family in FAMILIES.items() if not family.refused))
