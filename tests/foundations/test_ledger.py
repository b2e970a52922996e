"""The ledger: entries survive, a torn last line goes, keys change with every part."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassworks.errors import MalformedRecord
from glassworks.foundations.ledger import Ledger, entry_key


def test_entries_are_read_back_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).add([{"key": "a", "text": "é\n"}, {"key": "b", "text": "2"}])
    with path.open("ab") as file:
        file.write('{"key": "é'.encode()[:-1])
    ledger = Ledger(path)
    assert list(ledger.entries) == ["a", "b"]
    assert ledger["a"]["text"] == "é\n"
    ledger.add([{"key": "c"}])
    assert list(Ledger(path).entries) == ["a", "b", "c"]
    assert "c" in ledger


def test_a_broken_line_inside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"key": "a"}\n{broken\n{"key": "b"}\n')
    with pytest.raises(MalformedRecord, match=r"ledger.jsonl:2"):
        Ledger(path)


def test_keys() -> None:
    assert len({entry_key("a", "b"), entry_key("ab"), entry_key(["a", "b"]), entry_key("a", "b", 1)}) == 4
    assert entry_key({"x": 1, "y": 2}) == entry_key({"y": 2, "x": 1})
