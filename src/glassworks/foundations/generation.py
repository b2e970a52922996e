"""The door to language models: `open_language_model` and the types that everything asking a model shares.

A reference names either weights (a packaged name, folder, GGUF file or hub id: run here by `LocalModel`) or a
server ('http://host:port/v1#model': asked over the OpenAI protocol by `ServerModel`). What can be asked is in
`language_model`. Nothing here knows what prompts are for.
"""

from __future__ import annotations

import logging

from glassworks.foundations.language_model import (
    ContinuationScore,
    DecodingState,
    FinishReason,
    Generation,
    LanguageModel,
    Message,
    Prompt,
    Sampling,
    StepwiseModel,
)
from glassworks.foundations.local_model import LocalModel
from glassworks.foundations.server_model import ServerModel

__all__ = [
    "ContinuationScore",
    "DecodingState",
    "FinishReason",
    "Generation",
    "LanguageModel",
    "LocalModel",
    "Message",
    "Prompt",
    "Sampling",
    "ServerModel",
    "StepwiseModel",
    "open_language_model",
]

_log = logging.getLogger(__name__)


def open_language_model(
    model: str, *, device: str = "auto", dtype: str = "auto", batch_invariant: bool = False
) -> LanguageModel:
    """Open `model` for generation, here or on a server.

    model: 'http(s)://host:port/v1#name' for an OpenAI-compatible server, otherwise what `load_model` takes.
    device, dtype: of local weights. batch_invariant: the result for a prompt does not depend, bit for bit, on
    the prompts beside it; a server cannot be made to promise that, so it is logged as a warning there.
    Raises OptionError, ModelNotFound, NotAModel or UnsafeCheckpoint before any weight is read.
    """
    if model.startswith(("http://", "https://")):
        server = ServerModel.open(model)
        if batch_invariant:
            _log.warning("%s is a server: its answers may depend on what it batches together.", server.name)
        return server
    return LocalModel.load(model, device=device, dtype=dtype, batch_invariant=batch_invariant)
