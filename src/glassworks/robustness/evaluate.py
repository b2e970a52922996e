"""Verb `certify`: on a set of questions, how often is the answer right, and provably so whatever k' passages say?

RobustRAG (Xiang et al. 2024, arXiv 2405.15556), section on experiments: clean accuracy, accuracy and attack success
under attack, certified accuracy against k', abstention and cost, robust beside plain on the same questions. Every
figure is `Evidence` with n and an interval; a certified answer that an attack within the budget made wrong is counted.
Questions: made-up ones, the official JSON, a BEIR folder, or JSONL asked of a live store.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.models import model_sha
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean, proportion
from glassworks.report.figures import FIGURES_FOLDER, Series, curves, save_figure
from glassworks.retrieval.retrievers import Kind
from glassworks.robustness.method import SCRIPTED, Defence, Method, check_defence, open_aggregator, open_reading
from glassworks.robustness.poisoned_corpus import poisoned_copy
from glassworks.robustness.study import Asked, Study, ask_again, open_study
from glassworks.robustness.trials import TRIALS, Attacks, Delivered, Trial, deliver, run_trials

logger = logging.getLogger(__name__)

SYSTEM, LEDGER, SAMPLES, COPY = "robustness", "generations.jsonl", "samples.jsonl", "poisoned"
SHOWN = 6


def certify(
    questions: str | None,
    store: str | None = None,
    model: str = "packaged:smollm2",
    out: str = "runs/certify",
    robust: Method = "keyword",
    defence: Defence = Defence(),
    attacks: Attacks = Attacks(),
    study: Study = Study(),
    retriever: Kind = "lexical",
    encoder: str | None = None,
    device: str = "auto",
) -> Run:
    """Measure how often answers are right, under attack and provably, on a set of questions.

    Shell: glassworks certify synthetic:200 --model scripted --out runs/certify

    Args:
        questions: synthetic:N, an official .json, a BEIR folder, or JSONL of question and answers asked of a store;
            null: made-up ones.
        store: Run folder of `index`, or the address of a store, for JSONL questions; made-up facts are planted in a
            copy of it.
        model: Who answers, as for `answer`; "scripted" is a reader of rules that every attack fools.
        out: The run folder: trials, samples, figures and evidence.
        robust: How isolated answers are joined: shared keywords, votes, token by token, or the largest agreeing set.
        defence: Settings of the defence.
        attacks: Attacks that are tried.
        study: Which questions are used, and how far certificates go.
        retriever: How a store's passages are found: by words, by an encoder, by both, or by words re-ordered.
        encoder: Sentence encoder; needed by every retriever but lexical, by hotflip, and to poison a store that
            holds vectors.
        device: Where the model runs: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, certify, arguments) as run:
        templates = check_defence(robust, defence, model, None)
        study.check(defence.k)
        attacks.check(encoder)
        asked = open_study(questions, store, study, defence.k, retriever, encoder, defence.characters)
        asked, delivered = _delivered(run.path / COPY, asked, attacks, study, defence, retriever, encoder)
        reading = open_reading(model, defence, templates, ledger=run.path / LEDGER, device=device)
        aggregator = open_aggregator(robust, defence)
        budgets = range(study.max_corruption + 1)
        trials = run_trials(asked.questions, reading, aggregator, delivered, budgets, defence.threat, run.path / TRIALS)
        where = f"{questions or 'made-up questions'}{f' in {store}, {retriever}' if store else ''}"
        filled = {
            "setting": _setting(where, robust, defence, attacks, study), "seed": study.seed, "artefact": TRIALS,
            "data_sha": asked.data_sha, "model_sha": "" if "://" in model or model == SCRIPTED else model_sha(model),
        }  # fmt: skip
        claims = [
            *study_claims(asked, study), *answer_claims(trials), *attack_claims(trials),
            *certificate_claims(trials),
        ]  # fmt: skip
        run.record(*(replace(claim, **filled) for claim in claims))  # type: ignore[arg-type]
        _draw(trials, run.path / FIGURES_FOLDER / "certified.svg")
        shown = [_sample(trial) for trial in trials[:SHOWN]]
        write_text(run.path / SAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown))
    return run


def study_claims(asked: Asked, study: Study) -> list[Evidence]:
    """How many questions have the redundancy that was asked for; nothing where all were used."""
    if not study.redundancy:
        return []
    claim = f"Questions whose answer stands in at least {study.redundancy} of the passages read"
    found = proportion(asked.redundant, asked.known)
    return [Evidence(SYSTEM, claim, "redundant_questions", found.value, "", "none", found.interval, found.n)]


def answer_claims(trials: Sequence[Trial]) -> list[Evidence]:
    """Accuracy without attack, abstention and cost."""
    n = len(trials)
    plain = [t.plain_right for t in trials]
    calls = bootstrap_mean([t.calls for t in trials])
    finite = all(abs(end) < float("inf") for end in calls.interval)
    return [
        _share("Plain answers are right without attack", "plain_accuracy", plain, "higher"),
        _share("Robust answers are right without attack", "clean_accuracy", [t.robust_right for t in trials],
               "higher", sum(plain) / n),
        _share("Robust answers abstain without attack", "abstention", [t.abstained for t in trials], "none"),
        Evidence(SYSTEM, "Model calls a question for answers with and without attack, and certificates", "model_calls",
                 calls.value, "calls", "lower", calls.interval if finite else None, n, 1.0 + len(trials[0].attacks)),
    ]  # fmt: skip


