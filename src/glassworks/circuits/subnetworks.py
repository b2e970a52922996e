"""Verbs `subnetworks toy`, `search` and `evaluate`: subnetworks of one model, and how differently they generalise.

The Heuristic Core (Bhaskar, Friedman, Chen 2024): search with several seeds and sparsities, then compare accuracy in
and out of domain. Writes masks, gates, means, `metrics.json` in the official layout, scores with AUC beside accuracy,
and evidence. What accuracy alone hides (a shifted threshold) is told beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from glassworks.circuits.encoder_decoder import existing_units
from glassworks.circuits.head_masks import Ablation, UnitGates, gated
from glassworks.circuits.sentence_pairs import Case, Encoded, encode, read_cases, read_examples
from glassworks.circuits.subnetwork_evaluation import Scores, case_logits, score_cases
from glassworks.circuits.subnetwork_figures import draw_sparsity, draw_spread
from glassworks.circuits.subnetwork_runs import (
    METRICS,
    STATES,
    Prepared,
    accuracies,
    check_model,
    means_of,
    prepare,
    save_all_means,
    save_subnetwork,
    subnetworks_of,
)
from glassworks.circuits.subnetwork_search import Subnetwork, check_sparsities, decide, search
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetwork_settings import preset as preset_named
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.toy_inference import toy_evaluation_rows, toy_tokenizer, toy_training, train_toy
from glassworks.circuits.unit_means import Means, collect_means
from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import atomic_write, write_json, write_text
from glassworks.foundations.gates import Rule
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean

SYSTEM = "subnetworks"
Preset = Literal["default", "heuristic-core-2024"]
Scored = list[tuple[Subnetwork, Scores]]


def toy_subnetworks(
    out: str = "runs/subnetworks-toy", steps: int = 2000, examples: int = 30_000, every: int = 250, seed: int = 0
) -> Run:
    """Train a small BERT on a toy language of inference, with checkpoints and evaluation cases.

    Shell: glassworks subnetworks toy --out runs/toy

    Args:
        out: folder of the run; checkpoints/step-N are the models, train.jsonl and evaluation.jsonl the data.
        steps: optimiser steps; 2000 learn all cases, 1000 only some of them.
        examples: training pairs.
        every: steps between checkpoints.
        seed: of the data and of the weights.
    """
    arguments = dict(locals())
    with Run.start(out, toy_subnetworks, arguments) as run:
        check_at_least(1, steps=steps, examples=examples, every=every)
        pairs, rows, tokenizer = toy_training(examples, seed), toy_evaluation_rows(), toy_tokenizer()
        write_text(run.path / "train.jsonl", _lines([pair._asdict() for pair in pairs]))
        write_text(run.path / "evaluation.jsonl", _lines(rows))
        cases = read_cases(str(run.path / "evaluation.jsonl"))
        encoded = {case.name: encode(case.examples, tokenizer, max_length=16) for case in cases}

        def save(step: int, model: Any) -> None:
            with atomic_write(run.path / "checkpoints" / f"step-{step}") as temporary:
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
            scores = _full_scores(model, cases, encoded)
            run.log(step=step, **{name: case.accuracy.value for name, case in scores.cases.items()})
            if step == steps:
                run.record(*_full_claims(scores, seed))

        train_toy(pairs, seed=seed, steps=steps, save=save, every=every)
    return run


def search_subnetworks(
    model: str,
    data: str,
    evaluation: str,
    out: str = "runs/subnetworks",
    sparsity: str = "0.5,0.7",
    seeds: int = 12,
    first_seed: int = 42,
    ablation: Ablation = "mean",
    preset: Preset = "default",
    settings: SearchConfig = SearchConfig(),
    limit: int | None = None,
    device: str = "auto",
) -> Run:
    """Find subnetworks of heads and MLP blocks with several seeds, and compare how they generalise.

    Shell: glassworks subnetworks search runs/toy/checkpoints/step-1000 runs/toy/train.jsonl runs/toy/evaluation.jsonl

    Args:
        model: a sequence classifier: hub id or folder.
        data: training examples: JSONL with text, text_pair and label, or nyu-mll/glue:mnli and the like.
        evaluation: cases, in and out of domain: JSONL with case and domain, hans, hub ids; several with commas.
        out: folder of the run.
        sparsity: shares of units to remove, separated by commas.
        seeds: how many searches a sparsity.
        first_seed: the first seed; the others follow.
        ablation: what replaces a removed unit: its mean, zero, or its value in the row before (resample).
        preset: heuristic-core-2024 uses the published settings instead of these.
        settings: how gates are trained.
        limit: training examples and examples a case at most.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, search_subnetworks, arguments) as run:
        targets = sparsities_of(sparsity)
        check_at_least(1, seeds=seeds)
        if preset != "default" and settings != SearchConfig():
            raise OptionError("a preset and settings of one's own exclude each other", place="settings")
        cases, examples = read_cases(evaluation, limit=limit), read_examples(data, limit=limit)
        prepared = prepare(model, device)
        encoded = prepared.encode_cases(cases)
        training = encode(examples, prepared.tokenizer, max_length=prepared.max_length)
        means = mean_outputs(prepared, training) if ablation == "mean" else None
        save_all_means(run.path, means)
        states = run.path / STATES
        every_seed = range(first_seed, first_seed + seeds)
        found = [
            one
            for group in _groups(targets, preset, settings)
            for one in search(
                prepared.parts, training, group[0], every_seed, config=group[1], means=means, ablation=ablation,
                folder=states, log=lambda record: run.log(**record),
            )
        ]  # fmt: skip
        scored, full = _score_all(prepared, cases, encoded, found, means, ablation)
        for one in found:
            save_subnetwork(run.path, one, model=model, model_sha=prepared.sha, ablation=ablation)
        _report(run, cases, full, scored, prepared.sha, training.sha)
        shutil.rmtree(states, ignore_errors=True)
    return run


