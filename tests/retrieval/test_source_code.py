"""Definitions of a source file are its sections, to the byte."""

from __future__ import annotations

import warnings
from pathlib import Path

from cases.document_files import only, spans

from glassworks.retrieval.source_code import read_source


def test_python_definitions_are_sections(tmp_path: Path) -> None:
    text = "import os\r\n\r\n@cache\r\ndef f():\r\n    return 1\r\n\r\nclass C:\r\n    def g(self): ...\r\n"
    (tmp_path / "a.py").write_bytes(text.encode())
    document = only(tmp_path)
    assert spans(document) == {
        "f": "@cache\r\ndef f():\r\n    return 1\r\n",
        "C": "class C:\r\n    def g(self): ...\r\n",
    }
    assert document.metadata == {"language": "Python"}
    (tmp_path / "a.py").write_text("def broken(:\n")
    assert only(tmp_path).sections == ()


def test_other_languages_are_whole(tmp_path: Path) -> None:
    (tmp_path / "a.GO").write_text("func f() {}\n")
    read = read_source(tmp_path / "a.GO")
    assert (read.title, read.text, read.sections) == ("a.GO", "func f() {}\n", ())
    assert read.metadata == {"language": "Go"}


def test_a_definition_may_end_the_file_and_bad_escapes_are_not_ours(tmp_path: Path) -> None:
    text = 'if True:\n    def inner(): ...\nasync def last():\n    return "\\d"'
    (tmp_path / "a.py").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (section,) = read_source(tmp_path / "a.py").sections
    assert section.title == "last"
    assert text[section.start : section.end] == 'async def last():\n    return "\\d"'
