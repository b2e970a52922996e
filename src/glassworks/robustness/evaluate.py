"""Verb `certify`: on a set of questions, how often is the answer right, and provably so whatever k' passages say?

RobustRAG (Xiang et al. 2024, arXiv 2405.15556), section on experiments: clean accuracy, accuracy and attack success
under attack, certified accuracy against k', abstention and cost, robust beside plain on the same questions. Every
figure is `Evidence` with n and an interval; a certified answer that an attack within the budget made wrong is counted.
Questions: made-up ones, the official JSON, a BEIR folder, or JSONL asked of a live store.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from glassworks.errors import OptionError, UnknownName
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.models import model_sha
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean, proportion
from glassworks.report.figures import FIGURES_FOLDER, Series, curves, save_figure
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.grounding import open_filled_store
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.retrievers import Kind, open_retriever
from glassworks.robustness.attacks import ATTACKS
from glassworks.robustness.method import SCRIPTED, Defence, Method, check_defence, open_aggregator, open_reading
from glassworks.robustness.question_sets import RobustQuestion, read_beir, read_live, read_official, with_targets
from glassworks.robustness.synthetic import synthetic_questions
from glassworks.robustness.trials import TRIALS, Attacks, Trial, deliver, run_trials

logger = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
SYSTEM, LEDGER, SAMPLES = "robustness", "generations.jsonl", "samples.jsonl"
SHOWN = 6


def certify(
    questions: str = "synthetic:200",
    store: str | None = None,
    model: str = "packaged:smollm2",
    out: str = "runs/certify",
    robust: Method = "keyword",
    defence: Defence = Defence(),
    attacks: Attacks = Attacks(),
    max_corruption: int = 3,
    limit: int = 200,
    retriever: Kind = "lexical",
    seed: int = 0,
    device: str = "auto",
) -> Run:
    """Measure how often answers are right, under attack and provably, on a set of questions.

    Shell: glassworks certify synthetic:200 --model scripted --out runs/certify

    Args:
        questions: synthetic:N, an official .json, a BEIR folder, or JSONL of question and answers asked of a store.
        store: Run folder of `index`, or the address of a store; needed by JSONL questions.
        model: Who answers, as for `answer`; "scripted" is a reader of rules that every attack fools.
        out: The run folder: trials, samples, figures and evidence.
        robust: How isolated answers are joined: shared keywords, votes, token by token, or the largest agreeing set.
        defence: Settings of the defence.
        attacks: Attacks that are tried.
        max_corruption: Certified accuracy is given for 1 to so many corrupted passages.
        limit: How many questions are used, drawn by seed.
        retriever: How a store's passages are found: lexical only, where the attack is added to the corpus.
        seed: Draws questions, targets and random positions.
        device: Where the model runs: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, certify, arguments) as run:
        templates = check_defence(robust, defence, model, None)
        _check(defence, attacks, max_corruption, limit, retriever)
        asked, corpus = _questions(questions, store, defence.k, retriever, limit, seed)
        delivered = deliver(asked, attacks, corpus, defence.k, seed)
        reading = open_reading(model, defence, templates, ledger=run.path / LEDGER, device=device)
        aggregator = open_aggregator(robust, defence)
        budgets = range(max_corruption + 1)
        trials = run_trials(asked, reading, aggregator, delivered, budgets, defence.threat, run.path / TRIALS)
        setting = _setting(questions, store, robust, defence, attacks)
        filled = {
            "setting": setting, "seed": seed, "artefact": TRIALS, "data_sha": _data_sha(questions),
            "model_sha": "" if "://" in model or model == SCRIPTED else model_sha(model),
        }  # fmt: skip
        claims = [*answer_claims(trials), *attack_claims(trials), *certificate_claims(trials, defence, attacks)]
        run.record(*(replace(claim, **filled) for claim in claims))  # type: ignore[arg-type]
        _draw(trials, run.path / FIGURES_FOLDER / "certified.svg")
        shown = [_sample(trial) for trial in trials[:SHOWN]]
        write_text(run.path / SAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown))
    return run


def answer_claims(trials: Sequence[Trial]) -> list[Evidence]:
    """Accuracy without attack, abstention and cost."""
    n = len(trials)
    plain = proportion(sum(t.plain_right for t in trials), n).value
    calls = bootstrap_mean([t.calls for t in trials])
    finite = all(abs(end) < float("inf") for end in calls.interval)
    return [
        _share("Robust answers are right without attack", "clean_accuracy", [t.robust_right for t in trials],
               "higher", plain),
        _share("Robust answers abstain without attack", "abstention", [t.abstained for t in trials], "none"),
        Evidence(SYSTEM, "Model calls a question, certificates included; plain answering makes one", "model_calls",
                 calls.value, "calls", "lower", calls.interval if finite else None, n, 1.0),
    ]  # fmt: skip


def attack_claims(trials: Sequence[Trial]) -> list[Evidence]:
    """Accuracy and attack success under each attack, robust against plain."""
    claims = []
    for name in trials[0].attacks:
        tried = [trial.attacks[name] for trial in trials]
        n = len(tried)
        plain_right = sum(one.plain_right for one in tried) / n
        plain_hit = sum(one.plain_hit for one in tried) / n
        claims += [
            _share(f"Robust answers are right under the attack {name}", f"robust_accuracy_{name}",
                   [one.robust_right for one in tried], "higher", plain_right),
            _share(f"The attack {name} makes the robust answer say its target", f"attack_success_{name}",
                   [one.robust_hit for one in tried], "lower", plain_hit),
        ]  # fmt: skip
    return claims


