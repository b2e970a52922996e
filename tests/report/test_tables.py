"""How figures are written and read: oracle strings, and the rule that only an excluded baseline is a difference."""

import pytest
from cases.evidence_samples import CIRCUITS, INJECTED, RETRIEVAL
from hypothesis import given
from hypothesis import strategies as st

from glassworks.foundations.evidence import Evidence
from glassworks.report.tables import (
    HEADERS,
    confidence,
    interval_text,
    latex_table,
    markdown_table,
    n_text,
    number,
    places,
    reading,
    rows,
    text_table,
    value_text,
)


def claim(value: float = 0.5, **fields: object) -> Evidence:
    return Evidence("s", "A claim.", "metric", value, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.8083, 2, "0.81"), (-0.0014, 3, "−0.001"), (-0.0001, 2, "0.00"), (1840.0, 0, "1\u202f840"),
        (12345.678, 1, "12\u202f345.7"), (3.2e-7, 6, "3.20 × 10⁻⁷"), (2.5e9, 0, "2.50 × 10⁹"), (0.0, 2, "0.00"),
        (float("inf"), 2, "∞"), (float("-inf"), 2, "−∞"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_readers(value: float, decimals: int, text: str) -> None:
    assert number(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "interval", "decimals"),
    [
        (0.81, (0.73, 0.87), 2), (0.936, (0.907, 0.957), 3), (1840.0, (1710.0, 1985.0), 0), (7.0, None, 0),
        (0.1234, None, 3), (48.2, None, 1), (0.0, None, 2), (0.5, (0.0, 9.0), 1), (0.5, (0.5, 0.5), 3),
        (0.5, (0.0, float("inf")), 3), (1e-9, (1e-9, 2e-9), 6),
    ],
)  # fmt: skip
def test_decimals_follow_the_width_of_the_interval(
    value: float, interval: tuple[float, float] | None, decimals: int
) -> None:
    assert places(value, interval) == decimals


def test_value_interval_and_n_say_what_is_missing() -> None:
    full, bare = claim(0.8083, unit="s", interval=(0.73, 0.87), n=1200), claim(0.5)
    assert (value_text(full), interval_text(full), n_text(full)) == ("0.81 s", "[0.73, 0.87]", "1\u202f200")
    assert (value_text(bare), interval_text(bare), n_text(bare)) == ("0.500", "none recorded", "not recorded")


def test_the_level_is_95_unless_the_setting_names_another() -> None:
    assert confidence(claim(setting="98 % of the edges removed")) == "95 %"
    assert confidence(claim(setting="hybrid, 90 % interval by bootstrap")) == "90 %"
    assert confidence(claim(setting="99.5% confidence")) == "99.5 %"


@pytest.mark.parametrize(
    ("interval", "baseline", "better", "verdict", "words"),
    [
        ((0.4, 0.6), 0.3, "higher", "better", "higher than the baseline 0.30"),
        ((0.4, 0.6), 0.3, "lower", "worse", "higher than the baseline 0.30"),
        ((0.4, 0.6), 0.7, "higher", "worse", "lower than the baseline 0.70"),
        ((0.4, 0.6), 0.7, "lower", "better", "lower than the baseline 0.70"),
        ((0.4, 0.6), 0.7, "none", "differs", "lower than the baseline 0.70"),
        ((0.4, 0.6), 0.6, "higher", "undecided", "no difference from the baseline 0.60 shown"),
        ((0.4, 0.6), None, "higher", "uncompared", "not compared with a baseline"),
    ],
)
def test_a_verdict_comes_from_the_interval_and_the_good_direction(
    interval: tuple[float, float], baseline: float | None, better: str, verdict: str, words: str
) -> None:
    read = reading(claim(interval=interval, baseline=baseline, better=better))
    assert (read.verdict, read.words) == (verdict, words)


def test_without_an_interval_no_difference_is_claimed_however_large() -> None:
    read = reading(claim(100.0, baseline=0.1, better="higher"))
    assert read.verdict == "uncompared"
    assert "no difference is claimed" in read.words


@given(
    low=st.floats(-1e3, 1e3), width=st.floats(0, 1e3), baseline=st.floats(-1e4, 1e4),
    better=st.sampled_from(["higher", "lower", "none"]),
)  # fmt: skip
def test_higher_and_lower_are_only_ever_said_of_an_excluded_baseline(
    low: float, width: float, baseline: float, better: str
) -> None:
    read = reading(claim(low, interval=(low, low + width), baseline=baseline, better=better))
    outside = baseline < low or baseline > low + width
    assert (read.direction != "") == outside == (read.verdict in ("better", "worse", "differs"))
    assert (read.words.startswith("higher")) == (baseline < low)


def test_all_three_forms_hold_every_cell_of_the_same_rows() -> None:
    table = rows(RETRIEVAL + CIRCUITS)
    assert all(len(row) == len(HEADERS) for row in table)
    text, markdown, latex = text_table(table), markdown_table(table), latex_table(table)
    for row in table:
        assert row.value in text
        assert row.interval in text
        assert row.claim in markdown
        assert row.value.replace("\u202f", r"\,").replace("%", r"\%") in latex


def test_the_terminal_table_keeps_to_its_width_and_figures_in_one_piece() -> None:
    lines = text_table(rows(RETRIEVAL), width=110).splitlines()
    assert max(map(len, lines)) <= 110
    assert sum("[0.73, 0.87]" in line for line in lines) == 1
    assert lines[0].split() == list(HEADERS)


def test_markdown_and_latex_escape_what_they_would_interpret() -> None:
    row = rows([Evidence("s", r"a|b_c*d <script> \x & 50 % $y$ {z} ~ ^ #", "m", 1.0)])
    markdown, latex = markdown_table(row), latex_table(row)
    assert r"a\|b\_c\*d &lt;script&gt; \\x" in markdown
    assert len(markdown.splitlines()) == 3
    assert r"\textbackslash{}x \& 50 \% \$y\$ \{z\} \textasciitilde{} \textasciicircum{} \#" in latex
    assert r"3.20 $\times$ 10$^{-}$$^{7}$" in latex_table(rows([claim(3.2e-7)]))
    assert r"\textless{}script\textgreater{}" in latex
    assert "<script>" not in markdown_table(rows([INJECTED]))


def test_an_empty_table_is_only_its_head() -> None:
    assert len(text_table([]).splitlines()) == 2
    assert len(markdown_table([]).splitlines()) == 2
