"""Verbs `subnetworks core`, `plot` and `export`: what was found, told, drawn and made into a model.

The Heuristic Core (2024, sections 3 and 4). The core is reported with its size under chance and a p-value, frequencies,
the joint table of two sparsities and overlaps. Official result files are drawn by `plot`. Runs no search.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from glassworks.circuits.export_subnetwork import masked_model, sliced_model
from glassworks.circuits.heuristic_core import (
    Core,
    EffectiveSize,
    chance_size,
    heuristic_core,
    jaccard,
    joint_frequency,
)
from glassworks.circuits.published_results import effective_sizes_of, read_grid, read_joint_figure, read_steps
from glassworks.circuits.subnetwork_figures import (
    draw_effective_sizes,
    draw_frequency,
    draw_joint,
    draw_sparsity,
    draw_spread,
)
from glassworks.circuits.subnetwork_runs import (
    FOLDER,
    MASK,
    METRICS,
    Accuracies,
    check_model,
    load_subnetwork,
    means_of,
    prepare,
    read_accuracies,
    subnetworks_of,
)
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.errors import DataNotFound, OptionError, check_at_least
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import atomic_write, write_json
from glassworks.foundations.runs import Run

SYSTEM = "subnetworks"


def core_of_subnetworks(runs: str, out: str = "runs/subnetworks-core", draws: int = 10_000, shape: str = "") -> Run:
    """Find the heads that all subnetworks share, and compare their number with chance.

    Shell: glassworks subnetworks core runs/subnetworks --out runs/core

    Args:
        runs: folders of subnetworks search, separated by commas; or text files of unit names, one a subnetwork.
        out: folder of the run.
        draws: random sets drawn for the p-value.
        shape: layers x heads of the model (12x12), needed for files of names.
    """
    arguments = dict(locals())
    with Run.start(out, core_of_subnetworks, arguments) as run:
        check_at_least(1, draws=draws)
        by_sparsity = _masks(runs, shape)
        masks = [mask for group in by_sparsity.values() for mask in group]
        core = heuristic_core(masks, draws=draws)
        overlaps = jaccard(masks)
        about = {
            "core": core.names(), "subnetworks": core.subnetworks, "chance": core.chance, "p_value": core.p_value,
            "heads_in_none": int((core.frequency == 0).sum()), "frequency": core.frequency.tolist(),
            "jaccard": {"lowest": min(overlaps, default=1.0), "highest": max(overlaps, default=1.0)},
            "core_by_sparsity": {key: heuristic_core(group, draws=1).names() for key, group in by_sparsity.items()},
        }  # fmt: skip
        draw_frequency(run.path, core.frequency, core.subnetworks)
        if len(by_sparsity) > 1:
            (first, one), *_, (second, two) = by_sparsity.items()
            table = joint_frequency(one, two)
            about["joint_frequency"] = {"rows": first, "columns": second, "heads": table.tolist()}
            draw_joint(run.path, table, first, second)
        write_json(run.path / "core.json", about)
        run.record(*_core_claims(core))
    return run


def plot_subnetworks(
    metrics: str, out: str = "runs/subnetworks-plot", in_domain: str = "validation,mnli,qqp", whole: str = ""
) -> Run:
    """Draw a result file of a search or of the official release, or check the release's own figures.

    Shell: glassworks subnetworks plot data/eval/mnli-acc_vs_sparsity.json --out runs/plot

    Args:
        metrics: metrics.json, its run folder, a result file of the official release, or its PDF of head frequencies.
        out: folder of the run.
        in_domain: beginnings of the names of cases that are in domain, separated by commas.
        whole: the whole model's accuracies by step (mnli-acc_over_ft.json); metrics is then by step and sparsity.
    """
    arguments = dict(locals())
    source = Path(metrics) / METRICS if Path(metrics).is_dir() else Path(metrics)
    beginnings = tuple(part.strip() for part in in_domain.split(",") if part.strip())
    with Run.start(out, plot_subnetworks, arguments) as run:
        if source.suffix == ".pdf":
            joint = read_joint_figure(source)
            draw_joint(run.path, joint, "the vertical axis", "the horizontal axis")
            run.record(_joint_claim(joint, source.name))
        elif whole:
            sizes = _published_sizes(source, whole, beginnings)
            draw_effective_sizes(run.path, sizes)
            run.record(*size_claims(sizes, setting=f"read from {source.name}"))
        else:
            _plot_accuracies(run, read_accuracies(source), beginnings, source.name)
    return run


def size_claims(
    sizes: Mapping[str, Mapping[int, EffectiveSize]], *, n: int | None = None, setting: str
) -> list[Evidence]:
    """Evidence of effective sizes, domain -> step -> size. n: searches a sparsity."""
    return [
        Evidence(
            SYSTEM, f"Effective size {label} at step {step}", "effective_size", size.official, "% of units", "none",
            n=n, setting=f"monotone {size.monotone:.3g} %; {setting}",
        )
        for label, by_step in sizes.items()
        for step, size in by_step.items()
    ]  # fmt: skip


def _published_sizes(source: Path, whole: str, in_domain: tuple[str, ...]) -> dict[str, dict[int, EffectiveSize]]:
    grid, steps = read_grid(source), read_steps(whole)
    cases = list(dict.fromkeys(case for row in steps.values() for case in row))
    inside = tuple(case for case in cases if case.startswith(in_domain))
    groups = {"in domain": inside, "out of domain": tuple(case for case in cases if case not in inside)}
    return {label: effective_sizes_of(grid, steps, group) for label, group in groups.items() if group}


def _joint_claim(joint: Tensor, name: str) -> Evidence:
    """The core in a joint table, against random sets of the same mean sizes."""
    total = int(joint.sum())
    kept = [float((axis * torch.arange(len(axis))).sum()) for axis in (joint.sum(1), joint.sum(0))]
    counts = [len(joint) - 1, joint.shape[1] - 1]
    sizes = [heads / count for heads, count in zip(kept, counts, strict=True) for _ in range(count)]
    return Evidence(
        SYSTEM, "Heads that every published subnetwork keeps (baseline: expected by chance)", "core_heads",
        int(joint[-1, -1]), "heads", n=sum(counts), baseline=chance_size(sizes, total),
        setting=f"{total} heads, {int(joint[0, 0])} in no subnetwork; read from {name}",
    )  # fmt: skip


def _plot_accuracies(run: Run, table: Accuracies, in_domain: tuple[str, ...], name: str) -> None:
    cases = list(dict.fromkeys(case for rows in table.values() for row in rows.values() for case in row))
    inside = [case for case in cases if case.startswith(in_domain)]
    groups = {"in domain": inside, "out of domain": [case for case in cases if case not in inside]}
    draw_spread(run.path, table, cases)
    draw_sparsity(run.path, table, groups)
    seeds = [rows for seed, rows in table.items() if seed != "original"]
    for label, group in groups.items():
        for sparsity in sorted({sparsity for rows in seeds for sparsity in rows}, key=float):
            found = [[rows[sparsity][case] for case in group if case in rows.get(sparsity, {})] for rows in seeds]
            means = [sum(values) / len(values) for values in found if values]
            if means:
                run.record(
                    Evidence(
                        SYSTEM, f"Mean accuracy {label} at {sparsity} % sparsity, read from {name}", "read_accuracy",
                        sum(means) / len(means), "share", "higher", n=len(means),
                    )
                )  # fmt: skip


def export_subnetwork(
    model: str,
    run: str,
    subnetwork: str = "",
    out: str = "runs/subnetwork-export",
    form: Literal["masked", "sliced"] = "masked",
    device: str = "auto",
) -> Run:
    """Write a subnetwork as an ordinary model that transformers loads.

    Shell: glassworks subnetworks export MODEL runs/subnetworks --subnetwork 42-0.5 --out runs/small

    Args:
        model: the classifier that was searched.
        run: folder of subnetworks search.
        subnetwork: which one, as seed-sparsity; default: the first.
        out: folder of the run; the model is in out/model.
        form: masked is always exact and as large as before; sliced removes heads where the family can express it.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, export_subnetwork, arguments) as made:
        chosen = _chosen(Path(run), subnetwork)
        found, about = load_subnetwork(chosen)
        if about["ablation"] == "resample":
            raise OptionError(
                "a resampled unit has no constant to export", place="run", remedy="Search with mean or zero."
            )
        means, prepared = means_of(run, about), prepare(model, device)
        check_model(prepared, about)
        build = masked_model if form == "masked" else sliced_model
        exported = build(prepared.parts, found.mask, means)
        with atomic_write(made.path / "model") as temporary:
            exported.save_pretrained(temporary)
            prepared.tokenizer.save_pretrained(temporary)
        kept = sum(int(parameter.count_nonzero()) for parameter in exported.parameters())
        made.record(
            Evidence(
                SYSTEM, f"Weights that are not zero in subnetwork {chosen.name}", "exported_weights", kept, "weights",
                "none", baseline=sum(int(p.count_nonzero()) for p in prepared.model.parameters()), setting=form,
                model_sha=prepared.sha,
            )
        )  # fmt: skip
    return made


