"""Which answers, scores or judgments are done? Lines on disk by key, so that a killed run repeats none of them.

One JSON object a line with a field `key`; each call of `add` is on disk when it returns. A last line that a killed
process left half-written is cut off. Keys are hashes of everything an entry depends on: a changed prompt, seed or
model is another key, and nothing old is taken for new. Knows no kind of entry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glassworks.foundations.data import iterate_jsonl


def entry_key(*parts: object) -> str:
    """32 hexadecimal digits over values that JSON can hold, in their order."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Ledger:
    """Entries by key, in the order in which they were added. Raises MalformedRecord for a broken line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            whole, newline, torn = path.read_bytes().rpartition(b"\n")
            if torn:
                with path.open("rb+") as file:
                    file.truncate(len(whole) + len(newline))
            self.entries = {row["key"]: row for row in iterate_jsonl(path, ("key",), types={"key": str})}

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.entries[key]

    def add(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append entries, each with its `key`."""
        rows = [dict(entry) for entry in entries]
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        self.entries |= {row["key"]: row for row in rows}
