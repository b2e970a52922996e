"""Passages, vectors and documents for small stores, and what a store holds after an ingest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from glassworks.retrieval.datastore import Datastore, StoreSettings, Vectors
from glassworks.retrieval.index import SUMMARY
from glassworks.retrieval.passages import Passage

DIMENSION = 8
SETTINGS = StoreSettings("test", DIMENSION, {"words": 256})


def passage(name: str, document: str | None = None, **fields: object) -> Passage:
    """A passage whose text names it."""
    return Passage(name, document or name.split("#")[0], f"text of {name}", **fields)  # type: ignore[arg-type]


def vectors(count: int, seed: int = 0) -> Vectors:
    """Random vectors [count, 8]."""
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def many(count: int) -> list[Passage]:
    """Passages in documents of two, with titles and metadata to filter by."""
    return [passage(f"d{i // 2}#{i % 2}", title=f"t{i % 3}", metadata={"even": i % 2}) for i in range(count)]


def ids(hits: list) -> list[str]:
    """The passages' ids, in the order of the hits."""
    return [hit.passage.id for hit in hits]


def write_texts(folder: Path) -> Path:
    """A text, a Markdown and a Python file, and one that is not read."""
    folder.mkdir()
    (folder / "a.txt").write_text(" ".join(f"alpha{i}" for i in range(25)))
    (folder / "b.md").write_text("# Birds\nThe wren sings.\n## Owls\nThe owl hoots at night.\n")
    (folder / "c.py").write_text("def dance():\n    return 1\n")
    (folder / "d.xyz").write_text("not read")
    return folder


def stored(out: Path) -> list[Passage]:
    """Every passage of the store in `out`, by id."""
    return sorted(Datastore.open(out).passages(), key=lambda passage: passage.id)


def tally(out: Path) -> dict[str, object]:
    """What the last ingest of a run folder wrote down."""
    summary: dict[str, object] = json.loads((out / SUMMARY).read_text())
    return summary
