"""Verb `prefs compare`: which of several `align` runs is better, on the same held-out pairs and prompts?

Question: how do methods or settings compare when everything else is equal (SimPO paper, tables of all methods; curves
over gamma / beta)? Input: finished runs of `align` that share model, data, split and trial. Output: a table, one
figure a measure, paired differences of rewards against the first run with Holm-corrected p-values and, where one
numeric setting differs, curves over it. Runs that differ in anything else are refused. Trains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.evidence import EVIDENCE_FILE, Evidence, read_evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.runs import CONFIG, Run, read_manifest
from glassworks.foundations.statistics import holm, paired_difference
from glassworks.preference.trial import SAMPLES
from glassworks.report.figures import FIGURES_FOLDER, Point, Series, curves, forest, save_figure

TABLE = "comparison.md"
EQUAL = ("model", "data", "pairs", "held_out", "seed", "trial")
"""Options of `align` that must be the same, or the runs were not measured on the same pairs and prompts."""

MEASURES = {
    "held_out_win_rate": ("Win rate against the start", "held-out prompts won against the start model, %", 50.0),
    "held_out_reward": ("Mean reward", "mean reward of held-out answers", None),
    "reward_accuracy": ("Reward accuracy", "held-out pairs ordered by implicit reward, share", 0.5),
    "likelihood_accuracy": ("Likelihood accuracy", "held-out pairs ordered by likelihood, share", None),
    "chosen_log_prob_change": ("Change of chosen", "change of chosen responses' mean log-prob, nats a token", 0.0),
    "length_correlation": ("Correlation with length", "rank correlation of likelihood and length", None),
}
"""Metric of `align` -> its name in the table, its axis, what it is compared with."""


class Finished(NamedTuple):
    """A run of `align`: how it is called in tables, its options, its evidence by metric, rewards by prompt."""

    label: str
    config: dict[str, Any]
    evidence: dict[str, Evidence]
    rewards: dict[str, float]


def prefs_compare(runs: list[str], out: str = "runs/prefs-compare", by: str = "") -> Run:
    """Compare aligned models that differ in method or settings, on the same held-out pairs and prompts.

    Shell: glassworks prefs compare [runs/simpo,runs/dpo,runs/orpo] --out runs/methods

    Args:
        runs: Run folders of `align`, at least two; differences are taken against the first.
        out: The run folder.
        by: The numeric option that the runs differ in, such as settings.gamma_beta_ratio, for curves over it.
    """
    arguments = dict(locals())
    with Run.start(out, prefs_compare, arguments) as run:
        if len(runs) < 2:
            raise OptionError(f"expected at least two, received {len(runs)}", place="runs")
        finished = _labelled([_read(Path(folder)) for folder in runs])
        _refuse_unequal(finished, runs)
        over = [_value_of(one.config, by) for one in finished] if by else []
        write_text(run.path / TABLE, _table(finished))
        run.record(*reward_differences(finished))
        _draw_measures(run, finished)
        if by:
            _draw_by(run, finished, by, over)
    return run


def reward_differences(finished: Sequence[Finished]) -> list[Evidence]:
    """Each run's rewards minus the first one's, prompt by prompt; p-values are Holm's over all of them."""
    first, *others = finished
    compared = [one for one in others if one.rewards and one.rewards.keys() == first.rewards.keys()]
    results = [
        paired_difference([one.rewards[prompt] for prompt in first.rewards], list(first.rewards.values()))
        for one in compared
    ]
    corrected = holm([result.p_value for result in results]) if results else []
    return [
        Evidence(
            "preference", f"Mean reward of held-out answers: {one.label} minus {first.label}", "reward_difference",
            result.difference, "", "higher", (float(result.interval.low), float(result.interval.high)),
            len(first.rewards), 0.0, f"p = {p:.3g} after Holm's correction over {len(results)}", artefact=TABLE,
        )
        for one, result, p in zip(compared, results, corrected, strict=True)
    ]  # fmt: skip


