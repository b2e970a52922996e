"""Plots of results: plain numbers in, a matplotlib Figure out, with units on the axes and labels on the lines.

Each function is pure and draws one kind of figure: `forest` (estimates with intervals), `curves` (lines with
bands, among them `recall_at_k`), `densities` and `violins` (distributions), `slopes` (before and after, pair by pair)
and `heat_map` (layer by head). They are drawn 360 pixels wide, the width of a phone, so text keeps its size there.

The convention that reports rely on: a stage calls ``save_figure(figure, run.path / "figures" / "name.svg",
caption=..., alt=...)``; caption and alt travel inside the SVG as title and description, and `find_figures` lists a
stage's figures by name. Colours follow the reader's theme (see svg.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mlab import GaussianKDE
from matplotlib.patches import Rectangle

from glassworks.foundations.files import write_text
from glassworks.report.svg import SERIES, STYLE, THEME, themed
from glassworks.report.tables import number, places

FIGURES_FOLDER = "figures"
WIDTH = 360 / 72  # inches; 72 points an inch, one point a pixel
INK, MUTED, RULE, PAPER = (THEME[name][0] for name in ("ink", "muted", "rule", "paper"))


class Point(NamedTuple):
    """One estimate of a forest plot. low, high: ends of its interval, if it has one; n: items measured."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Series(NamedTuple):
    """One line: x, y [points] and, if there is a band, its ends low, high [points]."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def save_figure(figure: Figure, path: Path, *, caption: str, alt: str) -> Path:
    """Write a figure as theme-following SVG, atomically, and return its path.

    caption: one sentence for every reader. alt: what the figure shows, for a reader who cannot see it.
    Raises ValueError where either is empty or the name does not end in .svg.
    """
    if not caption.strip() or not alt.strip() or path.suffix != ".svg":
        raise ValueError(f"{path}: a figure needs a caption, an alt text and a name that ends in .svg")
    write_text(path, themed(figure, caption=caption, alt=alt))
    return path


def find_figures(folder: Path) -> list[Path]:
    """The SVG figures that a stage left in `folder`/figures, by name."""
    return sorted((folder / FIGURES_FOLDER).glob("*.svg"))


def forest(
    points: Sequence[Point], *, x_label: str, baseline: float | None = None, baseline_label: str = "baseline"
) -> Figure:
    """Estimates with their intervals, one row each from the top, against a baseline.

    x_label: quantity and unit. The numbers stand at the right of each row, n among them.
    """
    with _canvas(height=64 + 40 * len(points)) as (figure, axes):
        for row, point in enumerate(points):
            low, high = _ends(point)
            axes.plot([low, high], [row, row], color=SERIES[0], linewidth=5, alpha=0.35, gid=f"interval-{row}")
            axes.plot([point.value], [row], "o", color=SERIES[0], markersize=6, gid=f"point-{row}")
            axes.annotate(
                f"{point.label}  ", (0, row), (0, 11), xycoords=axes.get_yaxis_transform(), textcoords="offset points"
            )
            axes.annotate(
                _written(point), (1, row), (0, 11), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", ha="right", color=MUTED, fontsize=10,
            )  # fmt: skip
        if baseline is not None:
            for row in range(len(points)):  # a tick a row: a line through all rows would cross the labels
                axes.plot([baseline] * 2, [row - 0.13, row + 0.22], color=INK, linewidth=1.4, gid=f"baseline-{row}")
            axes.annotate(
                f"{baseline_label} {baseline:.3g}", (baseline, len(points) - 1), (0, -22),
                textcoords="offset points", ha="center", fontsize=10, color=INK,
            )  # fmt: skip
        axes.set_ylim(len(points) - (0.6 if baseline is None else 0.3), -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_xlabel(x_label)
    return figure


def curves(
    series: Sequence[Series], *, x_label: str, y_label: str, log_x: bool = False,
    y_range: tuple[float, float] | None = None, reference: float | None = None, reference_label: str = "",
) -> Figure:  # fmt: skip
    """Lines with their bands, each labelled at its end; `reference` is a level to compare with.

    series: up to five; labels hold quantity and unit. log_x: steps or sizes that double.
    """
    _refuse_too_many(len(series))
    with _canvas(height=250) as (figure, axes):
        for at, (colour, line) in enumerate(zip(SERIES, series, strict=False)):
            axes.plot(line.x, line.y, color=colour, gid=f"line-{at}", marker="o" if len(line.x) < 12 else "")
            axes.lines[-1].set_markersize(4)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0, gid=f"band-{at}")
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=1, linestyle=(0, (3, 2)), gid="reference")
            axes.annotate(
                reference_label, (0, reference), (3, 4), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", fontsize=10,
            )  # fmt: skip
        if log_x:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.minorticks_off()
        if y_range is not None:
            axes.set_ylim(*y_range)
        _label_axes(axes, x_label, y_label)
        _label_ends(axes, [(line.label, line.x[-1], line.y[-1]) for line in series])
    return figure


def recall_at_k(series: Sequence[Series], *, measured: str = "questions", metric: str = "Recall@k") -> Figure:
    """Share of `measured` items (0 to 1) found among the first k passages, one line a retriever, k doubling."""
    ks = sorted({int(k) for line in series for k in line.x})
    figure = curves(
        series, x_label="k, passages retrieved", y_label=f"{metric}, share of {measured}", log_x=True, y_range=(0, 1)
    )
    axes = figure.axes[0]
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_ylim(0, 1.02)
    return figure


def densities(
    groups: Mapping[str, Sequence[float]], *, x_label: str, reference: float | None = None, reference_label: str = ""
) -> Figure:
    """Distributions of up to five groups as outlines over the same bins; areas are 1, so groups of any n compare.

    groups: name -> values [n], all finite. reference: a value to mark on the axis, such as a target margin.
    """
    _refuse_too_many(len(groups))
    pooled = np.concatenate([np.asarray(values, dtype=float) for values in groups.values()])
    edges = np.histogram_bin_edges(pooled, bins=min(40, max(8, int(np.sqrt(len(pooled))))))
    with _canvas(height=230) as (figure, axes):
        tops = []
        for at, (colour, (name, values)) in enumerate(zip(SERIES, groups.items(), strict=False)):
            heights, _ = np.histogram(values, bins=edges, density=True)
            axes.stairs(heights, edges, color=colour, linewidth=1.6, gid=f"outline-{at}")
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.14, linewidth=0, gid=f"area-{at}")
            peak = int(np.argmax(heights))
            tops.append((f"{name} (n = {len(values)})", colour, (edges[peak] + edges[peak + 1]) / 2, heights[peak]))
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=1, linestyle=(0, (3, 2)), gid="reference")
            axes.annotate(
                f"{reference_label} {reference:.3g}".strip(), (reference, 1), (3, -10),
                xycoords=axes.get_xaxis_transform(), textcoords="offset points", fontsize=10,
            )  # fmt: skip
        axes.set_ylim(0, 1.35 * max(top for *_, top in tops))
        for row, (label, colour, _, _) in enumerate(sorted(tops, key=lambda top: top[2])):
            axes.annotate(
                label, (1, 1), (0, -24 - 14 * row), xycoords="axes fraction", textcoords="offset points",
                ha="right", color=colour,
            )  # fmt: skip
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _label_axes(axes, x_label, "density (area 1)")
    return figure


def violins(
    groups: Mapping[str, Sequence[float]], *, x_label: str, references: Mapping[str, float] | None = None,
    reference_label: str = "",
) -> Figure:  # fmt: skip
    """How a few measured values spread in each group: a row from the top, every value a dot, the mean a stroke.

    groups: name -> values [n], all finite. From five values on, the outline is their density (Gaussian kernel of
    Scott's width), which ends at the lowest and highest value; each is as thick as the next at its peak. references:
    name -> a value to compare with, a dark tick. Mean and range stand at the right.
    """
    references = references or {}
    with _canvas(height=72 + 50 * len(groups)) as (figure, axes):
        for row, (name, values) in enumerate(groups.items()):
            _draw_violin(axes, row, np.sort(np.asarray(values, dtype=float)))
            for words, at, align in ((name, 0, "left"), (_spread_text(values), 1, "right")):
                axes.annotate(
                    words, (at, row), (0, 16), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                    ha=align, color=INK if at == 0 else MUTED, fontsize=None if at == 0 else 10,
                )  # fmt: skip
            if name in references:
                axes.plot([references[name]] * 2, [row - 0.22, row + 0.26], color=INK, linewidth=1.4,
                          gid=f"reference-{row}")  # fmt: skip
        axes.set_ylim(len(groups) - 0.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.04)
        axes.set_xlabel(f"{x_label}\nstroke: mean" + (f"; dark tick: {reference_label}" if references else ""))
    return figure


def slopes(before: Sequence[float], after: Sequence[float], *, labels: tuple[str, str], y_label: str) -> Figure:
    """The same items before and after, one thin line each, with the means drawn over them.

    before, after: [items] in the same order and unit; labels: names of the two states.
    """
    if len(before) != len(after):
        raise ValueError(f"paired slopes need as many values after ({len(after)}) as before ({len(before)})")
    with _canvas(height=280) as (figure, axes):
        for item, (start, end) in enumerate(zip(before, after, strict=True)):
            colour = SERIES[0] if end >= start else SERIES[1]
            axes.plot([0, 1], [start, end], color=colour, linewidth=0.9, alpha=0.5, gid=f"pair-{item}")
        means = (float(np.mean(before)), float(np.mean(after)))
        axes.plot([0, 1], means, "o-", color=INK, linewidth=2.4, gid="mean")
        for x, mean, side, align in ((0, means[0], -8, "right"), (1, means[1], 8, "left")):
            axes.annotate(
                f"mean {mean:.3g}", (x, mean), (side, 0), textcoords="offset points", ha=align, va="center", color=INK
            )
        axes.set_xlim(-0.45, 1.45)
        axes.set_xticks([0, 1], labels)
        axes.tick_params(axis="x", length=0)
        rose = sum(end > start for start, end in zip(before, after, strict=True))
        _label_axes(axes, f"n = {len(before)} pairs, {rose} rose", y_label)
    return figure


def heat_map(
    values: Sequence[Sequence[float]], *, row_label: str, column_label: str, unit: str,
    value_range: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """A grid of values, such as layer by head, as shades of one colour; negative values in a second colour.

    values: [rows, columns]; unit: quantity and unit, beside the scale. value_range: ends of the scale; by default
    from 0 (or the lowest value, if negative) to the largest. Values are written in when the grid is small.
    """
    grid = np.asarray(values, dtype=float)
    rows, columns = grid.shape
    low, high = value_range or (min(0.0, float(grid.min())), max(0.0, float(grid.max())))
    strongest = max(abs(low), abs(high)) or 1.0
    written = columns <= 8 and rows <= 16
    strongest /= 0.55 if written else 1  # figures on a cell stay legible on either ground
    with _canvas(height=max(60, rows * min(300 / columns, 420 / rows, 34)) + 84, key=True) as (figure, axes):
        for row, column in np.ndindex(rows, columns):
            value = float(grid[row, column])
            axes.add_patch(_shade(column - 0.5, row - 0.5, value / strongest, gid=f"cell-{row}-{column}"))
            if written:
                axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=10)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
            axis.set_ticks(range(0, count, max(1, count // 8)))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        _label_axes(axes, column_label, row_label)
        _draw_key(figure.axes[1], np.linspace(low, high, 8), strongest, unit)
    return figure


def _shade(x: float, y: float, share: float, *, gid: str) -> Rectangle:
    """A unit cell whose opacity is |share|, in the second colour where share is negative: it works on any ground."""
    colour = SERIES[0] if share >= 0 else SERIES[1]
    return Rectangle((x, y), 1, 1, facecolor=colour, alpha=min(1.0, abs(share)), linewidth=0, gid=gid, clip_on=False)


def _draw_key(key: Axes, steps: np.ndarray, strongest: float, unit: str) -> None:
    """The scale of a heat map: shades for `steps` [shades], both ends written, and the unit."""
    for at, value in enumerate(steps):
        key.add_patch(_shade(at, 0, float(value) / strongest, gid=f"key-{at}"))
    key.set_xlim(0, len(steps))
    key.set_ylim(0, 1)
    key.set_xticks([0, len(steps)], [f"{steps[0]:.3g}", f"{steps[-1]:.3g}"])
    key.set_yticks([])
    key.tick_params(length=0)
    key.set_title(unit, loc="left", color=MUTED, fontsize=10, pad=4)
    key.spines[:].set_visible(True)
    key.spines[:].set_color(RULE)


@contextmanager
def _canvas(height: float, key: bool = False) -> Iterator[tuple[Figure, Axes]]:
    """A figure of the house width, `height` pixels tall, in the house style; `key` adds small axes above it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height / 72), layout="constrained")
        if key:
            grid = figure.add_gridspec(2, 2, height_ratios=(8, height - 84), width_ratios=(2, 3))
            axes = figure.add_subplot(grid[1, :])
            figure.add_subplot(grid[0, 0])
        else:
            axes = figure.add_subplot()
        yield figure, axes
        figure.draw_without_rendering()  # settles the layout while the style holds
        figure.set_layout_engine("none")


