"""Definitions of a source file are its sections, to the byte."""

from __future__ import annotations

from pathlib import Path

from cases.document_files import only, spans


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
