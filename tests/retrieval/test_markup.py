"""Sections of Markdown and HTML stand where they say, and hidden text stays hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.document_files import only, spans
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import UnreadableDocument
from glassworks.retrieval.markup import nest, read_html, read_markdown


def test_markdown_sections_nest(tmp_path: Path) -> None:
    text = "intro\r\n\r\n# Top *one*\r\na\r\n## Deep\r\nb\r\n```\n# no heading\n```\nSetext\n===\nc\n> # quoted\n"
    (tmp_path / "a.md").write_bytes(text.encode())
    document = only(tmp_path)
    assert document.text == text
    assert document.title == "Top one"
    found = spans(document)
    assert list(found) == ["Top one", "Deep", "Setext"]
    assert found["Top one"].startswith("# Top *one*\r\na")
    assert found["Top one"].endswith("```\n")
    assert found["Deep"].startswith("## Deep\r\nb")
    assert found["Setext"] == "Setext\n===\nc\n> # quoted\n"


@given(st.text(alphabet="#ab \r\n\t`>-=1.\0é😀", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_markdown_has_sections_inside_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("markdown") / "a.md"
    path.write_bytes(text.replace("\0", "").encode())
    extracted = read_markdown(path)
    for section in extracted.sections:
        assert 0 <= section.start < section.end <= len(extracted.text)
        first = section.title.split()[0]
        assert first in extracted.text[section.start : section.end] or "`" in extracted.text


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", ""])), max_size=12))
def test_sections_nest_like_their_levels(levels: list[tuple[int, str]]) -> None:
    headings = [(level, title, 10 * at) for at, (level, title) in enumerate(levels)]
    length = 10 * len(levels)
    expected = []
    for at, (level, title, start) in enumerate(headings):
        ends = [later for other, _, later in headings[at + 1 :] if other <= level]
        if title:
            expected.append((title, start, ends[0] if ends else length))
    assert [(s.title, s.start, s.end) for s in nest(headings, length)] == expected


def test_html_gives_visible_text_only(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title> The\n page </title><style>p{}</style></head><body><h1>Big <b>one</b></h1>"
        "<p>First<br>line &amp; more</p>tail<script>no()</script><div hidden>no</div>"
        "<div style='display: none'>no</div><h2>Small</h2><pre>a\n  b</pre><!-- no --><ul><li>x<li>y</ul></body></html>"
    )
    document = only(tmp_path)
    assert document.title == "The page"
    assert document.text == "Big one\nFirst\nline & more\ntail\nSmall\na\n  b\nx\ny"
    assert spans(document) == {"Big one": document.text, "Small": "Small\na\n  b\nx\ny"}


def test_html_may_declare_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b'<meta charset="iso-8859-1"><p>caf\xe9</p>')
    assert only(tmp_path).text == "café"
    (tmp_path / "a.html").write_bytes(b'<meta charset="nonsense"><p>caf\xe9</p>')
    with pytest.raises(UnreadableDocument, match="'nonsense', which is unknown"):
        only(tmp_path)


def test_html_nested_deeper_than_python_recurses(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    assert read_html(path).text == "deep"


def test_the_title_is_the_first_heading_of_the_highest_level(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("### Early\n## Main\n## Other\n")
    (tmp_path / "a.html").write_text("<h3>Early</h3><h2>Main</h2><h2>Other</h2>")
    assert read_markdown(tmp_path / "a.md").title == read_html(tmp_path / "a.html").title == "Main"
    (tmp_path / "a.md").write_text("no heading, # nor here\n")
    assert read_markdown(tmp_path / "a.md").title == ""


def test_what_a_page_hides_is_neither_text_nor_section(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<h1>Seen</h1><div aria-hidden=true><h2>Ghost</h2>no</div><h2 hidden>Gone</h2><p style='VISIBILITY : hidden'>no"
        "</p><select><option>no</select><p>in <b>one</b>   line</p><h2>Last</h2>"
    )
    read = read_html(tmp_path / "a.html")
    assert read.text == "Seen\nin one line\nLast"
    assert [(s.title, s.start, s.end) for s in read.sections] == [("Seen", 0, 21), ("Last", 17, 21)]