def _label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Name both axes; the vertical one reads horizontally, above its top, where nobody has to tilt the head."""
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", color=MUTED, pad=8)


def _label_ends(axes: Axes, ends: Sequence[tuple[str, float, float]]) -> None:
    """Write each line's label at its right end, moved apart vertically where two would overlap."""
    low, high = axes.get_ylim()
    gap = 13 / 170 * (high - low)  # a line of text, in data units of the usual plot height
    placed = -np.inf
    for at, (label, x, y) in sorted(enumerate(ends), key=lambda item: item[1][2]):
        placed = max(y, placed + gap)
        axes.annotate(
            f"{label} {y:.3g}", (x, y), xytext=(8, (placed - y) / (high - low) * 170), textcoords="offset points",
            va="center", color=SERIES[at], annotation_clip=False,
        )  # fmt: skip


def _draw_violin(axes: Axes, row: int, values: np.ndarray) -> None:
    """Dots, mean and, from five different values on, the outline of sorted `values` [n] around the height `row`."""
    if len(values) >= 5 and values[0] < values[-1]:
        x = np.linspace(values[0], values[-1], 80)
        density = GaussianKDE(values).evaluate(x)
        half = 0.24 * density / density.max()
        axes.fill_between(x, row - half, row + half, color=SERIES[0], alpha=0.2, linewidth=0, gid=f"violin-{row}")
    else:
        axes.plot([values[0], values[-1]], [row, row], color=SERIES[0], linewidth=5, alpha=0.2, gid=f"range-{row}")
    axes.plot(values, np.full(len(values), row), "o", color=SERIES[0], markersize=4.5, alpha=0.75, gid=f"values-{row}")
    axes.plot([values.mean()] * 2, [row - 0.2, row + 0.2], color=SERIES[0], linewidth=2.2, gid=f"mean-{row}")


def _spread_text(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    decimals = places(low, (low, high))
    mean = sum(values) / len(values)
    return f"{number(mean, decimals)}  [{number(low, decimals)}, {number(high, decimals)}]  n = {len(values)}"


def _written(point: Point) -> str:
    """A point's value, interval and n, with the decimals its interval supports."""
    if point.low is None or point.high is None:
        text = number(point.value, places(point.value, None))
    else:
        decimals = places(point.value, (point.low, point.high))
        value, low, high = (number(figure, decimals) for figure in (point.value, point.low, point.high))
        text = f"{value}  [{low}, {high}]"
    return text if point.n is None else f"{text}  n = {point.n}"


def _ends(point: Point) -> tuple[float, float]:
    return (
        point.value if point.low is None else point.low,
        point.value if point.high is None else point.high,
    )


def _refuse_too_many(count: int) -> None:
    if not 1 <= count <= len(SERIES):
        raise ValueError(f"a figure shows 1 to {len(SERIES)} series that a reader can tell apart, not {count}")