def _read(folder: Path) -> Finished:
    """A finished run of `align`. Raises DataNotFound for a folder that is none."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("verb") != "align" or manifest.get("status") != "finished":
        raise DataNotFound("is no finished run of align", place=str(folder), remedy="Give its run folder.")
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    rewards: dict[str, float] = {}
    if (folder / SAMPLES).is_file():
        rows = [json.loads(line) for line in (folder / SAMPLES).read_text(encoding="utf-8").splitlines()]
        rewards = {f"{number}: {row['question']}": float(row["reward"]) for number, row in enumerate(rows)}
    settings = ", ".join(f"{name} {value}" for name, value in config["settings"].items())
    label = f"{config['method']} ({settings})" if settings else config["method"]
    return Finished(label, config, {one.metric: one for one in read_evidence(folder / EVIDENCE_FILE)}, rewards)


def _labelled(finished: Sequence[Finished]) -> list[Finished]:
    """The same with labels that are distinct: equal ones get the learning rate, then a number."""
    named: list[Finished] = []
    for one in finished:
        label = one.label
        if sum(other.label == label for other in finished) > 1:
            label = f"{label}, rate {one.config['optimisation']['learning_rate']:g}"
        taken = sum(other.label.partition(" #")[0] == label for other in named)
        named.append(one._replace(label=f"{label} #{taken + 1}" if taken else label))
    return named


def _refuse_unequal(finished: Sequence[Finished], folders: Sequence[str]) -> None:
    for one, folder in zip(finished[1:], folders[1:], strict=True):
        for name in EQUAL:
            if one.config.get(name) != finished[0].config.get(name):
                raise OptionError(
                    f"{folder} has {name} = {one.config.get(name)}, {folders[0]} has {finished[0].config.get(name)}",
                    place="runs", remedy="Compare runs on the same model, data, split and trial.",
                )  # fmt: skip


def _table(finished: Sequence[Finished]) -> str:
    """Markdown: a run a row, a measure a column, intervals in brackets."""
    shown = {metric: words[0] for metric, words in MEASURES.items() if any(metric in one.evidence for one in finished)}
    lines = ["| run | " + " | ".join(shown.values()) + " |", "|---" * (len(shown) + 1) + "|"]
    for one in finished:
        cells = [_cell(one.evidence.get(metric)) for metric in shown]
        lines.append(f"| {one.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(evidence: Evidence | None) -> str:
    if evidence is None:
        return "-"
    interval = "" if evidence.interval is None else " [{:.3g}, {:.3g}]".format(*evidence.interval)
    return f"{evidence.value:.3g}{interval}"


def _draw_measures(run: Run, finished: Sequence[Finished]) -> None:
    for metric, (name, axis, baseline) in MEASURES.items():
        found = [(one.label, one.evidence[metric]) for one in finished if metric in one.evidence]
        if len(found) < 2:
            continue
        points = []
        for label, item in found:
            low, high = item.interval or (None, None)
            points.append(Point(label, item.value, low, high, item.n))
        save_figure(
            forest(points, x_label=axis, baseline=baseline, baseline_label=""),
            run.path / FIGURES_FOLDER / f"{metric}.svg",
            caption=f"{name} of {len(points)} runs on the same held-out data, with 95 % intervals.",
            alt="; ".join(f"{point.label} {point.value:.3g}" for point in points) + ".",
        )


def _draw_by(run: Run, finished: Sequence[Finished], by: str, over: Sequence[float]) -> None:
    """Win rate and reward accuracy over one setting, as shares on one axis. over: each run's value of it."""
    at = sorted(zip(over, finished, strict=True), key=lambda item: item[0])
    lines = []
    for metric, label, scale in (("held_out_win_rate", "win rate", 0.01), ("reward_accuracy", "reward accuracy", 1.0)):
        found = [(x, one.evidence[metric]) for x, one in at if metric in one.evidence]
        if len(found) == len(at):
            ends = [item.interval or (item.value, item.value) for _, item in found]
            lines.append(Series(label, [x for x, _ in found], [scale * item.value for _, item in found],
                                [scale * low for low, _ in ends], [scale * high for _, high in ends]))  # fmt: skip
    save_figure(
        curves(lines, x_label=by.rpartition(".")[2].replace("_", " "), y_label="share"),
        run.path / FIGURES_FOLDER / "by_setting.svg",
        caption=f"Held-out measures over {by}, with 95 % intervals.",
        alt="; ".join(f"{line.label}: " + ", ".join(f"{y:.2g} at {x:g}" for x, y in zip(line.x, line.y, strict=True))
                      for line in lines) + ".",
    )  # fmt: skip


def _value_of(config: Mapping[str, Any], by: str) -> float:
    """The number at a dotted option. Raises OptionError where a run has none there."""
    value: Any = config
    for part in by.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"a run has {value!r} there, not a number", place=f"by {by}",
                          remedy="Name an option that each run was given, such as settings.beta.")  # fmt: skip
    return float(value)
