"""Dense vectors from any sentence-transformers model: a bi-encoder with its own pooling, prompts and length limit.

Mean, cls or last-token pooling and the prefixes of queries and passages are what the model's folder says
(retrieval.md section 3). Input texts, output unit fp32 vectors; what is longer than the model reads is counted.
Stands apart from `encoders`, since its imports take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from glassworks.errors import NotAModel
from glassworks.foundations.models import model_sha, pick_device, resolve_model
from glassworks.retrieval.encoders import Precision, Vectors, instructed


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
