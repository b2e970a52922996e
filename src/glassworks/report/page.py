"""One self-contained HTML page of evidence: readable on a phone, in the dark, on paper and by a screen reader.

`render` is a pure function of plain values: a Page of sections, each with claims, pictures and sample answers. All
text is data and is escaped; the content security policy allows no script, no request and no font from outside. The
page knows no run folder and no clock (dossier.py gathers), so the same values give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from glassworks.foundations.evidence import Evidence
from glassworks.report.svg import Picture, theme_css
from glassworks.report.tables import Verdict, confidence, decimals, n_text, number, reading
from glassworks.report.tables import places as _places

FOLDER = Path(__file__).parent


class Named(NamedTuple):
    """A value of the header with its content fingerprint, if it has one."""

    text: str
    sha: str = ""


class Fact(NamedTuple):
    """One entry of the header: what was examined, when, on what."""

    term: str
    values: Sequence[Named]


class Bar(NamedTuple):
    """A claim's interval against its baseline; positions are percentages of the width, start and end are text."""

    value: float
    low: float | None
    high: float | None
    baseline: float | None
    start: str
    end: str
    label: str


class Claim(NamedTuple):
    """One claim, ready to be read.

    unit: the unit, or the metric's name where it has none. spread: interval and n as text, or that there are none.
    bar: None where there is nothing to draw the value against. how: term and value of each detail.
    """

    system: str
    sentence: str
    value: str
    unit: str
    spread: Sequence[str]
    verdict: Verdict
    direction: str
    reading: str
    bar: Bar | None
    how: Sequence[tuple[str, str]]


class Citation(NamedTuple):
    """What an answer points to. label: its number in the answer; source: title or address; text: the passage."""

    label: str
    source: str
    text: str


class Sample(NamedTuple):
    """One question with the answer that was given. correct: None where nobody judged it."""

    question: str
    answer: str
    gold: str = ""
    correct: bool | None = None
    citations: Sequence[Citation] = ()
    extra: Sequence[tuple[str, str]] = ()

    @property
    def mark(self) -> str:
        """The judgement in words; empty where there is none."""
        return {True: "correct", False: "not correct", None: ""}[self.correct]

    @property
    def mark_class(self) -> str:
        """The judgement as a class of the style sheet."""
        return "right" if self.correct else "wrong"

    @property
    def more(self) -> str:
        """What unfolding shows."""
        count = len(self.citations)
        return {0: "Details", 1: "1 citation"}.get(count, f"{count} citations")


class Stage(NamedTuple):
    """One step of the run. share: its part of the longest step's time, in percent; config: YAML text."""

    name: str
    verb: str
    status: str
    finished: bool
    took: str
    share: float
    command: str
    config: str
    how: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """All that was measured of one system."""

    anchor: str
    title: str
    summary: str
    claims: Sequence[Claim] = ()
    pictures: Sequence[Picture] = ()
    samples: Sequence[Sample] = ()
    samples_note: str = ""

    @property
    def drawn(self) -> list[Claim]:
        """The claims with an interval or a baseline, which are drawn."""
        return [claim for claim in self.claims if claim.bar]

    @property
    def bare(self) -> list[Claim]:
        """The claims with neither, which are listed."""
        return [claim for claim in self.claims if not claim.bar]


@dataclass(frozen=True)
class Page:
    """The whole dossier as plain values; see `render`."""

    title: str
    version: str
    facts: Sequence[Fact]
    headline: Sequence[Claim]
    sections: Sequence[Section]
    stages: Sequence[Stage]
    total: str
    notes: Sequence[str]
    colophon: str
    unfinished: str = ""


