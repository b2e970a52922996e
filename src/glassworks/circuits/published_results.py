"""The result files that were published with the Heuristic Core, read so that their figures can be checked and redrawn.

Which heads a subnetwork has was published as a figure only: a PDF whose cells say how many heads are in i subnetworks
of one sparsity and j of another (the core is the last cell). Accuracies are JSON: seed -> step -> sparsity -> case,
and step -> case for the whole model. Files are a user's own copies. Computes nothing but effective sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pypdf import PdfReader
from pypdf.errors import PyPdfError
from torch import Tensor

from glassworks.circuits.heuristic_core import MARGIN, EffectiveSize, mean_effective_size
from glassworks.errors import DataNotFound, MalformedRecord

Steps = dict[int, dict[str, float]]
Grid = dict[str, dict[int, dict[float, dict[str, float]]]]
"""Seed -> training step -> sparsity in per cent -> case -> accuracy."""


class _Word(NamedTuple):
    """A text of a figure and where it stands, in points."""

    text: str
    x: float
    y: float


def read_joint_figure(path: str | Path) -> Tensor:
    """How many heads are in i subnetworks of the vertical axis and j of the horizontal one, int64 [K1 + 1, K2 + 1].

    path: PDF of a heat map whose columns are numbered 0 to K2 below it; empty cells are 0. Raises DataNotFound,
    MalformedRecord.
    """
    words = _words(Path(path))
    columns = _columns(words, path)
    pitch = (columns[-1] - columns[0]) / (len(columns) - 1)
    inside = [
        word
        for word in words
        if word.y > _axis(words) + 1 and columns[0] - pitch / 2 < word.x < columns[-1] + pitch / 2
    ]
    heights = sorted({round(word.y, 1) for word in inside})
    if len(heights) != len(columns):
        raise MalformedRecord(
            f"has {len(heights)} rows of numbers and {len(columns)} columns, expected equal numbers", place=str(path)
        )
    table = torch.zeros(len(heights), len(columns), dtype=torch.long)
    for word in inside:
        column = min(range(len(columns)), key=lambda at: abs(columns[at] - word.x))
        table[heights.index(round(word.y, 1)), column] = int(word.text)
    return table


def read_grid(path: str | Path) -> Grid:
    """Accuracies by seed, training step, sparsity and case. Raises DataNotFound, MalformedRecord."""
    content = _json(path)
    try:
        return {
            str(seed): {
                int(step): {float(sparsity): _numbers(cases) for sparsity, cases in rows.items()}
                for step, rows in steps.items()
            }
            for seed, steps in content.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise MalformedRecord("expected seed -> step -> sparsity -> case -> accuracy", place=str(path)) from None


def read_steps(path: str | Path) -> Steps:
    """Accuracies of the whole model by training step and case. Raises DataNotFound, MalformedRecord."""
    content = _json(path)
    try:
        return {int(step): _numbers(cases) for step, cases in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise MalformedRecord("expected step -> case -> accuracy", place=str(path)) from None


def effective_sizes_of(
    grid: Grid, whole: Steps, cases: tuple[str, ...], margin: float = MARGIN
) -> dict[int, EffectiveSize]:
    """Effective size at each step that all files have: of each seed, by its mean accuracy over `cases`; then the mean.

    Raises MalformedRecord where a row lacks one of the cases.
    """
    steps = set(whole).intersection(*grid.values())
    return {
        step: mean_effective_size(
            _mean(whole[step], cases),
            [{sparsity: _mean(row, cases) for sparsity, row in rows[step].items()} for rows in grid.values()],
            margin,
        )
        for step in sorted(steps)
    }


def _mean(row: Mapping[str, float], cases: tuple[str, ...]) -> float:
    missing = [case for case in cases if case not in row]
    if missing:
        raise MalformedRecord(f"a row has {sorted(row)} and lacks {missing}", place="case")
    return sum(row[case] for case in cases) / len(cases)


def _numbers(cases: Mapping[str, Any]) -> dict[str, float]:
    return {str(case): float(value) for case, value in cases.items()}


def _json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"no result file ({error.strerror})", place=str(path)) from None
    except json.JSONDecodeError as error:
        raise MalformedRecord(f"not valid JSON ({error.msg})", place=str(path)) from None


def _words(path: Path) -> list[_Word]:
    """The whole numbers on the first page, each at its middle: texts are centred, so longer ones begin further left."""
    found: list[_Word] = []

    def note(text: str, user: list[float], line: list[float], _font: Any, size: float) -> None:
        turned = abs(user[1]) > 1e-6 or abs(line[1]) > 1e-6  # as labels of the vertical axis are
        if text.strip().isdigit() and not turned:
            # A digit of matplotlib's sans is about 0.64 of the font's size.
            middle = line[4] + 0.32 * size * len(text.strip())
            found.append(_Word(text.strip(), user[0] * middle + user[4], user[3] * line[5] + user[5]))

    try:
        PdfReader(path).pages[0].extract_text(visitor_text=note)
    except OSError as error:
        raise DataNotFound(f"no figure ({error.strerror})", place=str(path)) from None
    except (PyPdfError, IndexError) as error:
        raise MalformedRecord(f"is no PDF with a page ({error})", place=str(path)) from None
    if not found:
        raise MalformedRecord("has no numbers", place=str(path))
    return found


def _axis(words: list[_Word]) -> float:
    """The height of the lowest row of numbers, which counts the columns."""
    return min(word.y for word in words)


def _columns(words: list[_Word], path: str | Path) -> list[float]:
    row = [word for word in words if abs(word.y - _axis(words)) < 1]
    numbered = {int(word.text): word.x for word in row}
    if len(numbered) < 2 or sorted(numbered) != list(range(len(numbered))):
        raise MalformedRecord("has no columns that are numbered from 0", place=str(path))
    return [numbered[at] for at in range(len(numbered))]
