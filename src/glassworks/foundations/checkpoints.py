"""What lies in this folder: can it be loaded as a model, and is that safe? Judged from names and headers alone.

Input: a folder or a ``.gguf`` file. Output: the path to load, or the refusal that says what is there, what was
expected and what to do. Reads file names, ``config.json`` and the headers of weight files, never a weight, so a
refusal costs milliseconds. Also the fingerprint of a checkpoint's bytes. Does not know how models are built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from glassworks.errors import ModelNotFound, NotAModel, UnsafeCheckpoint
from glassworks.foundations.data import file_sha

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED_LOADABLE = ("pytorch_model.bin", "pytorch_model.bin.index.json")
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
EXPECTED = f"config.json with {SAFETENSORS} (or {SAFETENSORS_INDEX} and its shards), or one .gguf file"
CONVERT = "Convert it where you trust its origin: load it with transformers and call save_pretrained"
# What decides a model's output; anything else in its folder (cards, optimiser states) may change freely.
FINGERPRINTED = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "tokenizer.model",
    "adapter_config.json",
)  # fmt: skip


def check_checkpoint(path: Path, *, allow_pickle: bool = False) -> Path:
    """The folder, or the GGUF file, that transformers should load for `path`, which exists.

    Raises NotAModel for foreign, incomplete, truncated or corrupt content, UnsafeCheckpoint when only pickled
    weights are there and `allow_pickle` is False.
    """
    if path.is_file():
        return _check_file(path)
    names = {entry.name for entry in path.iterdir()}
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if SAFETENSORS not in names and SAFETENSORS_INDEX not in names and gguf:
        if len(gguf) > 1:
            problem = f"holds {len(gguf)} GGUF files: {', '.join(gguf[:5])}"
            raise NotAModel(problem, place=str(path), remedy="Name one of the files.")
        return _check_file(path / gguf[0])
    if "config.json" not in names:
        raise NotAModel(f"expected {EXPECTED}; found {_listing(names)}", place=str(path), remedy=_hint(path, names))
    read_config(path)
    if check_weight_names(names, str(path), allow_pickle=allow_pickle):
        for file in _safetensors_files(path):
            _check_safetensors(file)
    return path


def check_weight_names(names: Iterable[str], place: str, *, allow_pickle: bool = False) -> bool:
    """Whether safe weights are among the file `names`; False when pickled ones are and they are allowed.

    Raises UnsafeCheckpoint for pickled weights alone, NotAModel for no weights at all.
    """
    names = set(names)
    if SAFETENSORS in names or SAFETENSORS_INDEX in names:
        return True
    pickled = sorted(name for name in names if name.endswith(PICKLED_SUFFIXES) or name == PICKLED_LOADABLE[1])
    loadable = [name for name in pickled if name in PICKLED_LOADABLE]
    if loadable and allow_pickle:
        return False
    if pickled:
        problem = f"has only pickled weights ({', '.join(pickled[:3])}), which can run code when they are opened"
        consent = "; load_model(allow_pickle=True) opens it as it is" if loadable else ""
        raise UnsafeCheckpoint(problem, place=place, remedy=f"{CONVERT}{consent}.")
    raise NotAModel(f"expected {EXPECTED}; found no weights in {_listing(names)}", place=place)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``. Raises NotAModel when it is no JSON object or names no model_type."""
    place = str(folder / "config.json")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotAModel(f"cannot be read as JSON ({error})", place=place) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise NotAModel("names no model_type, so it is not a transformers configuration", place=place)
    return config


def checkpoint_fingerprint(path: Path) -> str:
    """16 hexadecimal digits over the bytes of weights, configuration and tokenizer of a folder or GGUF file.

    Changes with any weight; does not change with the folder's name or place.
    """
    if path.is_file():
        return file_sha(path)
    weights = [p for p in path.iterdir() if p.suffix in (".safetensors", ".gguf") or p.name in PICKLED_LOADABLE]
    shards = path.glob("pytorch_model-*.bin")
    files = {*weights, *shards, *(path / name for name in FINGERPRINTED if (path / name).is_file())}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0{file_sha(file)}\n".encode())
    return digest.hexdigest()[:16]


def _listing(names: Iterable[str]) -> str:
    ordered = sorted(names)
    if not ordered:
        return "an empty folder"
    more = f" and {len(ordered) - 8} more" if len(ordered) > 8 else ""
    return ", ".join(ordered[:8]) + more


def _hint(path: Path, names: set[str]) -> str:
    if "adapter_config.json" in names:
        return "This is an adapter, not a whole model: merge it into its base model first."
    inner = sorted(p.parent for p in path.glob("*/config.json"))
    if inner:
        return f"Did you mean {' or '.join(str(p) for p in inner[-3:])}?"
    return "Give the folder that save_pretrained wrote."


def _check_file(path: Path) -> Path:
    if path.suffix == ".gguf":
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise NotAModel(f"is not a GGUF file (starts with {magic!r})", place=str(path), remedy=_lfs_remedy(path))
        return path
    if path.suffix in PICKLED_SUFFIXES:
        raise UnsafeCheckpoint(
            "is a pickle, which can run code when it is opened", place=str(path), remedy=f"{CONVERT}."
        )
    if path.suffix == ".safetensors" and path.with_name("config.json").exists():
        return check_checkpoint(path.parent)
    raise NotAModel(f"expected {EXPECTED}; this is a single file", place=str(path), remedy="Give its model folder.")


def _safetensors_files(folder: Path) -> list[Path]:
    index = folder / SAFETENSORS_INDEX
    if (folder / SAFETENSORS).exists() or not index.exists():
        return [folder / SAFETENSORS]
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise NotAModel("has no readable weight_map", place=str(index), remedy="Copy the folder again.") from error
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        problem = f"{len(missing)} of {len(shards)} weight files are missing: {', '.join(missing[:3])}"
        raise NotAModel(problem, place=str(folder), remedy="Copy or download the folder again.")
    return [folder / name for name in shards]


def _check_safetensors(file: Path) -> None:
    """Opening reads the header and compares the length that it promises with the file's own."""
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        problem = f"is truncated or corrupt ({error}; {file.stat().st_size:,} bytes)"
        raise NotAModel(problem, place=str(file), remedy=_lfs_remedy(file)) from error


def _lfs_remedy(file: Path) -> str:
    with file.open("rb") as opened:
        pointer = opened.read(40).startswith(b"version https://git-lfs")
    if pointer:
        return "It is a Git LFS pointer, not the file itself: run git lfs pull."
    return "Copy or download it again."


def missing_path(model: str) -> ModelNotFound | None:
    """The refusal of a name that can only be a path and does not exist; None where it may be a hub id."""
    path = Path(model).expanduser()
    looks_local = (
        model.startswith((".", "/", "~", "\\"))
        or model.count("/") > 1
        or path.suffix in (".gguf", ".safetensors", *PICKLED_SUFFIXES)
        or (path.parent != Path() and path.parent.is_dir())
    )
    if not looks_local:
        return None
    parent = path.parent
    if not parent.is_dir():
        return ModelNotFound(f"no such file or folder, and {parent} does not exist either", place=model)
    there = _listing(p.name for p in parent.iterdir())
    return ModelNotFound("no such file or folder", place=model, remedy=f"In {parent} there is: {there}.")
