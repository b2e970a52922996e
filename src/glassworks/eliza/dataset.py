"""Conversations on disk as a model is given them: the official CSV files, tokens, and what is known of each turn.

Input: a folder of `eliza generate` or of the official generator. Output: Examples and the Script. Raises DataNotFound
and MalformedRecord, naming file and row.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from glassworks.eliza.interpreter import Turn, converse, split_turns
from glassworks.eliza.script import Script, read_script
from glassworks.errors import DataNotFound, MalformedRecord, OptionError, check_at_least


@dataclass(frozen=True)
class Example:
    """One conversation: tokens, and the official type of each turn."""

    tokens: tuple[str, ...]
    kinds: tuple[str, ...]


def read_split(folder: str | Path, split: str, limit: int | None = None) -> list[Example]:
    """The conversations of one split, the first `limit` of them."""
    file = Path(folder) / f"{split}.csv"
    check_at_least(1, limit=limit)
    if not file.is_file():
        raise DataNotFound("no such split", place=str(file), remedy="Make data with glassworks eliza generate.")
    examples = []
    csv.field_size_limit(1 << 24)
    with file.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                tokens = tuple(row["input"].split())
                kinds = tuple(row["turn_types"].split(";")) if row["turn_types"] else ()
                turns = split_turns(tokens)
            except (KeyError, TypeError, AttributeError, OptionError) as error:
                raise MalformedRecord(f"not a conversation ({error})", place=f"{file}:{number}") from None
            if len(turns) != len(kinds):
                problem = f"{len(turns)} turns, but {len(kinds)} turn types"
                raise MalformedRecord(problem, place=f"{file}:{number}")
            examples.append(Example(tokens, kinds))
            if limit is not None and len(examples) >= limit:
                break
    if not examples:
        raise MalformedRecord("the split holds no conversation", place=str(file))
    return examples


def read_folder_script(folder: str | Path) -> Script:
    """The script of a data folder, its null cycle from args.json."""
    file, version = Path(folder) / "args.json", 2
    if file.is_file():
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise MalformedRecord(f"not JSON ({error})", place=str(file)) from None
        if not isinstance(settings, dict):
            raise MalformedRecord("expected an object with the options of the generator", place=str(file))
        version = settings.get("null_template_cycle_version", 2)
    return read_script(Path(folder) / "script.csv", "on_input" if version == 1 else "on_response")


def turns_of(script: Script, example: Example) -> list[Turn]:
    """A conversation as the interpreter sees it. Raises MalformedRecord where its replies are not the script's."""
    pairs = split_turns(example.tokens)
    turns = converse(script, [sentence for sentence, _ in pairs])
    for number, (turn, (_, reply)) in enumerate(zip(turns, pairs, strict=True), start=1):
        if turn.reply != reply:
            problem = f"'{' '.join(reply)}' is not the script's reply '{' '.join(turn.reply)}'"
            raise MalformedRecord(problem, place=f"turn {number}")
    return turns
