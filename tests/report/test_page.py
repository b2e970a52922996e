"""The page in a real browser and as text: escaped, self-contained, readable at every width, theme and on paper."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest
from cases.chromium import BROWSER, Page, open_page
from cases.evidence_samples import CIRCUITS, INJECTED, INJECTION, RETRIEVAL, write_run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageStat
from selectolax.lexbor import LexborHTMLParser

from glassworks.foundations.evidence import Evidence
from glassworks.report.dossier import write_report
from glassworks.report.page import Bar, claims, scale

browser = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]
SCREENS = {"wide": (1280, False), "wide dark": (1280, True), "phone": (390, False), "phone dark": (390, True)}


@pytest.fixture(scope="module")
def dossier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_report(str(write_run(tmp_path_factory.mktemp("page") / "quickstart"))).path)


@pytest.fixture(scope="module", params=list(SCREENS))
def screen(request: pytest.FixtureRequest, dossier: Path) -> Iterator[Page]:
    width, dark = SCREENS[request.param]
    with open_page(dossier, width=width, height=844, dark=dark) as page:
        yield page


def bar_of(item: Evidence, *others: Evidence) -> Bar:
    bar = claims([item, *others])[0].bar
    assert bar is not None
    return bar


def test_bars_place_value_interval_and_baseline_on_the_scale() -> None:
    bar = bar_of(Evidence("s", "c", "m", 0.5, interval=(0.25, 0.75), baseline=0.1))
    assert (bar.low, bar.value, bar.high, bar.baseline) == (25.0, 50.0, 75.0, 10.0)
    assert (bar.start, bar.end) == ("0", "1")
    assert bar.label == "0.50, interval 0.25 to 0.75, baseline 0.10"


def test_bars_of_one_metric_share_a_scale_and_those_of_another_do_not() -> None:
    short = Evidence("s", "c", "latency", 10.0, unit="ms", interval=(9.0, 11.0))
    long = Evidence("s", "c", "latency", 100.0, unit="ms", interval=(90.0, 110.0))
    assert bar_of(short, long).end == bar_of(long, short).end == "130 ms"
    assert bar_of(short, Evidence("s", "c", "size", 100.0, unit="ms")).end != "130 ms"


def test_a_figure_with_nothing_to_compare_has_no_bar_and_says_so() -> None:
    (claim,) = claims([Evidence("s", "c", "m", 3.0)])
    assert claim.bar is None
    assert claim.spread == ["no interval, no n"]
    assert claims([Evidence("s", "c", "m", 3.0, n=7)])[0].spread == ["no interval", "n = 7"]


def test_another_level_than_95_is_written_beside_the_interval() -> None:
    (claim,) = claims([Evidence("s", "c", "m", 0.5, interval=(0.4, 0.6), n=9, setting="90 % interval")])
    assert claim.spread == ["0.40 to 0.60 (90 %)", "n = 9"]


@given(
    value=st.floats(-1e9, 1e9), width=st.floats(0, 1e9),
    baseline=st.none() | st.floats(-1e9, 1e9), unit=st.sampled_from(["", "%", "ms"]),
)  # fmt: skip
def test_a_scale_holds_everything_drawn_on_it(value: float, width: float, baseline: float | None, unit: str) -> None:
    item = Evidence("s", "c", "m", value, unit=unit, interval=(value - width, value + width), baseline=baseline)
    start, end = scale([item])
    assert start < end
    slack = 1e-9 * max(abs(start), abs(end))
    figures = [value, value - width, value + width] + ([] if baseline is None else [baseline])
    assert all(start - slack <= figure <= end + slack for figure in figures)


def test_shares_and_per_cent_keep_their_whole_scale() -> None:
    assert scale([Evidence("s", "c", "m", 0.9, interval=(0.8, 0.95))]) == (0.0, 1.0)
    assert scale([Evidence("s", "c", "m", 64.0, unit="%", interval=(50.0, 70.0))]) == (0.0, 100.0)
    assert scale([Evidence("s", "c", "m", 1840.0, unit="ms", interval=(1710.0, 1985.0))]) == (1600.0, 2100.0)


def test_hostile_text_is_shown_and_never_becomes_markup(dossier: Path) -> None:
    text = dossier.read_text(encoding="utf-8")
    tree = LexborHTMLParser(text)
    assert not tree.css("script, img, iframe, object, embed, foreignObject")
    assert all(not name.startswith("on") for node in tree.css("*") for name in node.attributes)
    assert INJECTION in [node.text() for node in tree.css(".claims .sentence")]
    assert INJECTION in [node.text() for node in tree.css(".samples .question")]
    assert "{{ 7*7 }}" in text  # not evaluated as a template either


def test_the_page_allows_nothing_from_outside_and_asks_for_nothing(dossier: Path) -> None:
    text = dossier.read_text(encoding="utf-8")
    tree = LexborHTMLParser(text)
    policy = tree.css_first("meta[http-equiv=Content-Security-Policy]").attributes["content"] or ""
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    links = [node.attributes.get(name) or "" for name in ("href", "src") for node in tree.css(f"[{name}]")]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"@import|@font-face|url\((?!#)", text)


def test_the_page_has_landmarks_headings_in_order_table_headers_and_unique_ids(dossier: Path) -> None:
    tree = LexborHTMLParser(dossier.read_text(encoding="utf-8"))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert len(tree.css(landmark)) == 1
    levels = [int(node.tag[1]) for node in tree.css("h1, h2, h3")]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for table in tree.css("table"):
        assert table.css_first("caption") is not None
        assert len(table.css("thead th[scope=col]")) == len(table.css_first("tbody tr").css("th, td"))
        assert len(table.css("tbody th[scope=row]")) == len(table.css("tbody tr"))
    assert all(node.attributes.get("aria-label") for node in tree.css("svg[role=img]"))
    ids = [node.attributes["id"] for node in tree.css("[id]")]
    assert len(ids) == len(set(ids))
    targets = {(node.attributes["href"] or "")[1:] for node in tree.css("a[href^='#'], use[href]")}
    assert targets <= set(ids)


def test_every_figure_of_the_evidence_stands_with_its_interval_and_n(dossier: Path) -> None:
    tree = LexborHTMLParser(dossier.read_text(encoding="utf-8"))
    shown = [" ".join(node.text().split()) for node in tree.css(".claims td.number")]
    assert shown[0] == "0.81 recall@5 0.73 to 0.87 n = 120"
    assert "48.2 MiB no interval, no n" in shown
    assert len(tree.css(".bare tbody tr")) == 3  # of RETRIEVAL, CIRCUITS and the hostile one
    assert len(shown) == len(RETRIEVAL) + len([INJECTED]) + len(CIRCUITS)


class TestInABrowser:
    pytestmark = browser

    def test_it_opens_without_a_message_or_a_request(self, screen: Page, dossier: Path) -> None:
        assert screen.messages == []
        assert screen.requests == [dossier.resolve().as_uri()]

    def test_it_never_scrolls_sideways(self, screen: Page) -> None:
        screen.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        wide = screen.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        screen.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        assert wide[0] <= wide[1]

    def test_it_is_painted_on_the_ground_its_reader_asked_for(self, screen: Page) -> None:
        image = Image.open(io.BytesIO(screen.screenshot())).convert("L")
        statistics = ImageStat.Stat(image)
        assert statistics.stddev[0] > 8  # not blank
        dark = screen.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert (statistics.mean[0] < 60) if dark else (statistics.mean[0] > 200)
        assert screen.evaluate("getComputedStyle(document.querySelector('.point')).fill != 'none'")

    def test_figures_follow_the_theme(self, screen: Page) -> None:
        mark = """document.querySelector('figure [style*="fill:var(--gw-series-1"]')"""
        fill = screen.evaluate(f"getComputedStyle({mark}).fill")
        dark = screen.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert ("79, 193, 176" if dark else "11, 107, 97") in fill

    def test_text_in_figures_is_large_enough_to_read(self, screen: Page) -> None:
        smallest = screen.evaluate(
            "Math.min(...[...document.querySelectorAll('figure text')].map(t => "
            "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width / 360))"
        )
        assert smallest >= 9

    def test_the_keyboard_reaches_the_skip_link_and_opens_details(self, dossier: Path) -> None:
        with open_page(dossier, width=390, height=844) as page:
            page.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.evaluate("document.querySelector('.claims summary').focus()")
            page.press("Enter")
            assert page.evaluate("document.querySelector('.claims details').open") is True

    def test_paper_holds_the_details_too(self, dossier: Path) -> None:
        with open_page(dossier, dark=True) as page:
            printed = pypdf.PdfReader(io.BytesIO(page.pdf()))
        text = " ".join(sheet.extract_text() for sheet in printed.pages)
        assert "hybrid retriever, baseline BM25" in text  # inside a closed <details>
        assert "Few heads are kept by every seed." in text
        assert "Skip to the evidence" not in text
        assert 3 <= len(printed.pages) <= 12
