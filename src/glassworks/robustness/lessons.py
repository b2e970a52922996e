"""What does a reader practise to answer from one passage, and to say that it does not know? Lessons of made-up facts.

RobustRAG needs a reader that abstains on passages that do not answer. Every lesson is a prompt of the very kind that
answering sends, with the text that should follow: a passage that answers, the same passage asked for another relation,
another entity or both, several passages of which some answer, and keywords, which are to be repeated. Names are the
made-up ones of `synthetic`, paired at random, so that nothing can be learned by heart. Knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from glassworks.foundations.language_model import Prompt
from glassworks.retrieval.passages import Passage
from glassworks.robustness.prompts import PromptTemplates, hint_prompt, isolated_prompt
from glassworks.robustness.scripted_reader import NOT_KNOWN
from glassworks.robustness.synthetic import RELATIONS, claim_text, made_up_names

TEMPLATES = PromptTemplates("Answer in a few words from the passage, or say: I don't know", (), max_new_tokens=12)
"""A short request without demonstrations: what they show is learned instead."""


@dataclass(frozen=True)
class Lesson:
    """A question with passages or keywords, and what a good reader says. answer: may be an abstention."""

    question: str
    answer: str
    passages: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()

    @property
    def abstains(self) -> bool:
        """Whether nothing answers."""
        return self.answer == NOT_KNOWN

    def prompt(self, templates: PromptTemplates, *, chat: bool) -> Prompt:
        """The prompt, as answering sends it."""
        if self.keywords:
            return hint_prompt(templates, self.question, self.keywords, chat=chat)
        given = [Passage(f"{number}#0", str(number), text) for number, text in enumerate(self.passages)]
        return isolated_prompt(templates, self.question, given, chat=chat, characters=2000)


def lessons(count: int, seed: int = 0) -> list[Lesson]:
    """`count` lessons, the same for the same seed: in ten, four answer, four abstain, one reads several passages and
    one repeats keywords."""
    stream = _lessons(random.Random(seed))
    return [next(stream) for _ in range(count)]


def _lessons(draw: random.Random) -> Iterator[Lesson]:
    names = made_up_names()
    while True:
        for number in range(4):
            entity, value, other, _ = draw.sample(names, 4)
            relation, another = draw.sample(RELATIONS, 2)
            passage = (claim_text(draw, relation, entity, value),)
            yield Lesson(_asked(relation, entity), value, passage)
            asked = (_asked(another, entity), _asked(relation, other), _asked(another, other), _asked(another, other))
            yield Lesson(asked[number], NOT_KNOWN, passage)
        entity, value, *others = draw.sample(names, 6)
        relation = draw.choice(RELATIONS)
        told = [claim_text(draw, relation, entity, value) for _ in range(2)]
        told += [claim_text(draw, draw.choice(RELATIONS), *others[start : start + 2]) for start in (0, 2)]
        draw.shuffle(told)
        yield Lesson(_asked(relation, entity), value, tuple(told))
        kept = tuple(name.casefold() for name in others[: draw.choice([1, 1, 2])])
        yield Lesson(_asked(relation, entity), ", ".join(kept), keywords=kept)


def _asked(relation: str, entity: str) -> str:
    return f"What is the {relation} of {entity}?"