def evaluate_subnetworks(
    model: str,
    runs: str,
    evaluation: str,
    out: str = "runs/subnetworks-evaluation",
    rule: Rule = "global",
    threshold: float = 0.5,
    force_include: str = "",
    force_exclude: str = "",
    limit: int | None = None,
    device: str = "auto",
) -> Run:
    """Score subnetworks that were found before on other cases, by another rule, or with units forced.

    Shell: glassworks subnetworks evaluate MODEL runs/subnetworks hans --force_include a0.h1,a1.mlp

    Args:
        model: the classifier that was searched.
        runs: folders of subnetworks search, separated by commas.
        evaluation: cases, as for search.
        out: folder of the run.
        rule: how gates are decided; threshold keeps soft gates above the threshold (published).
        threshold: for the rule threshold.
        force_include: units to keep in every subnetwork, as a0.h1,a1.mlp.
        force_exclude: units to ablate in every subnetwork.
        limit: examples a case at most.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, evaluate_subnetworks, arguments) as run:
        if not 0 <= threshold <= 1:
            raise OptionError(f"expected a gate's value in [0, 1], received {threshold}", place="threshold")
        loaded, cases = subnetworks_of(runs), read_cases(evaluation, limit=limit)
        about = loaded[0][1]
        shape = about["layers"], about["heads"]
        include = UnitMask.from_names(units_of(force_include), *shape)
        exclude = UnitMask.from_names(units_of(force_exclude), *shape)
        means, prepared = means_of(runs, about), prepare(model, device)
        check_model(prepared, about)
        encoded = prepared.encode_cases(cases)
        found, exists = [], existing_units(prepared.parts)
        for one, _ in loaded:
            mask = one.mask if rule == "global" else decide(one.alpha, one.sparsity, rule, threshold, exists)
            forced = (mask | include) - exclude
            found.append(Subnetwork(forced, one.alpha, one.seed, one.sparsity, one.kl_soft, one.kl, one.one_trajectory))
        scored, full = _score_all(prepared, cases, encoded, found, means, about["ablation"])
        _report(run, cases, full, scored, prepared.sha, "")
    return run


def mean_outputs(prepared: Prepared, training: Encoded) -> Means:
    """The means of every unit over the training examples."""
    batches = (training.batch(chosen, prepared.model.device) for chosen in training.buckets(256))
    return collect_means(prepared.parts, batches, data_sha=training.sha)


def sparsities_of(text: str) -> list[float]:
    """The sparsities of "0.5,0.7". Raises OptionError."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"'{text}' is no list of numbers", place="sparsity", remedy="Write 0.5,0.7.") from None
    check_sparsities(found)
    return found


def units_of(text: str) -> list[str]:
    """The names of "a0.h1,a1.mlp"."""
    return [name.strip() for name in text.replace(" ", ",").split(",") if name.strip()]


def score_mask(
    gates: UnitGates, mask: UnitMask | Tensor | None, cases: Sequence[Case], encoded: dict[str, Encoded]
) -> Scores:
    """Scores of all cases under one mask, None = the whole model."""
    return score_cases(case_logits(gates, mask, encoded), cases)


def _groups(targets: list[float], name: Preset, config: SearchConfig) -> list[tuple[list[float], SearchConfig]]:
    """Targets that share settings: the published numbers of steps depend on the target."""
    if name == "default":
        return [(targets, config)]
    return [([target], preset_named(name, target)) for target in targets]


