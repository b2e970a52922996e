"""A folder of a low-rank adapter (PEFT) in the place of a model: its base is loaded and the adapter merged into it.

Input: what `foundations.models` takes, or a folder with adapter_config.json. Output: a plain transformers model, whose
parts `anatomy` finds as those of any other, and the base's tokenizer. Trains nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.errors import NotAModel
from glassworks.foundations.data import first_line
from glassworks.foundations.files import path_sha
from glassworks.foundations.models import load_model, load_tokenizer, model_sha

CONFIG = "adapter_config.json"


def base_of(model: str) -> str | None:
    """The base model that an adapter's folder names; None where `model` is no adapter. Raises NotAModel."""
    file = Path(model) / CONFIG
    if not file.is_file() or (file.parent / "config.json").is_file():
        return None
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise NotAModel("the adapter names no base model", place=str(file), remedy="Set base_model_name_or_path.")
    return str(base)


def load_merged(model: str, *, device: str = "auto", dtype: str = "auto") -> PreTrainedModel:
    """The model, with the adapter merged in where `model` is one's folder. Raises as `load_model`, and NotAModel."""
    base = base_of(model)
    if base is None:
        return load_model(model, device=device, dtype=dtype)
    loaded = load_model(base, device=device, dtype=dtype)
    try:
        merged: PreTrainedModel = PeftModel.from_pretrained(loaded, model).merge_and_unload()  # type: ignore[operator]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise NotAModel(
            f"the adapter does not fit {base} ({first_line(error)})",
            place=model,
            remedy="Give the base it was made for.",
        ) from error
    merged.eval()
    return merged


def tokenizer_of(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the model, or of the adapter's base. Raises as `load_tokenizer`."""
    return load_tokenizer(base_of(model) or model)


def merged_sha(model: str) -> str:
    """`model_sha`, for an adapter with the bytes of both, 16 hexadecimal digits or two times 16."""
    base = base_of(model)
    return model_sha(model) if base is None else f"{model_sha(base)}+{path_sha(Path(model))[:16]}"
