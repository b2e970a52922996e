"""Lessons: what they ask, that a reader of rules gets them right, the same draw for a seed, and their prompts."""

import itertools
from collections import Counter

from glassworks.robustness.lessons import TEMPLATES, lessons
from glassworks.robustness.scripted_reader import NOT_KNOWN, scripted_answer
from glassworks.robustness.synthetic import made_up_names


def test_lessons_are_answered_by_a_reader_of_rules() -> None:
    for lesson in lessons(200, seed=3):
        prompt = lesson.prompt(TEMPLATES, chat=True)
        assert scripted_answer(prompt[-1]["content"]) == lesson.answer  # type: ignore[index]


def test_kinds_of_lessons() -> None:
    found = lessons(100, seed=1)
    kinds = Counter(
        "keywords" if one.keywords else "several" if len(one.passages) > 1 else "none" if one.abstains else "one"
        for one in found
    )
    assert kinds == {"one": 40, "none": 40, "several": 10, "keywords": 10}
    pairs = [(one, other) for one, other in itertools.pairwise(found) if other.abstains]
    assert all(one.passages == other.passages and one.question != other.question for one, other in pairs)
    assert {one.answer for one in found if not one.keywords} <= {*made_up_names(), NOT_KNOWN}


def test_the_draw_follows_from_the_seed() -> None:
    assert lessons(30, seed=5) == lessons(60, seed=5)[:30] != lessons(30, seed=6)


def test_a_base_model_gets_one_text() -> None:
    prompt = lessons(1)[0].prompt(TEMPLATES, chat=False)
    assert isinstance(prompt, str)
    assert prompt.endswith("Answer:")
