"""Plots, read back from their SVG: positions follow values, units are on the axes, bytes repeat."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from glassworks.report.figures import (
    Point,
    Series,
    curves,
    densities,
    find_figures,
    forest,
    heat_map,
    recall_at_k,
    save_figure,
    slopes,
    violins,
)
from glassworks.report.svg import SERIES, SVG, themed

POINTS = (Point("hybrid", 0.8, 0.7, 0.9, 120), Point("BM25 ($k_1$)", 0.6, 0.5, 0.7, 120), Point("bare", 0.5))
LINES = (
    Series("trained", (0, 10, 20), (3.0, 2.0, 1.5), (2.9, 1.9, 1.4), (3.1, 2.1, 1.6)),
    Series("held out", (0, 10, 20), (3.1, 2.4, 2.0)),
)
SPREADS = {"swap": [0.1, 0.2, 0.2, 0.3, 0.7], "prep": [0.4, 0.6]}
FIGURES: dict[str, Callable[[], Figure]] = {
    "forest": lambda: forest(POINTS, x_label="recall@5, share of questions", baseline=0.65),
    "curves": lambda: curves(LINES, x_label="optimiser step", y_label="loss, nats a token", reference=2.5),
    "recall": lambda: recall_at_k([Series("hybrid", (1, 5, 20), (0.5, 0.8, 0.9))]),
    "densities": lambda: densities({"before": [0.0, 1, 1, 2], "after": [1.0, 2, 2, 3]}, x_label="margin, nats"),
    "violins": lambda: violins(SPREADS, x_label="accuracy, a dot a seed", references={"swap": 0.9}),
    "slopes": lambda: slopes([0.2, 0.4], [0.5, 0.3], labels=("dense", "sparse"), y_label="accuracy, share"),
    "heat": lambda: heat_map([[0.0, 0.5], [1.0, -0.25]], row_label="layer", column_label="head", unit="effect, points"),
}
UNITS = {
    "forest": ("recall@5, share of questions",),
    "curves": ("optimiser step", "loss, nats a token"),
    "recall": ("k, passages retrieved", "Recall@k, share of questions"),
    "densities": ("margin, nats", "density (area 1)"),
    "violins": ("accuracy, a dot a seed", "swap", "prep"),
    "slopes": ("accuracy, share", "n = 2 pairs, 1 rose"),
    "heat": ("layer", "head", "effect, points"),
}


def drawn(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(themed(figure, caption="caption", alt="alt"))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{{{SVG}}}text")]


def points_of(root: ElementTree.Element, gid: str) -> list[tuple[float, float]]:
    """The coordinates of what carries this id: of its path, or of the mark that it places."""
    group = root.find(f".//*[@id='{gid}']")
    assert group is not None, gid
    path = group.find(f"{{{SVG}}}path")
    if path is None:
        use = next(group.iter(f"{{{SVG}}}use"))
        return [(float(use.get("x", "nan")), float(use.get("y", "nan")))]
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d", ""))]


def band_of(root: ElementTree.Element, gid: str) -> list[float]:
    """The heights of a band's corners; matplotlib draws it from a definition that it places by an offset."""
    path, use = root.find(f".//*[@id='{gid}']//{{{SVG}}}path"), root.find(f".//*[@id='{gid}']//{{{SVG}}}use")
    assert path is not None
    assert use is not None
    return [float(y) + float(use.get("y", "0")) for y in re.findall(r"[ML] -?[\d.]+ (-?[\d.]+)", path.get("d", ""))]


def style_of(root: ElementTree.Element, gid: str) -> str:
    group = root.find(f".//*[@id='{gid}']")
    assert group is not None
    return next(element.get("style", "") for element in group.iter(f"{{{SVG}}}path"))


@pytest.mark.parametrize("kind", FIGURES)
def test_every_kind_names_quantities_and_units_and_is_as_wide_as_a_phone(kind: str) -> None:
    root = drawn(FIGURES[kind]())
    assert set(UNITS[kind]) <= set(texts(root))
    assert root.get("viewBox", "").startswith("0 0 360 ")


@pytest.mark.parametrize("kind", FIGURES)
def test_the_same_values_give_the_same_bytes(kind: str) -> None:
    first, second = (themed(FIGURES[kind](), caption="c", alt="a") for _ in range(2))
    assert first == second


def test_forest_places_points_in_their_intervals_and_baselines_to_scale() -> None:
    root = drawn(FIGURES["forest"]())
    (left, _), (right, _) = points_of(root, "interval-0")
    ((middle, row),) = points_of(root, "point-0")
    assert left < middle < right
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    pixels = (right - left) / 0.2  # 0.7 to 0.9
    assert points_of(root, "baseline-0")[0][0] == pytest.approx(middle - 0.15 * pixels, abs=0.1)
    assert points_of(root, "point-1")[0][1] > row  # the second row is below the first
    assert {"0.80  [0.70, 0.90]  n = 120", "0.500", "baseline 0.65"} <= set(texts(root))


def test_a_label_with_dollar_signs_is_text_and_not_mathematics() -> None:
    assert any("BM25 ($k_1$)" in text for text in texts(drawn(FIGURES["forest"]())))


