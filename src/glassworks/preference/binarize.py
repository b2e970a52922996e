"""Verb `prefs binarize`: scored answers become pairs of a chosen and a rejected one.

Step 3 of on-policy preference data. Columns are the official ones: prompt, all_generated_responses, all_rm_scores,
chosen, rejected. Faults of the official script that are mended here: it writes over its input and never writes the
file it names (here train.jsonl and test.jsonl in a folder of their own); it makes no test split although the training
configurations ask for one (split by prompt); equal scores make the first answer both chosen and rejected (ties and
equal texts are never paired); answers cut at the limit of tokens are kept (dropped unless asked for).
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from datasets import Dataset

from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.foundations.data import file_sha, read_jsonl
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.rows import split_rows
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean
from glassworks.preference.annotations import write_lines
from glassworks.preference.sampling import conversation, prompt_text
from glassworks.report.figures import FIGURES_FOLDER, densities, save_figure

logger = logging.getLogger(__name__)

Strategy = Literal["best-worst", "best-random", "all"]
TRAIN, TEST, SAMPLES = "train.jsonl", "test.jsonl", "samples.jsonl"


class Pair(NamedTuple):
    """Positions of the chosen and the rejected answer among a prompt's answers."""

    chosen: int
    rejected: int


def prefs_binarize(
    scored: str,
    out: str = "runs/prefs-binarize",
    strategy: Strategy = "best-worst",
    min_gap: float = 0.0,
    keep_truncated: bool = False,
    held_out: float = 0.02,
    seed: int = 42,
) -> Run:
    """Make preference pairs of scored answers, with a split into training and test by prompt.

    Shell: glassworks prefs binarize runs/score/scored.jsonl --out runs/pairs

    Args:
        scored: The file scored.jsonl of `prefs score`, or rows with prompt, all_generated_responses, all_rm_scores.
        out: The run folder; the pairs are its files train.jsonl and test.jsonl.
        strategy: best-worst (official), best-random, or all pairs of a prompt.
        min_gap: Least difference of scores in a pair; equal scores are never paired.
        keep_truncated: Keep answers that were cut at the limit of tokens.
        held_out: Share of prompts in test.jsonl; 0: none.
        seed: Draws the split, and the rejected answer of best-random.
    """
    arguments = dict(locals())
    with Run.start(out, prefs_binarize, arguments) as run:
        if not 0 <= held_out < 1 or not 0 <= min_gap < float("inf"):
            place, value = ("min_gap", min_gap) if 0 <= held_out < 1 else ("held_out", held_out)
            raise OptionError(f"{value} is out of range", place=place, remedy="See --help.")
        rows = read_scored(scored)
        pairs, dropped = [], {"no pair": 0, "truncated answers": 0, "answers without score": 0}
        for number, row in enumerate(rows):
            usable = _usable(row, keep_truncated, dropped)
            found = choose_pairs(
                row["all_generated_responses"], row["all_rm_scores"], usable,
                strategy=strategy, min_gap=min_gap, seed=seed * 1_000_003 + number,
            )  # fmt: skip
            dropped["no pair"] += not found
            pairs += [_pair_row(row, pair) for pair in found]
        logger.info("%d pairs of %d prompts; left out: %s", len(pairs), len(rows), dropped)
        if not pairs:
            raise DataNotFound(f"no pair can be made ({dropped})", place=scored, remedy="Lower --min_gap.")
        train, test = split_by_prompt(pairs, held_out, seed)
        write_lines(run.path / TRAIN, train)
        write_lines(run.path / TEST, test)
        _record(run, pairs, len(rows), dropped, strategy, file_sha(scored))
    return run


def read_scored(source: str) -> list[dict[str, Any]]:
    """Rows of answers with as many scores; a score may be null. Raises MalformedRecord, naming the line."""
    lists = {"all_generated_responses": list, "all_rm_scores": list}
    rows = read_jsonl(source, ("prompt", *lists), types=lists)
    for number, row in enumerate(rows, start=1):
        answers, scores = row["all_generated_responses"], row["all_rm_scores"]
        if len(answers) != len(scores):
            raise MalformedRecord(f"{len(answers)} answers have {len(scores)} scores", place=f"{source}, row {number}")
        if not all(isinstance(one, str) for one in answers):
            raise MalformedRecord("an answer is no text", place=f"{source}, row {number}")
        if any(isinstance(one, bool) or not isinstance(one, int | float | None) for one in scores):
            raise MalformedRecord("a score is neither a number nor null", place=f"{source}, row {number}")
    return rows