def render(page: Page) -> str:
    """The page as HTML text; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["markup"] = Markup  # only ever applied to a Picture's cleaned SVG
    css = Markup(theme_css(":root") + (FOLDER / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html.jinja").render(page=page, css=css)


def claims(evidence: Sequence[Evidence]) -> list[Claim]:
    """The claims of one system; those with the same metric and unit share one scale, so their bars compare."""
    groups: dict[tuple[str, str], list[Evidence]] = {}
    for item in evidence:
        groups.setdefault((item.metric, item.unit), []).append(item)
    scales = {key: scale(group) for key, group in groups.items()}
    return [_claim(item, scales[item.metric, item.unit]) for item in evidence]


def scale(evidence: Sequence[Evidence]) -> tuple[float, float]:
    """The ends of an axis that holds every value, interval and baseline given.

    Shares run from 0 to 1 and per cent from 0 to 100; anything else starts at 0 unless it is far from it.
    """
    figures = [end for item in evidence for end in (item.value, *(item.interval or ())) if math.isfinite(end)]
    figures += [item.baseline for item in evidence if item.baseline is not None and math.isfinite(item.baseline)]
    low, high = min(figures), max(figures)
    unit = evidence[0].unit.strip()
    if low >= 0 and unit in ("%", "per cent", "percent") and high <= 100:
        return 0.0, 100.0
    if low >= 0 and high <= 1 and unit in ("", "share"):
        return 0.0, 1.0
    margin = (high - low or abs(high) or 1.0) * 0.1
    near_zero = 0 <= low <= 2 * (high - low)
    return (0.0 if near_zero else _rounded(low - margin, math.floor)), _rounded(high + margin, math.ceil)


def _rounded(figure: float, towards: Callable[[float], int]) -> float:
    """An end of an axis with two significant digits, so that a reader can say it."""
    if abs(figure) < 1e-300:  # the step would be too small for a float
        return figure
    step = 10.0 ** (math.floor(math.log10(abs(figure))) - 1)
    return float(f"{towards(round(figure / step, 9)) * step:.12g}")


def _claim(item: Evidence, ends: tuple[float, float]) -> Claim:
    places, read = decimals(item), reading(item)
    direction = {"higher": "higher is better", "lower": "lower is better", "none": ""}[item.better]
    details = (
        ("Metric", item.metric),
        ("Setting", item.setting),
        ("Interval", f"{confidence(item)} confidence" if item.interval else "none was recorded with this figure"),
        ("Good direction", direction or "neither"),
        ("Seed", "" if item.seed is None else str(item.seed)),
        ("Model", item.model_sha),
        ("Data", item.data_sha),
        ("Artefact", item.artefact),
        ("Command", item.command),
        ("Recorded", item.created),
        ("Id", item.id),
    )
    return Claim(
        item.system,
        item.claim,
        number(item.value, places),
        item.unit or item.metric.replace("_", " "),
        _spread(item, places),
        read.verdict,
        read.direction,
        f"{read.words} ({direction})" if direction else read.words,
        None if item.interval is None and item.baseline is None else _bar(item, ends),
        [(term, value) for term, value in details if value],
    )


def _spread(item: Evidence, places: int) -> list[str]:
    if item.interval is None and item.n is None:
        return ["no interval, no n"]
    counted = f"n = {n_text(item)}" if item.n is not None else "n not recorded"
    if item.interval is None:
        return ["no interval", counted]
    low, high = (number(end, places) for end in item.interval)
    level = "" if confidence(item) == "95 %" else f" ({confidence(item)})"
    return [f"{low} to {high}{level}", counted]


def _bar(item: Evidence, ends: tuple[float, float]) -> Bar:
    start, end = ends

    def at(figure: float) -> float:
        return round(100 * min(1.0, max(0.0, (figure - start) / (end - start))), 2)

    places = decimals(item)
    spoken = f"{number(item.value, places)} {item.unit}".strip()
    if item.interval:
        spoken += f", interval {number(item.interval[0], places)} to {number(item.interval[1], places)}"
    if item.baseline is not None:
        spoken += f", baseline {number(item.baseline, places)}"
    low, high = (None, None) if item.interval is None else (at(item.interval[0]), at(item.interval[1]))
    unit = f" {item.unit}" if item.unit else ""
    ruler = 0 if (start, end) == (0.0, 1.0) else _places(start, ends)
    return Bar(
        at(item.value),
        low,
        high,
        None if item.baseline is None else at(item.baseline),
        number(start, ruler),
        number(end, ruler) + unit,
        spoken,
    )
