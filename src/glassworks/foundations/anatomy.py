"""Where the parts of a Hugging Face transformer are: embeddings, blocks, heads, MLPs, norms, head.

`anatomy(model)` watches a short random input flow through the model, names the parts by what they read and wrote
(`discovery`), and proves the result by a forward pass written only from the parts (`recompose`). Families that no
line names are read the same way; what does not recompose is refused with UnsupportedArchitecture, never returned.
Inputs: a PreTrainedModel with a language-model or classification head. The model is left as it was.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
from transformers import PreTrainedModel

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.dataflow import Unexplained, evaluating, record
from glassworks.foundations.discovery import Finder
from glassworks.foundations.families import GUIDE, Fused, family_of, supported
from glassworks.foundations.parts import Anatomy
from glassworks.foundations.recompose import self_check
from glassworks.foundations.sharding import Shards

# Short, since a recording keeps every activation; longer than the sliding windows of the tests' models.
PROBE_LENGTH = 12
PROBE_ROWS = 2


def anatomy(model: PreTrainedModel, *, check: bool = True, seed: int = 0) -> Anatomy:
    """The parts of `model`, proven on a random input of 2 rows of 12 tokens.

    check: recompose the logits and compare; without it the order inside fused projections of a family that no row
    of `families` names is an assumption. seed: of the random tokens. Costs one forward pass, three with the check.
    Raises UnsupportedArchitecture.
    """
    row = family_of(model.config.model_type)
    if row.refused:
        raise _unsupported(model, row.refused)
    if model.config.is_encoder_decoder:
        raise _unsupported(model, "an encoder-decoder has two stacks of blocks; one is read here")
    Shards(model)  # refuses weights that cannot be gathered part by part
    problems: list[str] = []
    with evaluating(model), torch.no_grad():
        inputs = _probe(model, seed)
        try:
            recording = record(model, inputs)
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            raise _unsupported(model, f"the model does not run on token ids alone ({error})") from error
        orders: tuple[Fused, ...] = ("concatenated", "grouped") if row.fused is None else (row.fused,)
        for order in orders:
            try:
                if recording is None:
                    raise Unexplained("the model returns no logits; load it with a language-model or other head")
                finder = Finder(model, recording, order)
                found = Anatomy(model, finder.embedding(), finder.layers(), finder.head(), finder.hidden_size)
                difference = self_check(found, inputs["input_ids"]) if check else None
                return dataclasses.replace(found, difference=difference)
            except Unexplained as reason:
                problems.append(str(reason))
    raise _unsupported(model, problems[0])


def _probe(model: PreTrainedModel, seed: int) -> dict[str, Any]:
    """Equal rows of random tokens, none of them special: padding would be masked."""
    config = model.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    ids = [token for token in range(min(config.vocab_size, 4096)) if token not in special]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(ids), (PROBE_LENGTH,), generator=generator)
    tokens = torch.tensor(ids)[chosen].expand(PROBE_ROWS, -1).contiguous()
    inputs: dict[str, Any] = {"input_ids": tokens.to(model.device)}
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def _unsupported(model: PreTrainedModel, problem: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(
        problem,
        place=f"model type '{model.config.model_type}' ({type(model).__name__})",
        remedy=f"Families that work: {supported()}. {GUIDE} says how to add one.",
    )