def certificate_claims(trials: Sequence[Trial], defence: Defence, attacks: Attacks) -> list[Evidence]:
    """Certified accuracy by budget, and how often a certificate was broken, which must be never."""
    claims = [
        _share(f"Answers are right whatever {budget} corrupted passages say", f"certified_accuracy@{budget}",
               [t.certified[budget] for t in trials], "higher")
        for budget in trials[0].certified if budget != "0"
    ]  # fmt: skip
    if not claims:
        logger.warning("this way of answering has no certificate, so certified accuracy is not given")
        return []
    broken = sum(trial.violations(defence.threat, attacks.delivery) for trial in trials)
    if broken:
        logger.error("%d certificates were broken by an attack within their budget: this is a fault", broken)
    claims.append(
        Evidence(SYSTEM, "Certified answers that an attack made wrong", "certificate_violations", float(broken),
                 "answers", "lower", None, len(trials) * len(trials[0].attacks))
    )  # fmt: skip
    return claims


def _share(claim: str, metric: str, hits: Sequence[bool], better: str, baseline: float | None = None) -> Evidence:
    found = proportion(sum(hits), len(hits))
    return Evidence(SYSTEM, claim, metric, found.value, "", better, found.interval, found.n, baseline)  # type: ignore[arg-type]


def _check(defence: Defence, attacks: Attacks, max_corruption: int, limit: int, retriever: str) -> None:
    for name in attacks.listed:
        if name not in ATTACKS:
            raise UnknownName("attack", name, ATTACKS, place="attacks.names")
    if not 1 <= max_corruption < defence.k:
        raise OptionError(f"expected 1 to {defence.k - 1} (k - 1), received {max_corruption}", place="max_corruption")
    for name, value in (("limit", limit), ("attacks.count", attacks.count)):
        if value < 1:
            raise OptionError(f"expected at least 1, received {value}", place=name)
    if retriever != "lexical":
        raise OptionError(
            f"expected lexical, received {retriever}", place="retriever", remedy="Use --retriever lexical."
        )


def _questions(
    questions: str, store: str | None, k: int, retriever: Kind, limit: int, seed: int
) -> tuple[list[RobustQuestion], Callable[[], Sequence[Passage]]]:
    """The questions drawn, with targets, and every passage of their corpus."""
    opened: Datastore | None = None
    kind, _, count = questions.partition(":")
    if kind == SYNTHETIC:
        if not count.isdecimal() or not int(count):
            raise OptionError(f"expected synthetic:N, received {questions}", place="questions")
        found = synthetic_questions(int(count), k=k, seed=seed)
    elif Path(questions).is_dir():
        found = read_beir(questions, k)
    elif questions.endswith(".json"):
        found = read_official(questions)
    else:
        if store is None:
            raise OptionError("these questions come without passages", place="store", remedy="Name a store.")
        opened = open_filled_store(store)
        found = read_live(questions, open_retriever(opened, retriever), k)
    drawn = sorted(random.Random(seed).sample(range(len(found)), min(limit, len(found))))
    targeted = with_targets([found[at] for at in drawn], seed)
    if not targeted:
        raise OptionError("no question has a known answer", place="questions")

    def corpus() -> Sequence[Passage]:
        return list(opened.passages()) if opened is not None else [p for q in found for p in q.passages]

    return targeted, corpus


def _setting(questions: str, store: str | None, method: str, defence: Defence, attacks: Attacks) -> str:
    own = {
        "keyword": f"alpha = {defence.alpha:g}, beta = {defence.beta:g}, {defence.extractor}",
        "decoding": f"eta = {defence.eta:g}",
    }.get(method, f"weights {defence.weights}")
    where = f"{questions}{f' in {store}' if store else ''}"
    return f"{where}; {method}, k = {defence.k}, {own}, {defence.threat}; {attacks.count} hostile, {attacks.delivery}"


def _data_sha(questions: str) -> str:
    return "" if questions.startswith(SYNTHETIC) else file_sha(questions)


def _draw(trials: Sequence[Trial], path: Path) -> None:
    budgets = [budget for budget in trials[0].certified if budget != "0"]
    if not budgets:
        return
    found = [proportion(sum(t.certified[budget] for t in trials), len(trials)) for budget in budgets]
    x = [float(budget) for budget in budgets]
    line = Series(
        "certified", x, [one.value for one in found], [one.interval.low for one in found],
        [one.interval.high for one in found],
    )  # fmt: skip
    clean = sum(t.robust_right for t in trials) / len(trials)
    figure = curves(
        [line], x_label="corrupted passages", y_label="share of questions", y_range=(0, 1), reference=clean,
        reference_label="without attack",
    )  # fmt: skip
    told = ", ".join(f"{one.value:.2f} at {budget}" for budget, one in zip(budgets, found, strict=True))
    save_figure(
        figure, path,
        caption=f"Share of {len(trials)} questions answered rightly whatever so many passages say; 95 % intervals.",
        alt=f"Certified accuracy: {told}; without attack {clean:.2f}.",
    )  # fmt: skip


def _sample(trial: Trial) -> dict[str, object]:
    name, attacked = next(iter(trial.attacks.items()), ("", None))
    certified = [int(budget) for budget, holds in trial.certified.items() if holds]
    return {
        "question": trial.question,
        "answer": trial.robust,
        "known answers": list(trial.answers),
        "plain answer": trial.plain,
        "attack": name,
        "plain answer under attack": attacked.plain if attacked else "",
        "robust answer under attack": attacked.robust if attacked else "",
        "certified against": max(certified, default=0),
        "reason": trial.reasons.get("1", ""),
    }
