"""What the win-rate verbs write of a result: evidence with n and an interval, a forest plot, samples for the report.

In: the figures of `alpaca_eval`, `arena_hard` and `mt_bench` with the rows they rest on. Out: claims in a run. Knows
no judge and no file format.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from glassworks.foundations.evidence import Evidence
from glassworks.foundations.runs import Run
from glassworks.preference import alpaca_eval, arena_hard, mt_bench
from glassworks.preference.annotations import Row, question_id, verdicts, write_lines
from glassworks.report.figures import FIGURES_FOLDER, Point, forest, save_figure

logger = logging.getLogger(__name__)

SYSTEM = "preference"
SAMPLES = "samples.jsonl"
SHOWN = 40  # samples kept for the report


def record_alpaca(
    run: Run,
    rows: Sequence[Row],
    p: alpaca_eval.Floats,
    controlled: alpaca_eval.LengthControlled,
    interval: tuple[float, float],
    kind: str,
    data: str,
) -> None:
    """The three win rates of AlpacaEval, their figure and samples."""
    model, baseline = (str(rows[0].get(f"generator_{side}") or f"output_{side}") for side in (2, 1))
    annotator = f"{rows[0].get('annotator') or 'an unnamed judge'} judged {model} against {baseline}"
    raw, discrete = alpaca_eval.raw_win_rate(p), alpaca_eval.discrete_win_rate(p)
    if missing := int(np.isnan(p).sum()):
        logger.warning("%d of %d comparisons have no preference and are left out", missing, len(p))
    if alpaca_eval.is_extreme(raw.value, controlled.rate.value):
        logger.warning(
            "length control moved %.1f %% to %.1f %%: the fit may have failed", raw.value, controlled.rate.value
        )
    weights = {f"weight_{name}": weight for name, weight in controlled.weights.items()}
    errors = {"win_rate": raw.standard_error, "length_controlled": controlled.rate.standard_error}
    run.log(step=0, **{f"{name}_standard_error": error for name, error in errors.items()}, **weights)
    figures = [
        ("win_rate", "Comparisons that the model wins", raw.value, raw.interval, raw.n, annotator),
        ("discrete_win_rate", "Comparisons that the model wins, each counted as won, lost or half", discrete.value,
         discrete.interval, discrete.n, annotator),
    ]  # fmt: skip
    if any(controlled.weights.values()):
        figures.append(
            ("length_controlled_win_rate", "Comparisons that the model would win at equal length",
             controlled.rate.value, interval, controlled.rate.n,
             f"{annotator}; {kind}, interval by bootstrap over comparisons")
        )  # fmt: skip
    else:  # the prediction is 50 % then, whatever was judged
        logger.warning("no rate at equal length: on %d comparisons the penalty left no weight to predict with", raw.n)
    lines = [_win_claim(*figure, data) for figure in figures]
    run.record(*lines)
    points = [_point(line.metric.replace("_", " "), line) for line in lines]
    save_forest(run, "win_rate", points, "win rate, %", f"{annotator}; 95 % intervals.", middle=50.0)
    samples = [
        {"question": row.get("instruction", ""), "answer": row["output_2"], "baseline": row["output_1"],
         "correct": None if np.isnan(chance) else bool(chance > 0.5),
         "win probability": None if np.isnan(chance) else float(chance)}
        for row, chance in zip(rows[:SHOWN], p, strict=False)
    ]  # fmt: skip
    write_lines(run.path / SAMPLES, samples)


def _win_claim(
    metric: str, claim: str, value: float, interval: tuple[float, float], n: int, setting: str, data: str
) -> Evidence:
    low, high = min(interval[0], value), max(interval[1], value)
    return Evidence(SYSTEM, claim, metric, value, "%", "higher", (low, high), n, 50.0, setting, data_sha=data,
                    artefact=SAMPLES)  # fmt: skip


def record_arena(
    run: Run,
    scores: Mapping[str, arena_hard.ArenaScore],
    setting: str,
    seed: int,
    data: str,
    prefix: str = "",
) -> None:
    """Win rate and rating of each model against the baseline, and their figure."""
    points = []
    for name, score in scores.items():
        low, high = (100 * end for end in score.interval)
        claim = f"Games that {name} wins against the baseline" + (" at equal style" if prefix else "")
        one = _win_claim(
            f"{prefix}arena_win_rate", claim, 100 * score.win_rate, (low, high), score.games, setting, data
        )
        run.record(replace(one, seed=seed))
        if score.rating is not None:
            elo = f"Rating of {name} on the Elo scale, baseline 1000" + (" at equal style" if prefix else "")
            run.record(Evidence(SYSTEM, elo, f"{prefix}arena_rating", score.rating, "Elo", "higher", n=score.games,
                                baseline=1000.0, setting=setting, seed=seed, data_sha=data))  # fmt: skip
        points.append(_point(name, one))
    save_forest(run, f"{prefix}win_rate", points, "games won, %", f"{setting}.", middle=50.0)


def game_sample(row: Row) -> Row:
    """A judged prompt as the report shows it."""
    told = " and ".join(str(verdict) for verdict in verdicts(row))
    return {"question": f"question {question_id(row)}", "answer": f"{row['model']}: {told}",
            "judgments": [str((game or {}).get("judgment", ""))[:400] for game in row["games"]]}  # fmt: skip


def record_grades(
    run: Run, name: str, rows: Sequence[Row], asked: Mapping[str, Row], seed: int, data: str
) -> list[Point]:
    """A model's mean grades; returns the points of their figure."""
    grades = []
    for row in rows:
        key, score = question_id(row), float(row["score"])
        category = str(asked.get(key, {}).get("category", ""))
        grades.append(mt_bench.Grade(key, int(row["turn"]), None if score == mt_bench.NO_GRADE else score, category))
    found = mt_bench.summarise(grades, seed=seed)
    if found.unreadable:
        logger.warning("%s: %d of %d grades could not be read and are left out", name, found.unreadable, len(grades))
    groups = [("all turns", "mt_bench_grade", found.mean)]
    groups += [(f"turn {turn}", f"mt_bench_grade_turn_{turn}", one) for turn, one in found.turns.items()]
    groups += [(kind, f"mt_bench_grade_{kind}", one) for kind, one in found.categories.items()]
    setting = f"judged by {rows[0].get('judge') or 'an unnamed judge'}; interval by bootstrap over questions"
    points = []
    for label, metric, one in groups:
        claim = Evidence(
            SYSTEM, f"Mean grade of {name}, {label}", metric, one.value, "of 10", "higher",
            (one.interval.low, one.interval.high), one.n, setting=setting, seed=seed, data_sha=data, artefact=SAMPLES,
        )  # fmt: skip
        run.record(claim)
        points.append(_point(f"{name}, {label}", claim))
    return points


def _point(label: str, claim: Evidence) -> Point:
    low, high = claim.interval or (None, None)
    return Point(label, claim.value, low, high, claim.n)


def grade_sample(row: Row, asked: Mapping[str, Row]) -> Row:
    """A graded turn as the report shows it."""
    key, turn = question_id(row), int(row["turn"])
    turns = asked.get(key, {}).get("turns", [])
    question = turns[turn - 1] if turn <= len(turns) else f"question {key}, turn {turn}"
    return {"question": question, "answer": row.get("judgment", ""), "model": row["model"], "grade": row["score"]}


def save_forest(
    run: Run, name: str, points: Sequence[Point], label: str, caption: str, middle: float | None = None
) -> None:
    """Write a forest plot whose alt text names every point."""
    figure = forest(points, x_label=label, baseline=middle, baseline_label="equal")
    alt = "; ".join(f"{point.label}: {point.value:.3g}" for point in points) + "."
    save_figure(figure, run.path / FIGURES_FOLDER / f"{name}.svg", caption=caption, alt=alt)
