"""Theme-following and safe SVG: contrast, variables for colours, and nothing that could run or load."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from glassworks.errors import MalformedRecord
from glassworks.report.figures import Point, forest
from glassworks.report.svg import SERIES, THEME, embedded, theme_css, themed

EVIL = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9"
  width="9" onload="alert(1)"><title>c &lt;b&gt;</title><desc>d</desc><script>alert(1)</script>
  <style>body{{display:none}}</style><foreignObject><p>hi</p></foreignObject>
  <image href="http://evil.example/x.png"/><use href="http://evil.example/x.svg#a"/><use xlink:href="#a"/>
  <a href="javascript:alert(1)"><text>link</text></a>
  <path id="a" d="M0 0L1 1" onclick="alert(1)" style="fill: url(http://evil.example); position:fixed; stroke: #abc"/>
  <rect id="b" width="1" height="1" fill="red; background:url(x)" clip-path="url(#a)"/>
  <animate attributeName="href" to="javascript:alert(1)"/></svg>""".replace("{{", "{").replace("}}", "}")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [name for name in THEME if name not in ("paper", "rule")])
def test_every_text_colour_has_contrast_of_at_least_4_5_on_its_ground(name: str, which: int) -> None:
    bright, dim = sorted((luminance(THEME["paper"][which]), luminance(THEME[name][which])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_light_colours_are_distinct_because_they_are_the_marks_that_are_replaced() -> None:
    lights = [light for light, _ in THEME.values()]
    assert len(set(lights)) == len(lights)
    assert len(SERIES) == 5


def test_theme_css_defines_every_colour_light_and_dark_and_keeps_paper_light() -> None:
    css = theme_css(":root")
    assert all(css.count(f"--gw-{name}:") == 2 for name in THEME)
    assert "@media screen and (prefers-color-scheme:dark)" in css


def test_a_themed_figure_has_only_variable_colours_and_its_own_words() -> None:
    text = themed(forest([Point("a & <b>", 1.0, 0.5, 1.5)], x_label="ms"), caption="C <i>", alt="A & B")
    root = ElementTree.fromstring(text)
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "C <i>"
    assert root.findtext("{http://www.w3.org/2000/svg}desc") == "A & B"
    bare = re.sub(r"var\(--gw-[\w-]+,#\w{6}\)|<style>.*?</style>", "", text)
    assert not re.search(r"#[0-9a-fA-F]{6}", bare)
    assert "DejaVu" not in text
    assert "a &amp; &lt;b&gt;" in text


def test_embedding_keeps_drawing_and_drops_everything_that_could_run_load_or_restyle() -> None:
    picture = embedded(EVIL, prefix="p-", place="x.svg")
    for word in (
        "script",
        "alert",
        "evil",
        "foreignObject",
        "onload",
        "onclick",
        "position",
        "style>",
        "<a",
        "animate",
    ):
        assert word not in picture.svg
    assert picture.caption == "c <b>"
    assert picture.alt == "d"
    root = ElementTree.fromstring(picture.svg)
    assert root.get("role") == "img"
    assert root.get("width") is None
    path = root.find("{http://www.w3.org/2000/svg}path")
    assert path is not None
    assert path.get("style") == "stroke:#abc"
    assert path.get("id") == "p-a"
    rect = root.find("{http://www.w3.org/2000/svg}rect")
    assert rect is not None
    assert rect.attrib == {"width": "1", "height": "1", "clip-path": "url(#p-a)"}  # fill and the unused id are gone
    assert [use.get("href") for use in root.findall("{http://www.w3.org/2000/svg}use")] == [None, "#p-a"]


def test_embedding_twice_with_two_prefixes_shares_no_id() -> None:
    text = themed(forest([Point("a", 1.0, 0.5, 1.5)], x_label="ms"), caption="c", alt="a")
    first, second = (set(re.findall(r'id="([^"]+)"', embedded(text, prefix=p, place="").svg)) for p in ("a-", "b-"))
    assert first.isdisjoint(second)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<svg", "not a readable SVG"),
        ("<p>hi</p>", "expected an <svg>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg"/>', "entities"),
    ],
)
def test_what_is_not_svg_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(MalformedRecord, match=rf"figures/x\.svg: .*{reason}"):
        embedded(text, prefix="p-", place="figures/x.svg")