def attack_claims(trials: Sequence[Trial]) -> list[Evidence]:
    """Accuracy and attack success under each attack, robust against plain, and answers that turned from right."""
    claims = []
    for name in trials[0].attacks:
        tried = [trial.attacks[name] for trial in trials]
        n = len(tried)
        plain_right = sum(one.plain_right for one in tried) / n
        plain_hit = [one.plain_hit for one in tried]
        claims += [
            _share(f"Robust answers are right under the attack {name}", f"robust_accuracy_{name}",
                   [one.robust_right for one in tried], "higher", plain_right),
            _share(f"The attack {name} makes the plain answer say its target", f"plain_attack_success_{name}",
                   plain_hit, "lower"),
            _share(f"The attack {name} makes the robust answer say its target", f"attack_success_{name}",
                   [one.robust_hit for one in tried], "lower", sum(plain_hit) / n),
        ]  # fmt: skip
        if any(one.hostile == 0 for one in tried):
            claims.append(_share(f"A passage of the attack {name} is among those read", f"retrieved_{name}",
                                 [one.hostile > 0 for one in tried], "none"))  # fmt: skip
        turned = [not t.attacks[name].robust_right for t in trials if t.robust_right]
        plain_turned = [not t.attacks[name].plain_right for t in trials if t.plain_right]
        if turned and plain_turned:
            claim = f"Right robust answers that the attack {name} makes wrong"
            claims.append(_share(claim, f"flipped_{name}", turned, "lower", sum(plain_turned) / len(plain_turned)))
    return claims


def certificate_claims(trials: Sequence[Trial]) -> list[Evidence]:
    """Certified accuracy by budget, and how often a certificate was broken, which must be never."""
    claims = [
        _share(f"Answers are right whatever {budget} corrupted passages say", f"certified_accuracy@{budget}",
               [t.certified[budget] for t in trials], "higher")
        for budget in trials[0].certified if budget != "0"
    ]  # fmt: skip
    if not claims:
        logger.warning("this way of answering has no certificate, so certified accuracy is not given")
        return []
    if not trials[0].attacks:
        return claims
    broken = sum(trial.violations for trial in trials)
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


def _delivered(
    copy: Path, asked: Asked, attacks: Attacks, study: Study, defence: Defence, retriever: Kind, encoder: str | None
) -> tuple[Asked, Delivered]:
    """The questions, and what is read under each attack; documents are added to a copy of the corpus only."""
    k, adds = defence.k, attacks.delivery == "corpus"
    if not (adds or asked.planted):
        return asked, deliver(asked.questions, attacks, k, study.seed, encoder=encoder)
    with poisoned_copy(copy, asked.corpus, retriever, encoder, asked.planted) as corpus:
        if asked.planted:
            asked = ask_again(asked, corpus, study, k, defence.characters)
        return asked, deliver(asked.questions, attacks, k, study.seed, corpus if adds else None, encoder)


def _setting(where: str, method: str, defence: Defence, attacks: Attacks, study: Study) -> str:
    own = {
        "keyword": f"alpha = {defence.alpha:g}, beta = {defence.beta:g}, {defence.extractor}",
        "decoding": f"eta = {defence.eta:g}",
    }.get(method, f"weights {defence.weights}")
    chosen = f", answer in at least {study.redundancy} passages" if study.redundancy else ""
    how = f"{method}, k = {defence.k}, {own}, {defence.threat}"
    return f"{where}{chosen}; {how}; {attacks.count} hostile, {attacks.delivery}"


def _draw(trials: Sequence[Trial], path: Path) -> None:
    certified = [budget for budget in trials[0].certified if budget != "0"]
    if not certified:
        return
    x, budgets = [0.0, *map(float, certified)], ["0", *certified]
    counts = [sum(t.robust_right for t in trials), *(sum(t.certified[one] for t in trials) for one in certified)]
    found = [proportion(count, len(trials)) for count in counts]
    line = Series(
        "certified", x, [one.value for one in found], [one.interval.low for one in found],
        [one.interval.high for one in found],
    )  # fmt: skip
    figure = curves([line], x_label="corrupted passages", y_label="share of questions", y_range=(0, 1.02))
    figure.axes[0].set_xticks(x, budgets)
    told = ", ".join(f"{one.value:.2f} at {budget}" for budget, one in zip(budgets, found, strict=True))
    save_figure(
        figure, path,
        caption=f"Share of {len(trials)} questions answered rightly whatever so many passages say; 0 is no attack; "
        "95 % intervals.",
        alt=f"Certified accuracy: {told}.",
    )  # fmt: skip


def _sample(trial: Trial) -> dict[str, object]:
    name, attacked = next(iter(trial.attacks.items()), ("", None))
    certified = [int(budget) for budget, holds in trial.certified.items() if holds]
    return {
        "question": trial.question,
        "answer": trial.robust,
        "answers": list(trial.answers),
        "plain answer": trial.plain,
        "attack": name,
        "plain answer under attack": attacked.plain if attacked else "",
        "robust answer under attack": attacked.robust if attacked else "",
        "certified against": max(certified, default=0),
        "reason": trial.reasons.get("1", ""),
    }
