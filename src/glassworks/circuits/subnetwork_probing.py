"""Verbs `subnetworks ablate`, `effective-size` and `attention`: what shared heads do, when they appear, what they see.

The Heuristic Core (2024, sections 4 and 5): single ablations of core and other heads, the core removed as a whole,
whether other heads depend on it; effective size in and out of domain at each checkpoint; attention of core heads.
Writes a table, a picture and evidence with intervals.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from glassworks.circuits.ablation_sweep import ablation_sweep
from glassworks.circuits.attention_overlap import attended
from glassworks.circuits.head_masks import UnitGates, gated
from glassworks.circuits.heuristic_core import (
    MARGIN,
    EffectiveSize,
    core_recall,
    dependence,
    heuristic_core,
    mean_effective_size,
)
from glassworks.circuits.sentence_pairs import Case, Encoded, Example, encode, read_cases, read_examples
from glassworks.circuits.subnetwork_evaluation import Scores, score_cases
from glassworks.circuits.subnetwork_figures import draw_ablations, draw_effective_sizes
from glassworks.circuits.subnetwork_reports import size_claims
from glassworks.circuits.subnetwork_runs import STATES, Prepared, check_model, means_of, prepare, subnetworks_of
from glassworks.circuits.subnetwork_search import search
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetwork_units import UnitMask, unit_index
from glassworks.circuits.subnetworks import Scored, mean_outputs, score_mask, sparsities_of, units_of
from glassworks.errors import DataNotFound, OptionError, check_at_least
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean

SYSTEM = "subnetworks"


def ablate_subnetworks(
    model: str,
    runs: str,
    evaluation: str,
    out: str = "runs/subnetworks-ablation",
    heads: str = "all",
    limit: int | None = None,
    device: str = "auto",
) -> Run:
    """Ablate heads one by one in the whole model, and the core as a whole.

    Shell: glassworks subnetworks ablate MODEL runs/subnetworks runs/toy/evaluation.jsonl --heads all

    Args:
        model: the classifier that was searched.
        runs: folders of subnetworks search; the core is that of all their subnetworks.
        evaluation: cases, as for search.
        out: folder of the run.
        heads: all, core, or names as a0.h3,a1.mlp.
        limit: examples a case at most.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, ablate_subnetworks, arguments) as run, ExitStack() as stack:
        loaded, cases = subnetworks_of(runs), read_cases(evaluation, limit=limit)
        about = loaded[0][1]
        core = heuristic_core([one.mask.heads for one, _ in loaded], draws=1)
        full = UnitMask.full(*core.heads.shape)
        every = [name for name in full.names() if not name.endswith("mlp")]
        named = {"all": every, "core": core.names()}
        units = named[heads] if heads in named else units_of(heads)
        if not units:
            problem = "the core is empty" if heads == "core" else "no unit is named"
            raise OptionError(problem, place="heads", remedy="Give all, core, or names such as a0.h3.")
        for name in units:
            unit_index(name, *core.heads.shape)
        core_mask = UnitMask(core.heads, torch.zeros_like(full.mlps))
        prepared = prepare(model, device)
        check_model(prepared, about)
        encoded = prepared.encode_cases(cases)
        gates = stack.enter_context(gated(prepared.parts, means_of(runs, about), ablation=about["ablation"]))
        swept = sweep_scores(gates, cases, encoded, full, units)
        whole = swept.pop("")
        without = score_mask(gates, full - core_mask, cases, encoded)
        drops = {name: _points(whole, scores, "in") for name, scores in swept.items()}
        table = {
            name: {"in_domain": drops[name], "out_of_domain": _points(whole, scores, "out"),
                   "core": name in core.names()}
            for name, scores in swept.items()
        }  # fmt: skip
        added = UnitMask(loaded[0][0].mask.heads & ~core.heads, full.mlps)
        only = [score_mask(gates, mask, cases, encoded).mean("in") or 0.0 for mask in (
            UnitMask(core.heads, full.mlps), UnitMask(core.heads, full.mlps) | added,
            UnitMask(torch.zeros_like(core.heads), full.mlps), added,
        )]  # fmt: skip
        needs = dependence(*only)
        write_json(run.path / "ablation.json", {"units": table, "core": core.names(), "dependence": needs._asdict()})
        if heads == "all":
            draw_ablations(run.path, torch.tensor([drops[name] for name in every]).reshape(core.heads.shape))
        run.record(*_ablation_claims(drops, core.names(), whole, without, needs, prepared.sha))
    return run


