"""MT-Bench: how well does a model answer two-turn questions, graded 1 to 10 by a judge?

Zheng et al. 2023 (arXiv 2306.05685, section 2.2: single-answer grading). In: one grade a question and turn. Out: the
mean over all turns, each turn's mean and each category's. A grade that could not be read is left out and counted. The
interval draws questions, not turns: two turns of one question belong together. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from glassworks.errors import OptionError
from glassworks.foundations.statistics import Estimate, Interval

NO_GRADE = -1.0  # how the public files write a judgment without a grade
_GRADE = (re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]"), re.compile(r"\[(\d+(?:\.\d+)?)\]"))


class Grade(NamedTuple):
    """A judge's grade of one turn (1 or 2) of a question; score: 1 to 10, None where it could not be read."""

    question: str
    turn: int
    score: float | None
    category: str = ""


class Grades(NamedTuple):
    """Means over all turns, a turn and a category, and how many grades could not be read."""

    mean: Estimate
    turns: dict[int, Estimate]
    categories: dict[str, Estimate]
    unreadable: int


def parse_grade(judgment: str) -> float | None:
    """The grade in a judge's text, [[n]] or else [n], with n in 1 to 10; None where there is none."""
    for pattern in _GRADE:
        if found := pattern.search(judgment):
            grade = float(found[1])
            return grade if 1 <= grade <= 10 else None
    return None


def summarise(grades: Sequence[Grade], *, resamples: int = 2000, seed: int = 0) -> Grades:
    """All means of a model's grades. Raises OptionError where no grade could be read."""
    known = [grade for grade in grades if grade.score is not None]
    if not known:
        raise OptionError("no grade could be read", place="judgments", remedy="Look at the judge's texts.")
    turns = sorted({grade.turn for grade in known})
    categories = sorted({grade.category for grade in known if grade.category})
    return Grades(
        mean_grade(known, resamples=resamples, seed=seed),
        {turn: mean_grade([g for g in known if g.turn == turn], resamples=resamples, seed=seed) for turn in turns},
        {
            name: mean_grade([g for g in known if g.category == name], resamples=resamples, seed=seed)
            for name in categories
        },
        len(grades) - len(known),
    )


def mean_grade(grades: Sequence[Grade], *, resamples: int, seed: int) -> Estimate:
    """Mean of the scores over turns with a percentile interval over resampled questions; n counts turns."""
    names = sorted({grade.question for grade in grades})
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    at = {name: place for place, name in enumerate(names)}
    for grade in grades:
        sums[at[grade.question]] += grade.score or 0.0
        counts[at[grade.question]] += 1
    value = float(sums.sum() / counts.sum())
    drawn = np.random.default_rng(seed).integers(0, len(names), size=(resamples, len(names)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return Estimate(value, Interval(float(low), float(high)), int(counts.sum()))
