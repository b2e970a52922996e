"""The made-up world: unique answers, the asked-for mixture, and everything from the seed."""

from glassworks.robustness.synthetic import synthetic_questions


def test_answers_are_unique_and_the_mixture_is_as_asked() -> None:
    questions = synthetic_questions(300)
    assert len({q.answers[0] for q in questions} | {q.target for q in questions}) == 600
    gold = sum(q.answers[0] in p.text for q in questions for p in q.passages) / 3000
    told = sum(q.text.split(" of ")[-1].rstrip("?") in p.text for q in questions for p in q.passages) / 3000
    assert abs(gold - 0.6) < 0.04
    assert abs(told - 0.8) < 0.04
    assert not any(q.target in p.text for q in questions for p in q.passages)


def test_the_seed_decides() -> None:
    assert synthetic_questions(5) == synthetic_questions(5)
    assert synthetic_questions(5) != synthetic_questions(5, seed=1)


def test_more_questions_than_names_ask_anew() -> None:
    questions = synthetic_questions(2100, k=1)
    assert questions[:3] == synthetic_questions(3, k=1)
    assert len({question.answers for question in questions[:2000]}) == 2000
    assert len({question.text for question in questions}) == 2100
