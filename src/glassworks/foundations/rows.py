"""How does a table of any usual format come in? JSONL, JSON, CSV, Parquet, `datasets` folders and hub ids.

Input: a source and the fields that a caller needs. Output: a `datasets.Dataset`, checked before any work: JSONL
line by line (``file:17``), tables column by column (``file, row 17``). Also a split into training and held-out
rows that depends on the rows alone, not on their order, and never parts equal keys. Knows no system's columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from glassworks.errors import DataNotFound, MalformedRecord, OptionError, UnknownName
from glassworks.foundations.data import HUB_ID, Types, check_fields, first_line, iterate_jsonl, local_file
from glassworks.foundations.packaged import is_packaged

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
TABLES = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".arrow": "arrow"}


def load_rows(
    source: str,
    required: Sequence[str] = (),
    *,
    types: Types | None = None,
    split: str | None = None,
    subset: str | None = None,
) -> Dataset:
    """The rows of `source`, each with the `required` fields not null and fields of the given `types`.

    source: JSONL, JSON, CSV, Parquet or Arrow file, ``packaged:NAME``, a folder of such files or one that
    `save_to_disk` wrote, or a hub id. split: which split of a folder or hub dataset; None takes the only one,
    or train. subset: a hub dataset's configuration. Raises DataNotFound, MalformedRecord with file:line or row,
    UnknownName for a split that is not there.
    """
    path = Path(source).expanduser()
    if is_packaged(source) or source.endswith(LINES):
        rows = list(iterate_jsonl(source, required, types=types))
        return _not_empty(_from_rows(rows, source), source)
    if path.suffix in TABLES or path.is_file():
        table = _read_table(local_file(source), source)
    elif path.is_dir():
        table = _read_folder(path, source, split)
    else:
        table = _read_hub(source, split, subset)
    _check_columns(_not_empty(table, source), required, types, source)
    return table


def split_rows(rows: Dataset, held_out: float, *, key: Sequence[str] = (), seed: int = 0) -> tuple[Dataset, Dataset]:
    """Training and held-out rows, in their order; rows with equal `key` columns stay on one side.

    held_out: share of distinct keys, in (0, 1); at least one key on each side. key: columns; none means all.
    The same rows in another order are split the same. Raises OptionError.
    """
    if not 0 < held_out < 1:
        raise OptionError(f"should be between 0 and 1, got {held_out}", place="held_out")
    chosen = rows.select_columns(list(key)) if key else rows
    digests = [_digest(row, seed) for row in chosen]
    order = sorted(set(digests))
    if len(order) < 2:
        raise OptionError(f"{len(rows)} rows with {len(order)} distinct keys cannot be split", place="held_out")
    count = min(max(round(held_out * len(order)), 1), len(order) - 1)
    aside = set(order[:count])
    training = [index for index, digest in enumerate(digests) if digest not in aside]
    testing = [index for index, digest in enumerate(digests) if digest in aside]
    return rows.select(training), rows.select(testing)


def _digest(row: dict[str, Any], seed: int) -> str:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(f"{seed}\0{text}".encode()).hexdigest()


def _from_rows(rows: list[dict[str, Any]], source: str) -> Dataset:
    """Columns are the union of all rows' fields: `Dataset.from_list` would keep the first row's alone."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        try:
            pa.array(values)
        except pa.ArrowException as error:
            problem = f"field '{name}' has values of different types ({first_line(error)})"
            raise MalformedRecord(problem, place=source, remedy="Give it one type in all lines.") from error
    return Dataset.from_dict(columns)


def _read_table(file: Path, source: str) -> Dataset:
    if file.suffix not in TABLES:
        problem = f"'{file.suffix}' is not a format for rows"
        known = ", ".join([*LINES[:1], *TABLES])
        raise DataNotFound(problem, place=source, remedy=f"Use one of {known}, a folder or a hub id.")
    options: dict[str, Any] = {"sep": "\t"} if file.suffix == ".tsv" else {}
    try:
        return load_dataset(TABLES[file.suffix], data_files=str(file), split="train", **options)
    except (DatasetGenerationError, pa.ArrowException, ValueError, OSError) as error:
        cause = error.__cause__ or error
        problem = f"cannot be read as {TABLES[file.suffix]} ({first_line(cause)})"
        raise MalformedRecord(problem, place=source) from error


def _read_folder(folder: Path, source: str, split: str | None) -> Dataset:
    saved = (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists()
    try:
        found = load_from_disk(str(folder)) if saved else load_dataset(str(folder))
    except (DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        problem = f"holds no rows that can be read ({there})"
        raise DataNotFound(problem, place=source, remedy="Give a folder of JSONL, CSV or Parquet files.") from error
    except DatasetGenerationError as error:
        raise MalformedRecord(f"cannot be read ({first_line(error.__cause__ or error)})", place=source) from error
    return _pick_split(found, split, source)


def _read_hub(source: str, split: str | None, subset: str | None) -> Dataset:
    parent = Path(source).parent
    if not HUB_ID.fullmatch(source) or (parent != Path() and parent.is_dir()):
        local_file(source)  # refuses, and says what is beside the missing path
    try:
        return _pick_split(load_dataset(source, name=subset), split, source)
    except (DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
        if isinstance(error, UnknownName | OptionError):
            raise
        problem = f"there is no such file or folder here, and no such hub dataset ({first_line(error)})"
        raise DataNotFound(problem, place=source, remedy="Check the name, or unset HF_HUB_OFFLINE.") from error


def _pick_split(found: Dataset | DatasetDict, split: str | None, source: str) -> Dataset:
    if isinstance(found, Dataset):
        if split is not None and str(found.split or split) != split:
            raise UnknownName("split", split, [str(found.split)], place=source)
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    wanted = split or "train"
    if wanted not in found:
        raise UnknownName("split", wanted, found.keys(), place=source)
    return found[wanted]


def _not_empty(table: Dataset, source: str) -> Dataset:
    if not len(table):
        raise DataNotFound("holds no rows", place=source)
    return table


def _check_columns(table: Dataset, required: Sequence[str], types: Types | None, source: str) -> None:
    """A table's column has one type, so its first value shows it; nulls are looked for everywhere."""
    for name in required:
        if name not in table.column_names:
            problem = f"column '{name}' is missing (there are: {', '.join(table.column_names)})"
            raise MalformedRecord(problem, place=source)
        nulls = table.data.column(name).is_null().to_numpy()
        if nulls.any():
            raise MalformedRecord(f"column '{name}' is null", place=f"{source}, row {int(nulls.argmax()) + 1}")
    for name in types or {}:
        if name in table.column_names:
            filled = table.data.column(name).drop_null()
            if len(filled):
                check_fields({name: filled[0].as_py()}, (), source, types=types)
