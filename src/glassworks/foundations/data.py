"""Is every row what its reader expects, and if not, which line is broken? JSONL, field checks, fingerprints.

Input: a JSONL file (gzip too, or ``packaged:NAME``) and the fields that a caller needs. Output: rows, or a
MalformedRecord with ``file:line``, what was expected and what is there. Other formats come in through
`rows.load_rows`, with the same checks. Knows nothing of any system's columns: callers name them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.files import path_sha
from glassworks.foundations.packaged import is_packaged, packaged_path

Types = Mapping[str, type | tuple[type, ...]]
"""The Python types that a field may have, by the field's name."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""What a name on the Hugging Face hub looks like; a path may look so too."""

ROLES = ("system", "user", "assistant", "tool")


def file_sha(path: str | Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a file's bytes, or of a folder's names and files.

    ``packaged:NAME`` is allowed. A file's is remembered within the process by path, size and time of change.
    Raises DataNotFound.
    """
    if not is_packaged(path) and Path(path).expanduser().is_dir():
        return path_sha(Path(path).expanduser())[:16]
    file = local_file(path)
    stat = file.stat()
    return _sha256(str(file.resolve()), stat.st_size, stat.st_mtime_ns)


def data_sha(source: str) -> str:
    """`file_sha` of local data; empty for a hub id, whose revision the hub keeps."""
    here = is_packaged(source) or Path(source).expanduser().exists()
    return file_sha(source) if here else ""


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    return path_sha(Path(path))[:16]


def local_file(path: str | Path) -> Path:
    """The existing file that `path` or ``packaged:NAME`` names. Raises DataNotFound, listing what is beside it."""
    if is_packaged(path):
        return packaged_path(str(path))
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise DataNotFound("expected a file, this is a folder", place=str(path))
    parent = file.parent
    if not parent.is_dir():
        raise DataNotFound(f"no such file, and {parent} does not exist either", place=str(path))
    there = ", ".join(sorted(p.name for p in parent.iterdir())[:8]) or "nothing"
    raise DataNotFound("no such file", place=str(path), remedy=f"In {parent} there is: {there}.")


def read_jsonl(path: str | Path, required: Sequence[str] = (), *, types: Types | None = None) -> list[dict[str, Any]]:
    """All rows of a JSONL file (``.gz`` too, or ``packaged:NAME``), each a dict; blank lines are skipped.

    required: fields that must be there and not null. types: the Python types a field may have where present.
    Raises DataNotFound, or MalformedRecord with ``file:line``.
    """
    return list(iterate_jsonl(path, required, types=types))


def iterate_jsonl(
    path: str | Path, required: Sequence[str] = (), *, types: Types | None = None
) -> Iterator[dict[str, Any]]:
    """As `read_jsonl`, one row at a time, for files larger than memory."""
    file = local_file(path)
    for number, line in _lines(file):
        if line.strip():
            place = f"{file.name}:{number}" if is_packaged(path) else f"{path}:{number}"
            row = _parse(line, place)
            check_fields(row, required, place, types=types)
            yield row


def check_fields(
    row: Mapping[str, Any],
    required: Sequence[str],
    place: str,
    *,
    types: Types | None = None,
) -> None:
    """Check that `required` fields are present and not null, and that fields have their `types`.

    Raises MalformedRecord at `place`, naming the field, what was expected and what is there.
    """
    for field in required:
        if row.get(field) is None:
            state = "is null" if field in row else f"is missing (there are: {', '.join(row) or 'none'})"
            raise MalformedRecord(f"field '{field}' {state}", place=place)
    for field, expected in (types or {}).items():
        value = row.get(field)
        kinds = expected if isinstance(expected, tuple) else (expected,)
        # bool is an int in Python, but true is not a number in anybody's data
        wrong_bool = isinstance(value, bool) and bool not in kinds
        if value is not None and (wrong_bool or not isinstance(value, kinds)):
            names = " or ".join(_type_name(kind) for kind in kinds)
            problem = f"field '{field}' should be {names}, not {_type_name(type(value))} ({_short(value)})"
            raise MalformedRecord(problem, place=place)


def check_messages(value: object, place: str, *, last: str | None = None) -> list[dict[str, str]]:
    """A conversation: a list of {"role", "content"} with known roles and text contents; returned as given.

    last: the role that the last message must have. Raises MalformedRecord at `place`, naming the message.
    """
    if not isinstance(value, list) or not value:
        problem = f"expected a list of messages, found {_type_name(type(value))} ({_short(value)})"
        raise MalformedRecord(problem, place=place, remedy='A message is {"role": ..., "content": ...}.')
    for number, message in enumerate(value, start=1):
        where = f"{place}, message {number}"
        if not isinstance(message, dict):
            raise MalformedRecord(f"expected an object, found {_short(message)}", place=where)
        check_fields(message, ("role", "content"), where, types={"role": str, "content": str})
        if message["role"] not in ROLES:
            raise MalformedRecord(f"role '{message['role']}' is not one of {', '.join(ROLES)}", place=where)
    if last is not None and value[-1]["role"] != last:
        raise MalformedRecord(f"the last message is the {value[-1]['role']}'s, expected the {last}'s", place=place)
    return value


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; the file is opened in binary so that a bad byte is blamed on its own line."""
    number = 0
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as opened:
            for number, raw in enumerate(opened, start=1):
                yield number, raw.rstrip(b"\r\n").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte {error.object[error.start]:#04x} at position {error.start + 1} of the line)"
        raise MalformedRecord(problem, place=f"{file}:{number}", remedy="Save the file as UTF-8.") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise MalformedRecord(f"broken gzip after line {number}", place=str(file)) from error


def _parse(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON ({error.msg}, column {error.colno})"
        raise MalformedRecord(problem, place=place, remedy="Each line must hold one JSON object.") from error
    except ValueError as error:
        raise MalformedRecord(f"not valid JSON ({error})", place=place) from error
    if not isinstance(row, dict):
        problem = f"expected a JSON object, found {_type_name(type(row))} ({_short(row)})"
        raise MalformedRecord(problem, place=place, remedy="Each line must hold one JSON object.")
    return row


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _type_name(kind: type) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
             dict: "an object", type(None): "null"}  # fmt: skip
    return names.get(kind, kind.__name__)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to quote in ours; at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
