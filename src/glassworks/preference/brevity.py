"""A reward that anyone can check by eye: one short sentence, no hedging. For the quickstart and for trying pipelines.

Question: how good is an answer, by a rule a reader understands at once? Input: prompts and answers. Output: one
number an answer, 0 at best: minus the sentences beyond the first, minus a twentieth for each word, minus 1 for each
hedge. It knows nothing of truth: a model can earn it by being brief and wrong, which is why it is shown beside answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HEDGES = re.compile(
    r"\b(i think|i believe|i guess|maybe|perhaps|possibly|probably|might be|may be|could be|it depends|not sure|"
    r"it seems|as far as i know|great question|good question)\b",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)")
WORDS_OF_ONE_SENTENCE = 20
"""Words that cost as much as one more sentence."""


def brief_and_certain(prompts: Sequence[object], responses: Sequence[str]) -> list[float]:
    """Reward of each answer, at most 0; an empty answer gets -10, since saying nothing is no answer.

    Raises ValueError where the counts differ.
    """
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} answers")
    return [_reward(text) for text in responses]


def _reward(text: str) -> float:
    words = text.split()
    if not words:
        return -10.0
    sentences = max(1, len(SENTENCE_END.findall(text)))
    return -(sentences - 1) - len(words) / WORDS_OF_ONE_SENTENCE - len(HEDGES.findall(text))
