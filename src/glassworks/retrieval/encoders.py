"""How does text become a vector, for queries and for passages?

An `Encoder` gives unit fp32 vectors. Its `signature` names everything that a vector depends on, so that a store can
keep it and refuse another encoder (retrieval.md section 3, dense).
Instructions (TART, Asai et al. 2022: instruction, separator, query) are put in front of the query, the passage is
unchanged. `HashingEncoder` needs no weights and is the same on every machine. Knows no store.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from importlib import import_module
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from glassworks.errors import OptionError

Vectors = NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]

HASHING = "hashing"
# By name, since sentence-transformers takes seconds to import and word search does not need it.
_SENTENCE_ENCODER = ("glassworks.retrieval.sentence_encoder", "SentenceEncoder")


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into unit vectors.

    signature: changes whenever a vector would. dimension: of a vector. takes_instructions: whether the model was
    trained to read an instruction in front of the query. truncated: how many passages so far were longer than the
    model reads.
    """

    signature: str
    dimension: int
    takes_instructions: bool
    truncated: int

    def encode_queries(self, queries: Sequence[str], *, instruction: str | None = None) -> Vectors:
        """Unit fp32 vectors [queries, dimension]."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Unit fp32 vectors [texts, dimension]."""
        ...


class HashingEncoder:
    """Counts of hashed words and character trigrams, square-rooted: similar spelling, similar vector. No weights."""

    takes_instructions = False
    truncated = 0

    def __init__(self, dimension: int = 256) -> None:
        if dimension < 1:
            raise OptionError(f"expected at least 1 dimension, got {dimension}", place=f"{HASHING}:{dimension}")
        self.dimension = dimension
        self.signature = f"{HASHING}:{dimension}/words+trigrams/crc32/sqrt"

    def encode_queries(self, queries: Sequence[str], *, instruction: str | None = None) -> Vectors:
        """Unit fp32 vectors [queries, dimension]; the instruction is hashed along."""
        return self.encode_passages([instructed(query, instruction) for query in queries])

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Unit fp32 vectors [texts, dimension]; never zero, since even an empty text has its two edges."""
        vectors = np.zeros((len(texts), self.dimension))
        for row, text in enumerate(texts):
            for feature in _features(text):
                vectors[row, zlib.crc32(feature.encode("utf-8", "surrogatepass")) % self.dimension] += 1
        vectors = np.sqrt(vectors)
        unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _features(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    padded = f"\x02{' '.join(words)}\x03"
    trigrams = (padded[at : at + 3] for at in range(max(1, len(padded) - 2)))
    return [*words, *trigrams]


def instructed(query: str, instruction: str | None) -> str:
    """The query with what it is for in front: `instruction query`, each separated by one space."""
    return f"{instruction.strip()} {query}" if instruction and instruction.strip() else query


def open_encoder(name: str, *, device: str = "auto", batch_size: int = 32, precision: Precision = "float32") -> Encoder:
    """The encoder that `name` stands for: `packaged:minilm`, a folder, a hub id, or `hashing:256`.

    Raises ModelNotFound or NotAModel, and OptionError for a hashing dimension that is no number.
    """
    kind, _, dimension = name.partition(":")
    if kind != HASHING:
        module, attribute = _SENTENCE_ENCODER
        make = getattr(import_module(module), attribute)
        encoder: Encoder = make(name, device=device, batch_size=batch_size, precision=precision)
        return encoder
    if not (dimension or "256").isdecimal():
        raise OptionError(f"expected a number of dimensions, got '{dimension}'", place=name)
    return HashingEncoder(int(dimension or "256"))