def effective_sizes(
    checkpoints: str,
    data: str,
    evaluation: str,
    out: str = "runs/subnetworks-effective-size",
    sparsity: str = "0.2,0.35,0.5,0.65",
    seeds: int = 1,
    first_seed: int = 42,
    margin: float = MARGIN,
    settings: SearchConfig = SearchConfig(),
    limit: int | None = None,
    device: str = "auto",
) -> Run:
    """Measure at each checkpoint how many units a faithful subnetwork needs, in and out of domain.

    Shell: glassworks subnetworks effective-size runs/toy/checkpoints runs/toy/train.jsonl runs/toy/evaluation.jsonl

    Args:
        checkpoints: a folder of checkpoints whose names end in the step, such as step-500 or checkpoint-500.
        data: training examples, as for search.
        evaluation: cases, as for search.
        out: folder of the run.
        sparsity: the swept shares of units removed.
        seeds: searches a sparsity; with two or more the core of each checkpoint is compared with the last one's.
        first_seed: the first seed.
        margin: accuracy that a faithful subnetwork may lose.
        settings: how gates are trained.
        limit: training examples and examples a case at most.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    sizes: dict[str, dict[int, EffectiveSize]] = {"in domain": {}, "out of domain": {}}
    cores: dict[int, Tensor] = {}
    with Run.start(out, effective_sizes, arguments) as run:
        targets, folders = sparsities_of(sparsity), checkpoint_folders(checkpoints)
        cases, examples = read_cases(evaluation, limit=limit), read_examples(data, limit=limit)
        check_at_least(1, seeds=seeds)
        check_at_least(0, margin=margin)
        every_seed = range(first_seed, first_seed + seeds)
        for step, folder in folders.items():
            prepared, states = prepare(str(folder), device), run.path / STATES / str(step)
            found, full = _searched(prepared, cases, examples, targets, every_seed, settings, states)
            cores[step] = heuristic_core([one.mask.heads for one, _ in found], draws=1).heads
            for label, domain in (("in domain", "in"), ("out of domain", "out")):
                if (whole := full.mean(domain)) is not None:
                    sweeps = [
                        {100 * one.sparsity: scores.mean(domain) or 0.0 for one, scores in found if one.seed == seed}
                        for seed in every_seed
                    ]
                    sizes[label][step] = mean_effective_size(whole, sweeps, margin)
                    run.log(step=step, domain=domain, full=whole, sweeps=sweeps)
        emergence = {step: core_recall(core, cores[max(cores)]) for step, core in cores.items()}
        table = {label: {step: size._asdict() for step, size in by_step.items()} for label, by_step in sizes.items()}
        write_json(run.path / "effective-size.json", {"sizes": table, "core_recall": emergence})
        draw_effective_sizes(run.path, sizes)
        run.record(*size_claims(sizes, n=seeds, setting=f"margin {100 * margin:g} points"))
        shutil.rmtree(run.path / STATES, ignore_errors=True)
    return run


def attention_of_core(
    model: str,
    runs: str,
    evaluation: str,
    out: str = "runs/subnetworks-attention",
    pairs: int = 200,
    seed: int = 0,
    device: str = "auto",
) -> Run:
    """Compare what core heads and other heads attend to: words that both texts share.

    Shell: glassworks subnetworks attention MODEL runs/subnetworks runs/toy/evaluation.jsonl

    Args:
        model: the classifier that was searched.
        runs: folders of subnetworks search; the core is that of all their subnetworks.
        evaluation: cases, as for search; pairs are taken from those in domain.
        out: folder of the run.
        pairs: how many pairs.
        seed: of the replaced words.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, attention_of_core, arguments) as run:
        check_at_least(1, pairs=pairs)
        loaded, cases = subnetworks_of(runs), read_cases(evaluation)
        core = heuristic_core([one.mask.heads for one, _ in loaded], draws=1)
        chosen = [pair for case in cases if case.domain == "in" for pair in case.examples][:pairs]
        prepared = prepare(model, device)
        check_model(prepared, loaded[0][1])
        found = attended(prepared.model, prepared.tokenizer, chosen, seed=seed)
        table = {name: values.nanmean(0).tolist() for name, values in found._asdict().items()}
        write_json(run.path / "attention.json", {"core": core.names(), **table})
        for name, values in found._asdict().items():
            for label, heads in (("core heads", core.heads), ("other heads", ~core.heads)):
                a_pair = values[:, heads].mean(1) if bool(heads.any()) else values.new_zeros(0)
                kept = a_pair[a_pair.isfinite()].tolist()
                if len(kept) > 1:
                    mean = bootstrap_mean(kept)
                    run.record(
                        Evidence(
                            SYSTEM, f"Attention {name} score of {label}", f"attention_{name}", mean.value, "share",
                            "none", mean.interval, mean.n, setting=label, model_sha=prepared.sha,
                        )
                    )  # fmt: skip
    return run


