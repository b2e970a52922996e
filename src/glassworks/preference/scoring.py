"""Verb `prefs score`: a score for each answer that `prefs sample` drew.

Step 2 of on-policy preference data. In: rows of {prompt, all_generated_responses}. Out: the same rows with
all_rm_scores, the official column, in scored.jsonl. Unlike the official script, which scores one answer at a time and
writes over its own input's name, answers are scored in batches by length, in calls that a killed run need not repeat.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from glassworks.errors import MalformedRecord, NotAModel
from glassworks.foundations.checkpoints import read_config
from glassworks.foundations.data import file_sha, read_jsonl
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.ledger import Ledger, entry_key
from glassworks.foundations.models import load_model, load_tokenizer, model_sha, resolve_model
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean, proportion
from glassworks.preference.annotations import write_lines
from glassworks.preference.judges import JudgeOptions, open_judge, read_template
from glassworks.preference.judging import GRADE_TEMPLATE, PAIR_TEMPLATE
from glassworks.preference.sampling import conversation, prompt_text
from glassworks.preference.scorers import (
    ClassifierScorer,
    FunctionScorer,
    GradeScorer,
    Kind,
    PairwiseScorer,
    Scorer,
    Scores,
    refuse_unscored,
)

logger = logging.getLogger(__name__)

SCORED, LEDGER, JUDGMENTS, SAMPLES = "scored.jsonl", "scores.jsonl", "judgments.jsonl", "samples.jsonl"
CALL_PROMPTS = 32  # prompts scored in one call


def prefs_score(
    responses: str,
    scorer: str,
    out: str = "runs/prefs-score",
    kind: Kind = "classifier",
    judge: JudgeOptions = JudgeOptions(),
    max_batch_tokens: int = 8192,
    device: str = "auto",
    dtype: str = "auto",
) -> Run:
    """Score answers by a reward model, a pairwise ranker, a grading judge or a Python function.

    Shell: glassworks prefs score runs/sample/responses.jsonl my_rewards:brevity --kind function

    Args:
        responses: The file responses.jsonl of `prefs sample`, or rows with prompt and all_generated_responses.
        scorer: A model, a server http://host:port/v1#name (judge and pairwise), or package.module:function.
        out: The run folder; the scores are in its file scored.jsonl.
        kind: What the scorer is: a sequence classifier, a pairwise ranker, a grading judge or a function.
        judge: Template, length and temperature of a judge's words; its model is the scorer.
        max_batch_tokens: Tokens in one batch of a classifier, padding included.
        device: Where a local scorer runs: auto, cpu or cuda.
        dtype: Precision of its weights: auto, float32, bfloat16 or float16.
    """
    arguments = dict(locals())
    with Run.start(out, prefs_score, arguments) as run:
        rows = read_responses(responses)
        if kind == "classifier":
            check_reward_model(scorer)
        opened = _open(kind, scorer, judge, run.path / JUDGMENTS, max_batch_tokens, device, dtype)
        known = model_sha(scorer) if kind != "function" and "://" not in scorer and ":" not in scorer else ""
        scores = score_all(opened, rows, Ledger(run.path / LEDGER), fingerprint=f"{kind} {known}")
        refuse_unscored(scores, scorer)
        write_lines(run.path / SCORED, [{**row, "all_rm_scores": few} for row, few in zip(rows, scores, strict=True)])
        _record(run, rows, scores, f"{kind} {opened.name}", file_sha(responses), known)
    return run


def check_reward_model(model: str) -> None:
    """Refuse a checkpoint without a classification head: one made at random would score at random."""
    path = resolve_model(model)
    made = (read_config(path).get("architectures") or [""])[0] if isinstance(path, Path) and path.is_dir() else None
    if made is not None and not made.endswith("ForSequenceClassification"):
        problem = f"is a {made or 'model of unknown class'}, not a reward model"
        raise NotAModel(problem, place=model, remedy="Use --kind judge or pairwise for a language model.")


def read_responses(source: str) -> list[dict[str, Any]]:
    """Rows with a prompt (text or conversation) and a list of texts. Raises MalformedRecord, naming the row."""
    rows = read_jsonl(source, ("prompt", "all_generated_responses"), types={"all_generated_responses": list})
    for number, row in enumerate(rows, start=1):
        answers = row["all_generated_responses"]
        if len(answers) < 2 or not all(isinstance(one, str) for one in answers):
            raise MalformedRecord(
                "expected at least two texts in 'all_generated_responses'", place=f"{source}, row {number}"
            )
    if not rows:
        raise MalformedRecord("holds no rows", place=source)
    return rows


def score_all(scorer: Scorer, rows: Sequence[dict[str, Any]], ledger: Ledger, *, fingerprint: str = "") -> Scores:
    """The scores of every row's answers, from the ledger where they are there. fingerprint: the scorer's bytes."""
    keys = [entry_key(row["prompt"], row["all_generated_responses"], scorer.name, fingerprint) for row in rows]
    missing = [at for at in dict(zip(keys, range(len(keys)), strict=True)).values() if keys[at] not in ledger]
    for first in tqdm(range(0, len(missing), CALL_PROMPTS), desc="scoring prompts", disable=not missing):
        some = missing[first : first + CALL_PROMPTS]
        made = scorer.score(
            [conversation(rows[at]["prompt"]) for at in some], [rows[at]["all_generated_responses"] for at in some]
        )
        ledger.add({"key": keys[at], "scores": few} for at, few in zip(some, made, strict=True))
    return [list(ledger[key]["scores"]) for key in keys]


def _open(
    kind: Kind, scorer: str, judge: JudgeOptions, judgments: Path, max_batch_tokens: int, device: str, dtype: str
) -> Scorer:
    if kind == "function":
        return FunctionScorer(scorer)
    if kind == "classifier":
        model = load_model(scorer, task="sequence_classification", device=device, dtype=dtype)
        return ClassifierScorer(model, load_tokenizer(scorer), scorer, max_tokens=max_batch_tokens)
    asked = JudgeOptions(scorer, judge.template, judge.max_new_tokens, judge.temperature, judge.seed, device, dtype)
    if kind == "pairwise":
        template = read_template(judge.template, PAIR_TEMPLATE, ("instruction", "output_1", "output_2"))
        return PairwiseScorer(open_judge(asked, judgments), template)
    template = read_template(judge.template, GRADE_TEMPLATE, ("conversation",))
    return GradeScorer(open_judge(asked, judgments), judge.sampling, template)


def _record(run: Run, rows: Sequence[dict[str, Any]], scores: Scores, setting: str, data: str, model: str) -> None:
    flat = [value for few in scores for value in few]
    lacking = sum(value is None for value in flat)
    if lacking:
        logger.warning("%d of %d answers have no score", lacking, len(flat))
    share = proportion(len(flat) - lacking, len(flat))
    gaps = [max(known) - min(known) for few in scores if len(known := [v for v in few if v is not None]) > 1]
    figures = [("scored_share", "Answers that have a score", share, "share", "higher")]
    if len(gaps) > 1:
        figures.append(
            ("score_gap", "Score of a prompt's best answer above its worst", bootstrap_mean(gaps), "", "none")
        )
    for metric, claim, one, unit, better in figures:
        run.record(Evidence("preference", claim, metric, one.value, unit, better, tuple(one.interval), one.n,  # type: ignore[arg-type]
                            setting=setting, model_sha=model, data_sha=data, artefact=SCORED))  # fmt: skip
    samples = []
    for row, few in zip(rows[:40], scores, strict=False):
        best = max(range(len(few)), key=lambda at: -float("inf") if few[at] is None else float(few[at] or 0.0))
        answer = row["all_generated_responses"][best]
        samples.append({"question": prompt_text(row["prompt"]), "answer": answer, "scores": [str(v) for v in few]})
    write_lines(run.path / SAMPLES, samples)
