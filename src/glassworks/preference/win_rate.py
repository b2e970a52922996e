"""Verbs `winrate alpaca`, `winrate arena` and `winrate mt-bench`: what a judge thinks of a model's answers.

Each reads the benchmark's public files: judged ones are scored anew offline, answers are judged first, by a local
model, a server or recorded judgments. Each writes the same public format back, `samples.jsonl`, a figure, and evidence
with n and an interval. The statistics are pure functions of `alpaca_eval`, `arena_hard` and `mt_bench`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from glassworks.errors import MalformedRecord, OptionError
from glassworks.foundations.data import file_sha
from glassworks.foundations.runs import Run
from glassworks.preference import alpaca_eval, arena_hard
from glassworks.preference.annotations import (
    Row,
    first_row,
    is_annotated,
    pair_outputs,
    question_id,
    read_alpaca_annotations,
    read_answers,
    read_arena_judgments,
    read_difficulty,
    read_grades,
    read_questions,
    style_of_answer,
    verdicts,
    write_alpaca_annotations,
    write_lines,
)
from glassworks.preference.judges import JudgeOptions, open_judge
from glassworks.preference.judging import judge_alpaca, judge_arena, judge_mt_bench
from glassworks.preference.win_claims import (
    SAMPLES,
    SHOWN,
    game_sample,
    grade_sample,
    record_alpaca,
    record_arena,
    record_grades,
    save_forest,
)
from glassworks.report.figures import Point

logger = logging.getLogger(__name__)

JUDGMENTS = "judgments.jsonl"
OUTPUTS = ("output_1", "output_2")


def winrate_alpaca(
    source: str,
    out: str = "runs/winrate-alpaca",
    baseline: str | None = None,
    judge: JudgeOptions = JudgeOptions(),
    length_control: alpaca_eval.LengthControl = "minimal",
    difficulty: str | None = None,
) -> Run:
    """Measure a win rate as AlpacaEval 2 does: raw, discrete and length-controlled, with standard errors.

    Shell: glassworks winrate alpaca annotations.json --length_control v1 --difficulty df_gamed.csv

    Args:
        source: Judged annotations.json, scored anew; or the model's model_outputs.json, judged against --baseline.
        out: The run folder: annotations.json, figures, samples and evidence.
        baseline: The baseline's model_outputs.json; needed where the source is not judged yet.
        judge: Who judges, and how.
        length_control: v1 (official, needs df_gamed.csv), noreg, minimal (no difficulty), or mle (no penalty).
        difficulty: File df_gamed.csv, or instruction_difficulty.csv for noreg and mle.
    """
    arguments = dict(locals())
    with Run.start(out, winrate_alpaca, arguments) as run:
        judged = is_annotated(source)
        if not judged and baseline is None:
            raise OptionError("these outputs are not judged yet", place="baseline", remedy="Give the baseline's file.")
        rows = read_alpaca_annotations(source) if judged else pair_outputs(source, str(baseline))
        hard, gamed = read_difficulty(difficulty, rows) if difficulty else (None, None)
        # A wrong combination is refused before anything is judged.
        alpaca_eval.check_kind(length_control, hard, gamed)
        if not judged:
            rows = judge_alpaca(open_judge(judge, run.path / JUDGMENTS), rows, judge)
            write_alpaca_annotations(run.path / "annotations.json", rows)
        stored = np.array([float("nan") if row.get("preference") is None else row["preference"] for row in rows], float)
        p = alpaca_eval.win_probabilities(stored)
        length = alpaca_eval.length_feature(*(np.array([len(row[key]) for row in rows]) for key in OUTPUTS))
        common: dict[str, Any] = {"kind": length_control, "gamed": gamed}
        controlled = alpaca_eval.length_controlled(p, length, hard, **common)
        interval = alpaca_eval.length_controlled_interval(p, length, hard, penalty=controlled.penalty, **common)
        record_alpaca(run, rows, p, controlled, interval, _inputs(source, baseline), length_control)
    return run


@dataclass(frozen=True)
class ArenaScoring:
    """How games become a win rate.

    Args:
        version: 0.1 has 95 % intervals and counts a prompt with one verdict; 2.0 has 90 % and leaves it out.
        style: Features held equal by style control (length, header, list, bold); none: no style control.
        resample: The bootstrap draws battles, as the official code does, or prompts, which is wider and honest.
        seed: Draws the bootstrap.
    """

    version: Literal["v0.1", "v2.0"] = "v2.0"
    style: tuple[Literal["length", "header", "list", "bold"], ...] = ()
    resample: arena_hard.Resample = "battles"
    seed: int = arena_hard.SEED

    @property
    def level(self) -> float:
        """The level of the interval."""
        return 0.95 if self.version == "v0.1" else 0.9

    @property
    def whole(self) -> bool:
        """Whether a prompt counts only with both verdicts."""
        return self.version == "v2.0"

    @property
    def setting(self) -> str:
        """What evidence says of it."""
        return f"Arena-Hard {self.version}, {self.level:.0%} interval, {arena_hard.ROUNDS} rounds over {self.resample}"


def winrate_arena(
    source: str,
    out: str = "runs/winrate-arena",
    baseline: str | None = None,
    questions: str | None = None,
    judge: JudgeOptions = JudgeOptions(),
    scoring: ArenaScoring = ArenaScoring(),
    answers: tuple[str, ...] = (),
) -> Run:
    """Measure a win rate as Arena-Hard does: two games a prompt, Bradley-Terry, bootstrap, style control.

    Shell: glassworks winrate arena judgments.jsonl --scoring.version v0.1

    Args:
        source: Judgments, a JSONL file or a folder of them, scored anew; or a model's answers, judged first.
        out: The run folder: judgment.jsonl, figures, samples and evidence.
        baseline: The baseline's answers; needed to judge and for style control.
        questions: Questions, JSONL; needed to judge.
        judge: Who judges, and how.
        scoring: How games become a win rate.
        answers: Answer files of the judged models, needed for style control of judgments.
    """
    arguments = dict(locals())
    with Run.start(out, winrate_arena, arguments) as run:
        is_judged = "games" in first_row(source)
        if scoring.style and (baseline is None or (is_judged and not answers)):
            name = "answers" if baseline else "baseline"
            raise OptionError("style control reads the answers of both sides", place=name, remedy="Give the file.")
        theirs = read_answers(baseline) if baseline else {}
        ours = [read_answers(file) for file in (answers if is_judged else (source,))]
        if is_judged:
            rows = read_arena_judgments(source)
        else:
            rows = _judge_arena_answers(run, ours[0], theirs, source, questions, judge)
        scores = {}
        for name in sorted({row["model"] for row in rows}):
            own = [verdicts(row) for row in rows if row["model"] == name]
            games = arena_hard.battles(own, whole=scoring.whole)
            scores[name] = arena_hard.arena_score(
                games, level=scoring.level, seed=scoring.seed, resample=scoring.resample
            )
            _tell_unparsable(name, 2 * len(own), len(games.score))
        data = _inputs(source, baseline, questions)
        record_arena(run, scores, scoring.setting, scoring.seed, data)
        if scoring.style:
            controlled, weights = _style_control(rows, ours, theirs, scoring)
            run.log(step=0, **{f"style_weight_{name}": weight for name, weight in weights.items()})
            held = f"{scoring.setting.replace('95%', '90%')}, held equal: {', '.join(scoring.style)}"
            record_arena(run, controlled, held, scoring.seed, data, "style_controlled_")
        write_lines(run.path / SAMPLES, [game_sample(row) for row in rows[:SHOWN]])
    return run


def winrate_mt_bench(
    source: str,
    out: str = "runs/winrate-mt-bench",
    questions: str | None = None,
    references: str | None = None,
    judge: JudgeOptions = JudgeOptions(),
    seed: int = 0,
) -> Run:
    """Measure the mean grade of two-turn answers as MT-Bench does, in all, by turn and by category.

    Shell: glassworks winrate mt-bench model_judgment/gpt-4_single.jsonl --questions question.jsonl

    Args:
        source: Judgments, scored anew; or a model's answers, graded first.
        out: The run folder: judgment.jsonl, figures, samples and evidence.
        questions: Questions, JSONL; needed to grade, and for the means by category.
        references: Reference answers to mathematics, reasoning and coding questions, JSONL.
        judge: Who grades, and how.
        seed: Draws the bootstrap.
    """
    arguments = dict(locals())
    with Run.start(out, winrate_mt_bench, arguments) as run:
        asked = read_questions(questions) if questions else {}
        if "score" in first_row(source):
            rows = read_grades(source)
        else:
            if not asked:
                raise OptionError("answers are graded with their questions", place="questions", remedy="Give the file.")
            gold = {key: row["texts"] for key, row in read_answers(references).items()} if references else {}
            answers = read_answers(source)
            _check_known(answers, asked, source, "questions")
            _check_turns(answers, asked, source)
            rows = judge_mt_bench(open_judge(judge, run.path / JUDGMENTS), answers, asked, gold, judge)
            write_lines(run.path / "judgment.jsonl", rows)
        points: list[Point] = []
        for name in sorted({row["model"] for row in rows}):
            own = [row for row in rows if row["model"] == name]
            points += record_grades(run, name, own, asked, seed, _inputs(source, questions, references))
        write_lines(run.path / SAMPLES, [grade_sample(row, asked) for row in rows[:SHOWN]])
        save_forest(run, "grades", points, "mean grade, 1 to 10", "Mean grades by turn and category; 95 % intervals.")
    return run


def _check_known(answers: Mapping[str, Row], known: Mapping[str, Row], source: str, where: str) -> None:
    if unknown := [key for key in answers if key not in known]:
        raise MalformedRecord(f"answers question {unknown[0]}, which is not in the {where}", place=source)


def _check_turns(answers: Mapping[str, Row], asked: Mapping[str, Row], source: str) -> None:
    for key, row in answers.items():
        if len(row["texts"]) > len(asked[key]["turns"]):
            problem = f"question {key} has {len(asked[key]['turns'])} turns, but {len(row['texts'])} answers"
            raise MalformedRecord(problem, place=source)


def _judge_arena_answers(
    run: Run,
    ours: Mapping[str, Row],
    theirs: Mapping[str, Row],
    source: str,
    questions: str | None,
    judge: JudgeOptions,
) -> list[Row]:
    if questions is None or not theirs:
        name = "baseline" if questions else "questions"
        raise OptionError("answers are judged beside the baseline's, with their questions", place=name,
                          remedy="Give --baseline and --questions, or judged games.")  # fmt: skip
    asked = read_questions(questions)
    _check_known(ours, asked, source, "questions")
    _check_known(ours, theirs, source, "baseline's answers")
    rows = judge_arena(open_judge(judge, run.path / JUDGMENTS), ours, theirs, asked, judge)
    write_lines(run.path / "judgment.jsonl", rows)
    return rows


def _inputs(*files: str | None) -> str:
    """The hashes of the files that figures rest on, side by side."""
    return "-".join(file_sha(file)[:8] for file in files if file)


def _style_control(
    rows: Sequence[Row], ours: Sequence[Mapping[str, Row]], theirs: Mapping[str, Row], options: ArenaScoring
) -> tuple[dict[str, arena_hard.ArenaScore], Mapping[str, float]]:
    """Style-controlled scores of all models together, from the games and both sides' answers."""
    answers = {(row["model"], key): row for file in ours for key, row in file.items()}
    games = arena_hard.battles([verdicts(row) for row in rows], whole=options.whole)
    models = [rows[at]["model"] for at in games.prompt]
    sides = []
    for at in games.prompt:
        key = (rows[at]["model"], question_id(rows[at]))
        if key not in answers or key[1] not in theirs:
            problem = f"there is no answer of {key[0]} to question {key[1]}, or none of the baseline"
            raise MalformedRecord(problem, place="answers", remedy="Style control needs the answer to every game.")
        sides.append((style_of_answer(answers[key]), style_of_answer(theirs[key[1]])))
    styles = arena_hard.style_differences([side[0] for side in sides], [side[1] for side in sides])
    return arena_hard.style_controlled(
        models, games, styles, features=options.style, seed=options.seed, resample=options.resample
    )


def _tell_unparsable(name: str, played: int, counted: int) -> None:
    if counted < played:
        logger.warning("%s: %d of %d games have no verdict and are left out", name, played - counted, played)
