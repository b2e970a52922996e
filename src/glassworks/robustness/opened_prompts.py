"""Prompts read once for decoding: the state before the first token of each, and how likely an abstention is there.

Decoding aggregation (RobustRAG section 4) asks for the same prompts again and again: for the answer without attack, for
the answer under each attack, for the certificate of each budget. The prompts of the last call are kept, so that a part
of them costs nothing. Also which tokens open a late abstention. Needs a model whose next-token distributions are known
whole. Knows no aggregation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from glassworks.foundations.language_model import DecodingState, LanguageModel, Prompt, StepwiseModel
from glassworks.robustness.isolation import Reading

DRAFT = "I don't know"
SUPPRESSED = ("I", "Please", "\n")


class Opened(NamedTuple):
    """state: rows at their first token. places: the row of each prompt. drafted: log-probabilities of the draft's
    tokens after each row [rows][tokens]. suppressed: token ids that are not to open an answer."""

    state: DecodingState
    places: list[int]
    drafted: list[list[float]]
    suppressed: tuple[int, ...]


def stepwise(model: LanguageModel) -> StepwiseModel:
    """The model, if its next-token distributions are known whole. Raises TypeError, suggesting keyword."""
    if not isinstance(model, StepwiseModel):
        raise TypeError(f"{model.name} does not give whole next-token distributions: use the keyword aggregator")
    return model


class OpenedPrompts:
    """Reads prompts and keeps those of the last call, of one model."""

    def __init__(self) -> None:
        self._model: StepwiseModel | None = None
        self._rows: dict[str, int] = {}
        self._state: DecodingState | None = None
        self._drafted: list[list[float]] = []
        self._draft: tuple[int, ...] = ()
        self._suppressed: tuple[int, ...] = ()

    def read(self, reading: Reading, prompts: Sequence[Prompt]) -> Opened:
        """The prompts, equal ones once; nothing is computed where all of them were read by the last call."""
        model = stepwise(reading.responder.model)
        keys = [json.dumps(prompt) for prompt in prompts]
        if self._model is not model or not set(keys) <= self._rows.keys():
            distinct = dict(zip(keys, prompts, strict=True))
            self._state = model.open_decoding(list(distinct.values()))
            if self._model is not model:
                self._draft = draft_ids(model)
                self._suppressed = suppressed_ids(model, self._state.log_probs.shape[1])
            self._model, self._rows = model, {key: row for row, key in enumerate(distinct)}
            self._drafted = _drafted(self._state, self._draft)
            reading.responder.calls += len(distinct)
            reading.responder.tokens += sum(len(model.encode(prompt)) for prompt in distinct.values())
        assert self._state is not None
        return Opened(self._state, [self._rows[key] for key in keys], self._drafted, self._suppressed)


def _drafted(state: DecodingState, draft: Sequence[int]) -> list[list[float]]:
    """log p of each draft token after each row [rows][tokens]."""
    found: list[list[float]] = [[] for _ in range(len(state.log_probs))]
    probing = state.fork()
    for number, token in enumerate(draft):
        if number:
            probing.append(draft[number - 1])
        for row, value in zip(found, probing.log_probs[:, token].tolist(), strict=True):
            row.append(value)
    return found


def draft_ids(model: StepwiseModel) -> tuple[int, ...]:
    """Token ids of the abstaining draft, as they follow a prompt."""
    prompt: Prompt = [{"role": "user", "content": "?"}] if model.chat else "Answer:"
    ids: tuple[int, ...] = model.score(prompt, [DRAFT if model.chat else f" {DRAFT}"])[0].token_ids
    return ids


def suppressed_ids(model: StepwiseModel, vocabulary: int) -> tuple[int, ...]:
    """Token ids that write exactly one of the suppressed words, with or without a space before it."""
    wanted = {*SUPPRESSED, *(f" {word}" for word in SUPPRESSED)}
    return tuple(token for token in range(vocabulary) if model.decode([token]) in wanted)