def _score_all(
    prepared: Prepared, cases: Sequence[Case], encoded: dict[str, Encoded], found: Sequence[Subnetwork],
    means: Means | None, ablation: Ablation,
) -> tuple[Scored, Scores]:  # fmt: skip
    with gated(prepared.parts, means, ablation=ablation) as gates:
        full = score_mask(gates, None, cases, encoded)
        return [(one, score_mask(gates, one.mask, cases, encoded)) for one in found], full


def _full_scores(model: Any, cases: Sequence[Case], encoded: dict[str, Encoded]) -> Scores:
    with gated(anatomy(model, check=False), ablation="zero") as gates:
        was = model.training
        model.eval()
        scores = score_mask(gates, None, cases, encoded)
        model.train(was)
    return scores


def _full_claims(scores: Scores, seed: int) -> list[Evidence]:
    return [
        Evidence(
            SYSTEM, f"Accuracy of the toy classifier on '{name}'", f"toy_accuracy_{name}", case.accuracy.value, "share",
            "higher", case.accuracy.interval, case.accuracy.n, seed=seed,
        )
        for name, case in scores.cases.items()
        if case.domain == "in" or case.auc is not None
    ]  # fmt: skip


def _report(run: Run, cases: Sequence[Case], full: Scores, scored: Scored, model_sha: str, data_sha: str) -> None:
    """Files, figures and evidence of scored subnetworks."""
    table = accuracies(full, scored)
    write_json(run.path / METRICS, table)
    rows = [
        {"seed": one.seed, "sparsity": one.sparsity, "size": one.mask.size, "kl": one.kl, "kl_soft": one.kl_soft,
         "cases": {name: _case_row(case) for name, case in scores.cases.items()}}
        for one, scores in scored
    ]  # fmt: skip
    write_json(
        run.path / "scores.json", {"full": {n: _case_row(c) for n, c in full.cases.items()}, "subnetworks": rows}
    )
    shown = [case.name for case in cases if case.domain == "in" or case.counterpart]
    draw_spread(run.path, table, shown)
    draw_spread(run.path, accuracies(full, scored, auc=True), shown, "AUC")
    inside = [case.name for case in cases if case.domain == "in"]
    outside = [case.name for case in cases if case.domain == "out" and case.counterpart]
    outside = outside or [case.name for case in cases if case.domain == "out"]
    draw_sparsity(run.path, table, {"in domain": inside, "out of domain": outside})
    for sparsity in sorted({one.sparsity for one, _ in scored}):
        chosen = [scores for one, scores in scored if one.sparsity == sparsity]
        run.record(*_claims(sparsity, chosen, full, model_sha, data_sha))


def _claims(sparsity: float, scored: Sequence[Scores], full: Scores, model_sha: str, data_sha: str) -> list[Evidence]:
    """Means over seeds with intervals, and the spread between them."""
    claims = []
    setting = f"{100 * sparsity:g} % of units removed, {len(scored)} seeds"
    pieces = (
        ("accuracy in domain", "in_domain_accuracy", [s.mean("in") for s in scored], full.mean("in")),
        ("accuracy out of domain", "out_of_domain_accuracy", [s.mean("out") for s in scored], full.mean("out")),
        ("AUC of hard against entailed pairs", "out_of_domain_auc", [s.mean_auc() for s in scored], full.mean_auc()),
    )
    for name, metric, found, baseline in pieces:
        values = [value for value in found if value is not None]
        if not values:
            continue
        mean = bootstrap_mean(values)
        interval = mean.interval if len(values) > 1 else None
        at = f"at {100 * sparsity:g} % sparsity"
        claims.append(
            Evidence(SYSTEM, f"Mean {name} of subnetworks {at}", metric, mean.value, "share", "higher", interval,
                     len(values), baseline)
        )  # fmt: skip
        if len(values) > 1:
            spread = 100 * (max(values) - min(values))
            claims.append(
                Evidence(SYSTEM, f"Difference between the best and the worst seed in {name} {at}", f"{metric}_range",
                         spread, "points", "lower", n=len(values))
            )  # fmt: skip
    shifted = [name for s in scored for name, case in s.cases.items() if case.degenerate]
    claims.append(
        Evidence(SYSTEM, f"Cases in which a subnetwork at {100 * sparsity:g} % gives one label to nearly all pairs",
                 "degenerate_cases", len(shifted), "cases", "lower", n=len(scored))
    )  # fmt: skip
    return [replace(claim, setting=setting, model_sha=model_sha, data_sha=data_sha) for claim in claims]


def _case_row(case: Any) -> dict[str, Any]:
    return {
        "domain": case.domain, "accuracy": case.accuracy.value, "interval": list(case.accuracy.interval),
        "n": case.accuracy.n, "predicted": list(case.predicted), "balanced_accuracy": case.balanced,
        "auc": None if case.auc is None else case.auc.value, "degenerate": case.degenerate,
    }  # fmt: skip


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
