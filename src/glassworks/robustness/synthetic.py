"""A world of made-up facts for measuring defences: questions, ranked passages, gold answers and an attacker's targets.

Each question has k passages, each of them by itself gold with rate r, wrong but plausible (one of six alternatives)
with rate w, else about something else, on which a reader abstains. Names are made of syllables and unique; wordings
vary over five paraphrases. Everything follows from the seed. Knows no model.
"""

from __future__ import annotations

import itertools
import random

from glassworks.retrieval.passages import Passage
from glassworks.robustness.question_sets import RobustQuestion
from glassworks.robustness.scripted_reader import WORDINGS

RELATIONS = ("capital", "founder", "patron saint", "largest lake", "official tree", "oldest port", "national dish")
_STARTS = ("Ba", "Be", "Bo", "Da", "De", "Do", "Fa", "Ga", "Ka", "Ke", "La", "Lo", "Ma", "Na", "Ra", "Sa", "Ta", "Va")
_MIDDLES = ("lim", "mor", "nar", "ren", "rov", "sal", "tan", "ver", "vik", "zan")
_ENDS = ("a", "do", "el", "eth", "ia", "o", "or", "um", "us", "yn")
_NAMES = 9  # of a question: the entity, the answer, the target and six alternatives; they divide the number of names


def synthetic_questions(
    count: int, *, k: int = 10, gold: float = 0.6, wrong: float = 0.2, seed: int = 0
) -> list[RobustQuestion]:
    """Questions with k passages each. gold, wrong: rates of passages, together at most 1.

    No name serves two of 2,000 questions; then the names are shuffled anew.
    """
    draw = random.Random(seed)
    names = made_up_names()
    questions = []
    for number in range(count):
        start = number * _NAMES % len(names)
        if not start:
            draw.shuffle(names)
        entity, answer, target, *alternatives = names[start : start + _NAMES]
        relation = draw.choice(RELATIONS)
        passages = []
        for rank in range(k):
            chance = draw.random()
            if chance < gold:
                text = claim_text(draw, relation, entity, answer)
            elif chance < gold + wrong:
                text = claim_text(draw, relation, entity, draw.choice(alternatives))
            else:
                text = claim_text(draw, draw.choice(RELATIONS), draw.choice(names), draw.choice(names))
            passages.append(Passage(f"q{number}#{rank}", f"q{number}", text))
        asked = question_text(relation, entity)
        questions.append(RobustQuestion(f"q{number}", asked, (answer,), target, tuple(passages)))
    return questions


def question_text(relation: str, entity: str) -> str:
    """The question that a claim answers."""
    return f"What is the {relation} of {entity}?"


def made_up_names() -> list[str]:
    """Every name there is, in a fixed order."""
    return ["".join(parts) for parts in itertools.product(_STARTS, _MIDDLES, _MIDDLES, _ENDS)]


def claim_text(draw: random.Random, relation: str, entity: str, value: str) -> str:
    """A sentence that claims the value, in one of the wordings."""
    return draw.choice(WORDINGS).format(relation=relation, entity=entity, value=value)
