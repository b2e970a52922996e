"""Pictures of subnetworks: how often a head is kept, accuracies over seeds, accuracy and size by sparsity and step.

The figures of the Heuristic Core (2024), drawn by `report.figures`. Input: numbers; output: files in a run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from glassworks.circuits.heuristic_core import EffectiveSize
from glassworks.circuits.subnetwork_runs import Accuracies
from glassworks.report.figures import FIGURES_FOLDER, Series, curves, heat_map, save_figure, violins


def draw_frequency(run: Path, frequency: Tensor, subnetworks: int) -> None:
    """Share of subnetworks that keep each head, layer by head."""
    save_figure(
        heat_map(
            frequency.tolist(), row_label="layer", column_label="head", unit="share of subnetworks", value_range=(0, 1)
        ),
        _file(run, "frequency"),
        caption=f"How many of {subnetworks} subnetworks keep each head; 1 is the heuristic core.",
        alt=f"Every subnetwork keeps {int((frequency == 1).sum())} heads; none keeps {int((frequency == 0).sum())}.",
    )


def draw_joint(run: Path, table: Tensor, first: str, second: str) -> None:
    """How many heads are in i subnetworks of one sparsity and j of another."""
    save_figure(
        heat_map(
            table.tolist(), row_label=f"subnetworks at {first}", column_label=f"subnetworks at {second}", unit="heads"
        ),
        _file(run, "joint-frequency"),
        caption=f"Heads by how many subnetworks at {first} and at {second} keep them.",
        alt=f"{int(table[-1, -1])} heads are in all subnetworks of both sparsities, {int(table[0, 0])} in none.",
    )


def draw_spread(run: Path, table: Accuracies, cases: Sequence[str], measure: str = "accuracy") -> None:
    """For each sparsity the accuracies (or AUCs) of the seeds, a row a case, beside the whole model's."""
    whole = next(iter(table.get("original", {}).values()), {})
    for sparsity in sorted({s for seed, rows in table.items() if seed != "original" for s in rows}, key=float):
        found = [rows[sparsity] for seed, rows in table.items() if seed != "original" and sparsity in rows]
        named = {case: case.replace("_", " ") for case in cases}
        groups = {named[case]: values for case in cases if (values := [row[case] for row in found if case in row])}
        if groups:
            save_figure(
                violins(
                    groups, x_label=f"{measure}, a dot a seed", reference_label="the whole model",
                    references={named[case]: value for case, value in whole.items() if named.get(case) in groups},
                ),
                _file(run, f"{measure.lower()}-{sparsity}"),
                caption=f"Subnetworks without {sparsity} % of the units, seed by seed: {measure}.",
                alt="; ".join(f"{case}: {min(v):.2f} to {max(v):.2f}" for case, v in groups.items()) + ".",
            )  # fmt: skip


def draw_sparsity(run: Path, table: Accuracies, groups: Mapping[str, Sequence[str]]) -> None:
    """Mean accuracy of each group of cases against sparsity, the band being the range over seeds."""
    lines = []
    for label, cases in groups.items():
        by_sparsity: dict[float, list[float]] = {}
        for rows in table.values():
            for sparsity, row in rows.items():
                values = [row[case] for case in cases if case in row]
                if values:
                    by_sparsity.setdefault(float(sparsity), []).append(sum(values) / len(values))
        if len(by_sparsity) > 1:
            x = sorted(by_sparsity)
            y = [sum(by_sparsity[s]) / len(by_sparsity[s]) for s in x]
            lines.append(Series(label, x, y, [min(by_sparsity[s]) for s in x], [max(by_sparsity[s]) for s in x]))
    if lines:
        save_figure(
            curves(lines, x_label="units removed, %", y_label="accuracy", y_range=(0, 1.02)),
            _file(run, "accuracy-against-sparsity"),
            caption="Accuracy against the share of units removed; bands are the range over seeds.",
            alt="; ".join(f"{line.label}: {line.y[0]:.2f} at {line.x[0]:g} %, {line.y[-1]:.2f} at {line.x[-1]:g} %"
                          for line in lines) + ".",
        )  # fmt: skip


def draw_effective_sizes(run: Path, sizes: Mapping[str, Mapping[int, EffectiveSize]]) -> None:
    """Effective size in and out of domain against the training step."""
    lines = [
        Series(label, sorted(by_step), [by_step[step].official for step in sorted(by_step)])
        for label, by_step in sizes.items()
        if by_step
    ]
    if lines:
        save_figure(
            curves(lines, x_label="training step", y_label="effective size, % of units", y_range=(0, 105)),
            _file(run, "effective-size"),
            caption="Share of units that a faithful subnetwork needs, at each checkpoint.",
            alt="; ".join(f"{line.label}: {line.y[0]:g} % at step {line.x[0]}, {line.y[-1]:g} % at step {line.x[-1]}"
                          for line in lines) + ".",
        )  # fmt: skip


def draw_ablations(run: Path, drops: Tensor) -> None:
    """What accuracy in domain loses when one head is ablated, layer by head, in points."""
    save_figure(
        heat_map(drops.tolist(), row_label="layer", column_label="head", unit="accuracy lost, points"),
        _file(run, "ablations"),
        caption="Accuracy in domain that is lost when one head alone is ablated.",
        alt=f"The largest loss is {float(drops.max()):.1f} points, the mean {float(drops.mean()):.1f}.",
    )


def _file(run: Path, name: str) -> Path:
    return run / FIGURES_FOLDER / f"{name}.svg"
