"""How does text become a vector, for queries and for passages?

Dense bi-encoders (retrieval.md R2): mean, cls or last-token pooling as the model says, prefixes as the model says,
unit fp32 vectors. `signature` names everything that a vector depends on; a store keeps it and refuses another.
Instructions (TART, Asai et al. 2022: instruction, separator, query) are put in front of the query, the passage is
unchanged. `HashingEncoder` needs no weights and is the same on every machine. Knows no store.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from glassworks.errors import NotAModel, OptionError
from glassworks.foundations.models import model_sha, pick_device, resolve_model

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]

HASHING = "hashing"


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


class SentenceEncoder:
    """A sentence-transformers model: its own pooling, prompts and length limit; batches sorted by length.

    model: folder, hub id or `packaged:NAME`. precision: bfloat16 runs the network under autocast; vectors are fp32.
    """

    def __init__(
        self, model: str, *, device: str = "auto", batch_size: int = 32, precision: Precision = "float32"
    ) -> None:
        path = resolve_model(model)
        self._device, self._batch_size, self._precision = pick_device(device), batch_size, precision
        try:
            self._model = SentenceTransformer(str(path), device=str(self._device))
        except (OSError, ValueError, KeyError) as error:
            raise NotAModel(
                f"sentence-transformers cannot load it ({str(error).splitlines()[0]})",
                place=model,
                remedy="Give a sentence encoder, such as packaged:minilm.",
            ) from error
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.takes_instructions = "instruct" in (self._model.prompts.get("query") or "").lower()
        self.truncated = 0
        self.signature = self._signature(model)

    def encode_queries(self, queries: Sequence[str], *, instruction: str | None = None) -> Vectors:
        """Unit fp32 vectors [queries, dimension]."""
        return self._encode(self._model.encode_query, [instructed(query, instruction) for query in queries])

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Unit fp32 vectors [texts, dimension]; texts beyond the model's limit count in `truncated`."""
        if limit := self._model.max_seq_length:
            lengths = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"] if texts else []
            self.truncated += sum(len(ids) > limit for ids in lengths)
        return self._encode(self._model.encode_document, texts)

    def _encode(self, encode: Any, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        with torch.inference_mode(), self._autocast():
            vectors = encode(list(texts), batch_size=self._batch_size, show_progress_bar=False, convert_to_tensor=True)
        unit: Vectors = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
        return unit

    def _autocast(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _signature(self, model: str) -> str:
        mode = next((m.pooling_mode for m in self._model if hasattr(m, "pooling_mode")), "own")
        prompts = {name: text for name, text in sorted(self._model.prompts.items()) if text}
        parts = [model_sha(model), f"{self.dimension}d", str(mode), f"{self._model.max_seq_length} tokens"]
        return "/".join([*parts, *(f"{name}={text!r}" for name, text in prompts.items()), self._precision])


def instructed(query: str, instruction: str | None) -> str:
    """The query with what it is for in front: `instruction query`, each separated by one space."""
    return f"{instruction.strip()} {query}" if instruction and instruction.strip() else query


def open_encoder(name: str, *, device: str = "auto", batch_size: int = 32, precision: Precision = "float32") -> Encoder:
    """The encoder that `name` stands for: `packaged:minilm`, a folder, a hub id, or `hashing:256`.

    Raises ModelNotFound or NotAModel, and OptionError for a hashing dimension that is no number.
    """
    kind, _, dimension = name.partition(":")
    if kind != HASHING:
        return SentenceEncoder(name, device=device, batch_size=batch_size, precision=precision)
    if not (dimension or "256").isdecimal():
        raise OptionError(f"expected a number of dimensions, got '{dimension}'", place=name)
    return HashingEncoder(int(dimension or "256"))