def test_curves_rise_with_their_values_and_carry_their_labels_at_the_end() -> None:
    root = drawn(FIGURES["curves"]())
    line = points_of(root, "line-0")
    assert line[0][1] < line[1][1] < line[2][1]  # the loss falls; SVG's y grows downwards
    assert line[1][0] == pytest.approx((line[0][0] + line[2][0]) / 2, abs=0.1)
    band = band_of(root, "band-0")
    assert min(band) < line[2][1] < max(band)
    assert min(band) == pytest.approx(line[0][1] - (line[1][1] - line[0][1]) / 10, abs=0.1)  # 3.1, a tenth above 3.0
    assert {"trained 1.5", "held out 2"} <= set(texts(root))


def test_labels_at_line_ends_never_overlap() -> None:
    same = [Series(name, (0, 1), (0.0, 1.0)) for name in ("first", "second", "third")]
    root = drawn(curves(same, x_label="x", y_label="y"))
    heights = sorted(
        float(element.get("y", "nan"))
        for element in root.iter(f"{{{SVG}}}text")
        if "".join(element.itertext()).startswith(("first", "second", "third"))
    )
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 11


def test_recall_marks_every_k_measured_on_a_share_axis() -> None:
    root = drawn(FIGURES["recall"]())
    assert {"1", "5", "20", "0.0", "1.0"} <= set(texts(root))


def test_density_outlines_have_area_one() -> None:
    figure = densities({"a": [0.0, 0.1, 0.9, 1.0], "b": [2.0, 3.0]}, x_label="x")
    for patch in figure.axes[0].patches[::2]:
        heights, edges = patch.get_data().values, patch.get_data().edges
        assert sum(heights * (edges[1:] - edges[:-1])) == pytest.approx(1.0)


def test_violins_draw_every_value_and_end_at_the_outermost() -> None:
    root = drawn(FIGURES["violins"]())
    dots = [float(use.get("x", "nan")) for use in root.iterfind(f".//*[@id='values-0']//{{{SVG}}}use")]
    path = root.find(f".//*[@id='violin-0']//{{{SVG}}}path")
    assert path is not None
    outline = [float(x) for x in re.findall(r"[ML] (-?[\d.]+) -?[\d.]+", path.get("d", ""))]
    assert len(dots) == 5
    assert (min(outline), max(outline)) == pytest.approx((min(dots), max(dots)), abs=0.02)
    (mean, _), *_ = points_of(root, "mean-0")
    (reference, _), *_ = points_of(root, "reference-0")
    scale = (max(dots) - min(dots)) / 0.6
    assert (mean - min(dots)) / scale == pytest.approx(0.2, abs=0.01)  # the mean is 0.3
    assert (reference - min(dots)) / scale == pytest.approx(0.8, abs=0.01)
    assert root.find(".//*[@id='violin-1']") is None  # two values have no density
    assert "0.30  [0.10, 0.70]  n = 5" in texts(root)


def test_slopes_colour_what_rose_and_what_fell_and_draw_the_means() -> None:
    root = drawn(FIGURES["slopes"]())
    assert SERIES[0] in style_of(root, "pair-0")
    assert SERIES[1] in style_of(root, "pair-1")
    assert {"mean 0.3", "mean 0.4"} <= set(texts(root))


def test_heat_map_opacity_is_the_share_of_the_strongest_and_hue_its_sign() -> None:
    grid = [[0.0, 0.5] + [0.1] * 8, [1.0, -0.25] + [0.1] * 8]  # ten columns: too many to write figures in
    root = drawn(heat_map(grid, row_label="layer", column_label="head", unit="points"))
    assert "opacity: 0.5" in style_of(root, "cell-0-1")
    assert SERIES[0] in style_of(root, "cell-1-0")
    assert "opacity: 0.25" in style_of(root, "cell-1-1")
    assert SERIES[1] in style_of(root, "cell-1-1")
    assert {"-0.25", "1"} <= set(texts(root))  # the ends of the scale


def test_small_heat_maps_have_their_figures_written_in() -> None:
    assert {"0.5", "1", "-0.25"} <= set(texts(drawn(FIGURES["heat"]())))


def test_saved_figures_are_found_by_name_with_caption_and_alt(tmp_path: Path) -> None:
    for name in ("b", "a"):
        save_figure(FIGURES["recall"](), tmp_path / "figures" / f"{name}.svg", caption="More is found.", alt="Rises.")
    assert [file.name for file in find_figures(tmp_path)] == ["a.svg", "b.svg"]
    assert "<title>More is found.</title><desc>Rises.</desc>" in (tmp_path / "figures" / "a.svg").read_text()
    assert not [file for file in tmp_path.rglob("*") if "partial" in file.name]


@pytest.mark.parametrize(("name", "caption", "alt"), [("a.png", "c", "a"), ("a.svg", " ", "a"), ("a.svg", "c", "")])
def test_a_figure_without_words_is_refused(tmp_path: Path, name: str, caption: str, alt: str) -> None:
    with pytest.raises(ValueError, match="caption, an alt text"):
        save_figure(FIGURES["recall"](), tmp_path / name, caption=caption, alt=alt)


def test_more_lines_than_a_reader_can_tell_apart_and_unpaired_slopes_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 5 series"):
        curves([LINES[0]] * 6, x_label="x", y_label="y")
    with pytest.raises(ValueError, match=r"after \(1\) as before \(2\)"):
        slopes([1.0, 2.0], [1.0], labels=("a", "b"), y_label="y")
