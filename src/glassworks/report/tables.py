"""Tables of evidence: one set of rows, shown as text for a terminal, as Markdown or as LaTeX.

Here, once, is how a figure is written (with its interval, its n and as many decimals as its interval supports) and
how it is read against its baseline: "higher" or "lower" only where the interval excludes the baseline. The page uses
the same words. Nothing here computes an interval or a test.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Literal, NamedTuple

from glassworks.foundations.evidence import Evidence

Verdict = Literal["better", "worse", "differs", "undecided", "uncompared"]
HEADERS = ("System", "Claim", "Value", "Interval", "n", "Baseline", "Reading")
_NUMERIC = frozenset({"Value", "Interval", "n", "Baseline"})


_RAISED = dict(zip("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))


class Reading(NamedTuple):
    """What the interval says about the baseline. verdict: for colour; words: for the reader.

    direction: "up" or "down" where the value is shown to be higher or lower, else empty.
    """

    verdict: Verdict
    words: str
    direction: Literal["up", "down", ""] = ""


class Row(NamedTuple):
    """One claim as text, a field for each of HEADERS; a field without a figure says so."""

    system: str
    claim: str
    value: str
    interval: str
    n: str
    baseline: str
    reading: str


def number(value: float, decimals: int) -> str:
    """A figure with `decimals` places, thousands grouped, a real minus sign; very small or large ones as powers."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and not 1e-4 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.2e}".split("e")
        raised = "".join(_RAISED[letter] for letter in str(int(exponent)))
        return f"{mantissa} × 10{raised}".replace("-", "−")
    text = f"{value:,.{max(decimals, 0)}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−").replace(",", "\u202f")


def places(value: float, interval: tuple[float, float] | None) -> int:
    """How many decimals a figure and its interval are written with, 0 to 6.

    Two significant digits of the interval's width, or three of the value where there is no interval; 0 for a count.
    """
    width = interval[1] - interval[0] if interval else 0.0
    if 0 < width < math.inf:
        return min(6, max(0, 1 - math.floor(math.log10(width))))
    if float(value).is_integer() and abs(value) >= 1:
        return 0
    return min(6, max(0, 2 - math.floor(math.log10(abs(value) or 1))))


def decimals(evidence: Evidence) -> int:
    """`places` of a claim's value and interval."""
    return places(evidence.value, evidence.interval)


def confidence(evidence: Evidence) -> str:
    """The interval's level as text: "95 %", unless the setting names another one ("90 % interval")."""
    named = re.search(r"(\d{2}(?:\.\d+)?) ?%[ -](?:interval|confidence|credible)", evidence.setting)
    return f"{named[1] if named else 95} %"


def value_text(evidence: Evidence) -> str:
    """The value with its unit: "0.81", "12.3 ms", "64 %"."""
    return f"{number(evidence.value, decimals(evidence))} {evidence.unit}".strip()


def interval_text(evidence: Evidence) -> str:
    """The interval, "[0.74, 0.87]", or that there is none."""
    if evidence.interval is None:
        return "none recorded"
    low, high = (number(end, decimals(evidence)) for end in evidence.interval)
    return f"[{low}, {high}]"


def n_text(evidence: Evidence) -> str:
    """How many items were measured, or that nobody recorded it."""
    return "not recorded" if evidence.n is None else number(evidence.n, 0)


def reading(evidence: Evidence) -> Reading:
    """The comparison with the baseline, from the interval alone.

    "higher than" or "lower than" only where the interval excludes the baseline; whether that is good depends on
    `evidence.better`. Without interval or baseline nothing is claimed. The baseline counts as exactly known.
    """
    if evidence.baseline is None:
        return Reading("uncompared", "not compared with a baseline")
    baseline = f"the baseline {number(evidence.baseline, decimals(evidence))}"
    if evidence.interval is None:
        return Reading("uncompared", f"beside {baseline}; without an interval no difference is claimed")
    low, high = evidence.interval
    if low <= evidence.baseline <= high:
        return Reading("undecided", f"no difference from {baseline} shown")
    higher = low > evidence.baseline
    good = {"higher": higher, "lower": not higher, "none": None}[evidence.better]
    verdict: Verdict = "differs" if good is None else "better" if good else "worse"
    return Reading(verdict, f"{'higher' if higher else 'lower'} than {baseline}", "up" if higher else "down")


def rows(evidence: Sequence[Evidence]) -> list[Row]:
    """The claims as text, in the order given."""
    return [
        Row(
            item.system,
            item.claim,
            value_text(item),
            interval_text(item),
            n_text(item),
            "none" if item.baseline is None else number(item.baseline, decimals(item)),
            reading(item).words,
        )
        for item in evidence
    ]


def text_table(table: Sequence[Row], width: int = 110) -> str:
    """The rows for a terminal `width` characters wide: claims and readings wrap, figures never do."""
    sizes = {name: max(len(name), *(len(row[at]) for row in table), 1) for at, name in enumerate(HEADERS)}
    spare = width - sum(sizes[name] for name in HEADERS if name not in ("Claim", "Reading")) - 2 * (len(HEADERS) - 1)
    sizes["Reading"] = min(sizes["Reading"], max(16, spare // 3))
    sizes["Claim"] = min(sizes["Claim"], max(20, spare - sizes["Reading"]))
    lines = [_text_line(HEADERS, sizes), "  ".join("-" * sizes[name] for name in HEADERS)]
    for row in table:
        wrapped = [textwrap.wrap(cell, sizes[name]) or [""] for name, cell in zip(HEADERS, row, strict=True)]
        lines += [
            _text_line([cell[at] if at < len(cell) else "" for cell in wrapped], sizes)
            for at in range(max(map(len, wrapped)))
        ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown_table(table: Sequence[Row]) -> str:
    """The rows as a Markdown table; what Markdown or HTML would interpret is escaped."""
    rule = "|".join(" ---: " if name in _NUMERIC else " --- " for name in HEADERS)
    body = ["| " + " | ".join(map(_markdown, row)) + " |" for row in table]
    return "\n".join(["| " + " | ".join(HEADERS) + " |", f"|{rule}|", *body]) + "\n"


def latex_table(table: Sequence[Row]) -> str:
    """The rows as a LaTeX tabular with booktabs rules (`\\usepackage{booktabs}`); special characters are escaped."""
    columns = "".join("r" if name in _NUMERIC else "l" for name in HEADERS)
    body = [" & ".join(map(_latex, row)) + r" \\" for row in table]
    head = " & ".join(HEADERS) + r" \\"
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _text_line(cells: Sequence[str], sizes: dict[str, int]) -> str:
    pairs = zip(HEADERS, cells, strict=True)
    return "  ".join(cell.rjust(sizes[name]) if name in _NUMERIC else cell.ljust(sizes[name]) for name, cell in pairs)


def _markdown(cell: str) -> str:
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", _one_line(cell)).replace("<", "&lt;").replace(">", "&gt;")


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "∞": r"$\infty$",
        "\u202f": r"\,", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
        **{special: f"\\{special}" for special in "&%$#_{}"},
        "×": r"$\times$", **{raised: f"$^{{{plain}}}$" for plain, raised in _RAISED.items()},
    }
)  # fmt: skip


def _latex(cell: str) -> str:
    return _one_line(cell).translate(_LATEX)


def _one_line(cell: str) -> str:
    """The cell without line breaks; the narrow spaces inside figures stay."""
    return re.sub(r"[ \t\r\n]+", " ", cell).strip()
