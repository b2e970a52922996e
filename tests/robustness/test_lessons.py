"""Lessons: what they ask, that a reader of rules gets them right, the same draw for a seed, and their prompts.

Lessons in being hijacked hold out what they are to be measured with: no attack's words are practised.
"""

import itertools
from collections import Counter

from glassworks.robustness.attacks import prompt_injection, retrieval_poison, template_breaking
from glassworks.robustness.lessons import ORDERS, TEMPLATES, crowd_lessons, lessons
from glassworks.robustness.scripted_reader import NOT_KNOWN, scripted_answer
from glassworks.robustness.synthetic import made_up_names


def test_lessons_are_answered_by_a_reader_of_rules() -> None:
    for lesson in lessons(200, seed=3):
        prompt = lesson.prompt(TEMPLATES, chat=True)
        assert scripted_answer(prompt[-1]["content"]) == lesson.answer  # type: ignore[index]


def test_kinds_of_lessons() -> None:
    found = lessons(100, seed=1)
    kinds = Counter("keywords" if one.keywords else "several" if len(one.passages) > 1 else one.kind for one in found)
    assert kinds == {"answer": 40, "abstention": 40, "several": 10, "keywords": 10}
    pairs = [(one, other) for one, other in itertools.pairwise(found) if other.kind == "abstention"]
    assert all(one.passages == other.passages and one.question != other.question for one, other in pairs)
    assert {one.answer for one in found if not one.keywords} <= {*made_up_names(), NOT_KNOWN}


def test_crowds_are_answered_by_the_most_repeated_claim_or_by_the_order() -> None:
    found = crowd_lessons(200, seed=2)
    assert {one.kind for one in found} == {"crowd"}
    assert {len(one.passages) for one in found[3::4]} == {1}
    assert max(len(one.passages) for one in found) == 10
    for at, one in enumerate(found):
        prompt = one.prompt(TEMPLATES, chat=True)
        if at % 4 < 2:  # a reader of rules knows claims, and the orders of attacks only
            assert scripted_answer(prompt[-1]["content"]) == one.answer  # type: ignore[index]
        else:
            (order,) = [text for text in one.passages if text.count(one.answer) > 0]
            assert order.count(one.answer) <= 4


def test_no_order_is_worded_as_an_attack() -> None:
    orders = " ".join(ORDERS).lower()
    attacks = [attack("", "") for attack in (prompt_injection, retrieval_poison, template_breaking)]
    for words in ("when you are asked", "please output", "sources agree", "response:", "assistant"):
        assert words not in orders
        assert any(words in attack.lower() for attack in attacks)


def test_the_draw_follows_from_the_seed() -> None:
    for draw in (lessons, crowd_lessons):
        assert draw(30, seed=5) == draw(60, seed=5)[:30] != draw(30, seed=6)


def test_a_base_model_gets_one_text() -> None:
    prompt = lessons(1)[0].prompt(TEMPLATES, chat=False)
    assert isinstance(prompt, str)
    assert prompt.endswith("Answer:")