def _chosen(run: Path, subnetwork: str) -> Path:
    """The folder of one subnetwork of a run, the first without a name. Raises DataNotFound, OptionError."""
    there = sorted(path.parent for path in (run / FOLDER).glob(f"*/{MASK}"))
    if not there:
        raise DataNotFound("holds no subnetworks", place=str(run))
    chosen = run / FOLDER / subnetwork if subnetwork else there[0]
    if chosen not in there:
        known = ", ".join(path.name for path in there)
        raise OptionError(f"there is no '{subnetwork}'", place="subnetwork", remedy=f"There is: {known}.")
    return chosen


def _masks(runs: str, shape: str) -> dict[str, list[Tensor]]:
    """Head masks by sparsity, from run folders or from files of unit names."""
    if not all(Path(part.strip()).is_file() for part in runs.split(",")):
        groups: dict[str, list[Tensor]] = {}
        for found, _ in subnetworks_of(runs):
            groups.setdefault(f"{100 * found.sparsity:g} %", []).append(found.mask.heads)
        return groups
    layers, _, heads = shape.partition("x")
    if not (layers.isdigit() and heads.isdigit()):
        raise OptionError(
            "files of names do not say how large the model is", place="shape", remedy="Give --shape 12x12."
        )
    texts = [Path(part.strip()).read_text(encoding="utf-8") for part in runs.split(",")]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return {"all": [UnitMask.from_names(line.split(), int(layers), int(heads)).heads for line in lines]}


def _core_claims(core: Core) -> list[Evidence]:
    total, several = core.heads.numel(), f"{core.subnetworks} subnetworks"
    return [
        Evidence(SYSTEM, "Heads that every subnetwork keeps (baseline: expected by chance)", "core_heads", core.size,
                 "heads", n=core.subnetworks, baseline=core.chance, setting=f"{several}, {total} heads"),
        Evidence(SYSTEM, "Chance of a core as large in random sets of the same sizes", "core_p_value", core.p_value,
                 "", n=core.subnetworks, setting=several),
    ]  # fmt: skip