def _searched(
    prepared: Prepared, cases: Sequence[Case], examples: Sequence[Example], targets: Sequence[float],
    seeds: Sequence[int], settings: SearchConfig, states: Path,
) -> tuple[Scored, Scores]:  # fmt: skip
    """Subnetworks of one checkpoint with their scores, and the whole model's."""
    encoded = prepared.encode_cases(cases)
    training = encode(examples, prepared.tokenizer, max_length=prepared.max_length)
    means = mean_outputs(prepared, training)
    found = search(prepared.parts, training, targets, seeds, config=settings, means=means, folder=states)
    with gated(prepared.parts, means) as gates:
        full = score_mask(gates, None, cases, encoded)
        return [(one, score_mask(gates, one.mask, cases, encoded)) for one in found], full


def checkpoint_folders(folder: str) -> dict[int, Path]:
    """Folders whose names end in a number, by that number. Raises DataNotFound."""
    named = {path: re.search(r"(\d+)$", path.name) for path in Path(folder).glob("*") if path.is_dir()}
    found = {int(match[1]): path for path, match in named.items() if match}
    if not found:
        raise DataNotFound("holds no checkpoints", place=folder, remedy="Folders are named step-500, for example.")
    return dict(sorted(found.items()))


def sweep_scores(
    gates: UnitGates, cases: Sequence[Case], encoded: dict[str, Encoded], base: UnitMask, units: Sequence[str]
) -> dict[str, Scores]:
    """Scores of each ablation and, under "", of the base."""
    logits: dict[str, dict[str, Tensor]] = {}
    for case in cases:
        data, rows, order = encoded[case.name], [], []
        for chosen in data.buckets(64):
            batch = data.batch(chosen, gates.parts.model.device)
            rows.append(ablation_sweep(gates, batch, base, units))
            order += chosen
        for name in rows[0]:
            stacked = torch.cat([row[name] for row in rows]).float().cpu()
            ordered = torch.empty_like(stacked)
            ordered[order] = stacked
            logits.setdefault(name, {})[case.name] = ordered
    return {name: score_cases(by_case, cases) for name, by_case in logits.items()}


def _points(before: Scores, after: Scores, domain: str) -> float:
    one, two = before.mean(domain), after.mean(domain)
    return 0.0 if one is None or two is None else 100 * (one - two)


def _ablation_claims(
    drops: dict[str, float], core: Sequence[str], whole: Scores, without: Scores, needs: tuple[float, float], sha: str
) -> list[Evidence]:
    inside, outside = ([drop for name, drop in drops.items() if (name in core) is kind] for kind in (True, False))
    claims = []
    for label, values in (("core", inside), ("other", outside)):
        if values:
            interval = bootstrap_mean(values).interval if len(values) > 1 else None
            claims.append(
                Evidence(SYSTEM, f"Accuracy in domain lost when one {label} head is ablated", f"ablation_{label}",
                         sum(values) / len(values), "points", "none", interval, len(values))
            )  # fmt: skip
    if (left := without.mean("in")) is not None:
        claims.append(
            Evidence(SYSTEM, "Accuracy in domain without the whole core", "accuracy_without_core", left, "share",
                     n=len(core), baseline=whole.mean("in"))
        )  # fmt: skip
    claims.append(
        Evidence(SYSTEM, "Accuracy that further heads add to the core (baseline: without it)", "dependence_on_core",
                 100 * needs[0], "points", baseline=100 * needs[1])
    )  # fmt: skip
    return [replace(claim, model_sha=sha) for claim in claims]