def choose_pairs(
    responses: Sequence[str],
    scores: Sequence[float | None],
    usable: Sequence[int],
    *,
    strategy: Strategy = "best-worst",
    min_gap: float = 0.0,
    seed: int = 0,
) -> list[Pair]:
    """The pairs of one prompt: the chosen answer's score is above the rejected one's, by `min_gap` or more.

    usable: positions that may be paired. Answers of equal score or equal text are never paired.
    """
    known = [(float(value), at) for at in usable if (value := scores[at]) is not None]

    def is_pair(better: tuple[float, int], worse: tuple[float, int]) -> bool:
        gap = better[0] - worse[0]
        return gap > 0 and gap >= min_gap and responses[better[1]] != responses[worse[1]]

    ranked = sorted(known, key=lambda one: (-one[0], one[1]))
    if strategy == "all":
        return [Pair(a[1], b[1]) for i, a in enumerate(ranked) for b in ranked[i + 1 :] if is_pair(a, b)]
    below = [one for one in ranked[1:] if is_pair(ranked[0], one)]
    if not below:
        return []
    worse = below[-1] if strategy == "best-worst" else random.Random(seed).choice(below)
    return [Pair(ranked[0][1], worse[1])]


def split_by_prompt(
    rows: Sequence[dict[str, Any]], held_out: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and test rows; all pairs of a prompt are on one side, whatever the order of the rows."""
    if held_out == 0 or len({json.dumps(row["prompt"]) for row in rows}) < 2:
        return list(rows), []
    names = Dataset.from_dict({"prompt": [json.dumps(row["prompt"]) for row in rows], "at": list(range(len(rows)))})
    train, test = split_rows(names, held_out, key=("prompt",), seed=seed)
    return [rows[at] for at in train["at"]], [rows[at] for at in test["at"]]


def _usable(row: dict[str, Any], keep_truncated: bool, dropped: dict[str, int]) -> list[int]:
    """Positions of answers that are whole, not empty and scored; the others are counted."""
    answers, reasons = row["all_generated_responses"], row.get("all_finish_reasons")
    usable = []
    for at, score in enumerate(row["all_rm_scores"]):
        cut = not keep_truncated and isinstance(reasons, list) and at < len(reasons) and reasons[at] == "length"
        dropped["truncated answers"] += cut
        dropped["answers without score"] += score is None or not answers[at].strip()
        if not cut and score is not None and answers[at].strip():
            usable.append(at)
    return usable


def _pair_row(row: dict[str, Any], pair: Pair) -> dict[str, Any]:
    asked, answers = conversation(row["prompt"]), row["all_generated_responses"]
    chosen, rejected = ([*asked, {"role": "assistant", "content": answers[at]}] for at in pair)
    return {
        "prompt": row["prompt"],
        "all_generated_responses": answers,
        "all_rm_scores": row["all_rm_scores"],
        "chosen": chosen,
        "rejected": rejected,
        "score_chosen": row["all_rm_scores"][pair.chosen],
        "score_rejected": row["all_rm_scores"][pair.rejected],
    }


def _record(
    run: Run, pairs: Sequence[dict[str, Any]], prompts: int, dropped: dict[str, int], strategy: str, data: str
) -> None:
    gaps = [row["score_chosen"] - row["score_rejected"] for row in pairs]
    longer = [float(len(_last(row["chosen"]).split()) - len(_last(row["rejected"]).split())) for row in pairs]
    left = ", ".join(f"{count} {what}" for what, count in dropped.items())
    setting = f"{strategy}, {prompts} prompts; left out: {left}"
    run.record(Evidence("preference", "Preference pairs made", "pairs", float(len(pairs)), "pairs", "higher",
                        n=prompts, setting=setting, data_sha=data, artefact=TRAIN))  # fmt: skip
    for metric, claim, values, unit in (
        ("pair_gap", "Score of the chosen answer above the rejected one's", gaps, ""),
        ("length_bias", "Words by which the chosen answer is longer", longer, "words"),
    ):
        one = bootstrap_mean(values)
        ends = (one.interval.low, one.interval.high) if one.n > 1 else None
        run.record(Evidence("preference", claim, metric, one.value, unit, "none", ends, one.n, setting=setting,
                            data_sha=data, artefact=TRAIN))  # fmt: skip
    sides = {name: [float(row[f"score_{name}"]) for row in pairs] for name in ("chosen", "rejected")}
    save_figure(
        densities(sides, x_label="score"), run.path / FIGURES_FOLDER / "scores.svg",
        caption=f"Scores of chosen and rejected answers in {len(pairs)} pairs.",
        alt="; ".join(f"{name}: mean {sum(values) / len(values):.3g}" for name, values in sides.items()) + ".",
    )  # fmt: skip
    samples = [
        {"question": prompt_text(row["prompt"]), "answer": _last(row["chosen"]), "rejected": _last(row["rejected"]),
         "scores": [row["score_chosen"], row["score_rejected"]]}
        for row in pairs[:40]
    ]  # fmt: skip
    write_lines(run.path / SAMPLES, samples)


def _last(messages: Sequence[dict[str, str]]) -> str:
    return messages[-1]["content"]
