"""What text and which sections do Markdown and HTML files hold?

Markdown keeps its source text, so offsets are those of the decoded file; the heading tree comes from markdown-it.
HTML gives the visible text only, one line a block; offsets count in that text. A section runs from its heading to the
next heading of the same or a higher level, so sections nest.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from selectolax.lexbor import LexborHTMLParser, LexborNode

from glassworks.retrieval.passages import Section
from glassworks.retrieval.text_files import Extracted, decode, line_starts

_UNSEEN = frozenset(
    {
        "script",
        "style",
        "template",
        "noscript",
        "head",
        "iframe",
        "object",
        "svg",
        "math",
        "canvas",
        "select",
        "datalist",
        "-comment",
    }
)
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "dialog", "div",
    "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hr", "html", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_DECLARED = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)

Heading = tuple[int, str, int]
"""Level from 1, title, offset."""


def nest(headings: list[Heading], length: int) -> tuple[Section, ...]:
    """Sections of a text of `length` code points from its headings in order; empty titles are left out."""
    ends, open_headings = [length] * len(headings), list[int]()
    for index, (level, _, start) in enumerate(headings):
        while open_headings and headings[open_headings[-1]][0] >= level:
            ends[open_headings.pop()] = start
        open_headings.append(index)
    return tuple(Section(title, start, end) for (_, title, start), end in zip(headings, ends, strict=True) if title)


def read_markdown(path: Path) -> Extracted:
    """A Markdown file; the title is its first heading of the highest level used."""
    text = decode(path)
    starts = line_starts(text)
    headings: list[Heading] = []
    tokens = MarkdownIt("commonmark").parse(text)
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            headings.append((int(token.tag[1]), _plain(inline), starts[token.map[0]]))
    return Extracted(text, _title(headings), nest(headings, len(text)))


def _plain(inline: Token) -> str:
    return "".join(child.content or " " * (child.type == "softbreak") for child in inline.children or []).strip()


def _title(headings: list[Heading]) -> str:
    named = [heading for heading in headings if heading[1]]
    return min(named, key=lambda heading: heading[0])[1] if named else ""


def read_html(path: Path) -> Extracted:
    """An HTML file: visible text; the title is <title>, else the first heading of the highest level."""
    with path.open("rb") as file:
        declared = _DECLARED.search(file.read(2048))
    tree = LexborHTMLParser(decode(path, declared[1].decode("ascii") if declared else None))
    page = _Page()
    if tree.root is not None:
        page.walk(tree.root)
    text = "".join(page.parts).rstrip()
    title = tree.css_first("head > title")
    named = " ".join(title.text().split()) if title is not None else ""
    return Extracted(text, named or _title(page.headings), nest(page.headings, len(text)))


class _Page:
    """The visible text of a page as it is walked through; iterative, since pages nest deeper than Python recurses."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self._length = 0
        self._at_line_start = True
        self._preformatted = 0

    def walk(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        open_headings: list[tuple[int, int]] = []
        while stack:
            node, leaving = stack.pop()
            tag = node.tag or ""
            if tag in _HEADINGS:
                if leaving:
                    first_part, start = open_headings.pop()
                    title = " ".join("".join(self.parts[first_part:]).split())
                    self.headings.append((_HEADINGS[tag], title, start))
                else:
                    self._break_line()
                    open_headings.append((len(self.parts), self._length))
            if tag in _BLOCKS:
                self._break_line()
            self._preformatted += (tag == "pre") * (-1 if leaving else 1)
            if leaving or tag in _UNSEEN:
                continue
            if node.is_text_node:
                self._add(node.text_content or "")
            elif not _is_hidden(node):
                stack.append((node, True))
                stack += [(child, False) for child in reversed(list(node.iter(include_text=True)))]

    def _add(self, text: str) -> None:
        if not self._preformatted:
            text = re.sub(r"\s+", " ", text)
            text = text.lstrip() if self._at_line_start else text
        if text:
            self._append(text)
            self._at_line_start = text[-1] in " \n"

    def _break_line(self) -> None:
        if self.parts and not self.parts[-1].endswith("\n"):
            self._append("\n")
        self._at_line_start = True

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self._length += len(text)


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    style = (attributes.get("style") or "").replace(" ", "").lower()
    return "display:none" in style or "visibility:hidden" in style
