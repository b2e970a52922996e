"""SVG that follows the reader's theme, and SVG that is safe to put inside a page.

`themed` turns a matplotlib figure into SVG whose colours are CSS variables with a light fallback, so one file
reads well on white, on black, alone or inside the dossier. `embedded` takes such a file (or a stranger's), keeps
what draws and drops what could run, load or restyle anything else. The colours themselves live here, once; the
page uses the same table. This module knows nothing of plots or of evidence.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from glassworks.errors import MalformedRecord

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

# name: (light, dark). The light values double as the marks that matplotlib draws with, so no two may be equal.
THEME: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#121518"),
    "ink": ("#15191d", "#e8ebed"),
    "muted": ("#5b646c", "#9aa4ac"),
    "rule": ("#dde1e4", "#2c3339"),
    "series-1": ("#0b6b61", "#4fc1b0"),
    "series-2": ("#b3541e", "#f0975a"),
    "series-3": ("#4a52b8", "#9aa2ff"),
    "series-4": ("#8c6d0f", "#d9b84a"),
    "series-5": ("#a03272", "#ec8ac0"),
}
SERIES = tuple(light for name, (light, _) in THEME.items() if name.startswith("series"))
FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, system-ui, sans-serif"

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, and set in the reader's own font
    "svg.hashsalt": "glassworks",  # same figure, same bytes
    "text.parse_math": False,  # a label with dollar signs is a label
    "font.size": 11,
    "axes.edgecolor": THEME["muted"][0],
    "axes.labelcolor": THEME["muted"][0],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "text.color": THEME["ink"][0],
    "xtick.color": THEME["muted"][0],
    "ytick.color": THEME["muted"][0],
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.dpi": 72,  # one point is one pixel, so sizes here are sizes on screen
    "savefig.transparent": True,
}

_ELEMENTS = {
    *("svg", "g", "defs", "clipPath", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon"),
    *("text", "tspan", "use"),
}
_PROPERTIES = {
    *("fill", "fill-opacity", "fill-rule", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray"),
    *("stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-miterlimit", "opacity", "clip-path"),
    *("clip-rule", "font-size", "font-weight", "font-style", "text-anchor", "dominant-baseline", "paint-order"),
}
_ATTRIBUTES = _PROPERTIES | {
    *("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "ry", "d", "points", "transform", "dx", "dy"),
    *("width", "height", "viewBox", "clipPathUnits"),
}
# What a colour, a length, a list of numbers, a local clip path or one of our variables looks like; no more.
_SAFE_VALUE = re.compile(r"(?:url\(#[\w-]+\)|var\(--gw-[\w-]+(?:, ?#[0-9a-fA-F]{3,8})?\)|[\w#.,%() +-]*)")


class Picture(NamedTuple):
    """A figure ready for a page: safe SVG markup, its caption, and the text that stands in for it."""

    svg: str
    caption: str
    alt: str


def theme_css(selector: str) -> str:
    """CSS that gives every theme colour to `selector`, light by default and dark where the reader asks for it."""
    light, dark = ("".join(f"--gw-{name}:{colours[which]};" for name, colours in THEME.items()) for which in (0, 1))
    return f"{selector}{{{light}}}@media screen and (prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def themed(figure: Figure, *, caption: str, alt: str) -> str:
    """The figure as SVG text with CSS variables for colours, `caption` as title and `alt` as description.

    The same figure gives the same bytes: no date, no random ids.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in _descendants(root):
        for child in [child for child in element if _local(child.tag) == "metadata"]:
            element.remove(child)
        if style := element.get("style"):
            element.set("style", _recolour(style))
    for at, (tag, text) in enumerate(
        (("title", caption), ("desc", alt), ("style", f"svg{{font-family:{FONT}}}" + theme_css("svg")))
    ):
        child = ElementTree.Element(f"{{{SVG}}}{tag}")
        child.text = text
        root.insert(at, child)
    return _serialised(root)


def embedded(text: str, *, prefix: str, place: str) -> Picture:
    """What may go into a page of an SVG file's text; ids are made unique by `prefix`.

    Only drawing elements, geometry and plain colours are kept, so nothing in the file can run, load or restyle.
    Raises MalformedRecord, naming `place`, for what is not SVG or declares entities.
    """
    remedy = "Remove the file, or write it again with glassworks.report.figures.save_figure."
    if "<!ENTITY" in text:
        raise MalformedRecord("an SVG figure may not declare entities", place=place, remedy=remedy)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise MalformedRecord(f"not a readable SVG figure ({problem})", place=place, remedy=remedy) from problem
    if root.tag != f"{{{SVG}}}svg":
        raise MalformedRecord(f"expected an <svg> element, found <{_local(root.tag)}>", place=place, remedy=remedy)
    caption, alt = (root.findtext(f"{{{SVG}}}{tag}") or "" for tag in ("title", "desc"))
    used = set(re.findall(r"#([\w.-]+)", text))
    _keep_safe(root, prefix, used)
    for measure in ("width", "height"):  # the page sets the size; the viewBox keeps the proportions
        if root.get("viewBox"):
            root.attrib.pop(measure, None)
    root.set("role", "img")
    root.set("aria-label", alt or caption)
    return Picture(_serialised(root), caption, alt or caption)


def _keep_safe(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    """Drop, in place, every child, attribute and style that is not plain drawing; rename the ids that are used."""
    kept = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES and _safe(value)}
    declarations = (part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    style = {name.strip(): value.strip() for name, value in declarations}
    safe_style = ";".join(f"{name}:{value}" for name, value in style.items() if name in _PROPERTIES and _safe(value))
    identifier = element.get("id")
    target = element.get("href") or element.get(f"{{{XLINK}}}href") or ""
    element.attrib.clear()
    element.attrib.update({name: value.replace("url(#", f"url(#{prefix}") for name, value in kept.items()})
    if safe_style:
        element.set("style", safe_style.replace("url(#", f"url(#{prefix}"))
    if identifier in used:
        element.set("id", f"{prefix}{identifier}")
    if re.fullmatch(r"#[\w.-]+", target):
        element.set("href", f"#{prefix}{target[1:]}")
    for child in list(element):
        if _local(child.tag) in _ELEMENTS and str(child.tag).startswith(f"{{{SVG}}}"):
            _keep_safe(child, prefix, used)
        else:
            element.remove(child)


def _safe(value: str) -> bool:
    return "url(" not in value.replace("url(#", "") and (
        _SAFE_VALUE.fullmatch(value.replace("\n", " ").replace("\t", " ")) is not None
    )


def _recolour(style: str) -> str:
    """One style attribute of matplotlib's, with theme colours as variables and no font family."""
    style = re.sub(r"font: *(?:(\d+|bold) )?([\d.]+px)[^;]*", _font, style)
    style = re.sub(r"font-family:[^;]*;? ?", "", style)
    for name, (light, _) in THEME.items():
        style = style.replace(light, f"var(--gw-{name},{light})")
    return style


def _font(match: re.Match[str]) -> str:
    weight, size = match.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


def _descendants(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    yield from list(root.iter())


def _local(tag: object) -> str:
    return str(tag).rsplit("}", 1)[-1]


def _serialised(root: ElementTree.Element) -> str:
    """SVG text with SVG as the default namespace, which is what HTML's parser wants."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")
