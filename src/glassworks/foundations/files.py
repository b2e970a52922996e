"""Files that appear whole or not at all, hashes of files and folders, and the one way to say that a disk is full."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from glassworks.errors import OutOfSpace

PARTIAL = ".partial"
"""Suffix of the hidden folders in which files are written before they get their final name."""

LARGE = 64 * 2**20


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; moved to ``path`` on success, removed on failure.

    Works for files and folders. A reader sees the old content or the new, never a part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
    temporary = workplace / path.name
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if temporary.is_dir() and path.is_dir():  # a folder cannot be replaced in one step
            path.rename(workplace / "replaced")
        temporary.replace(path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically, indented, with keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def remove_partial(folder: Path) -> None:
    """Remove what a killed writer left below a folder. Only for the process that holds the folder's lock."""
    for leftover in folder.rglob(f".*{PARTIAL}"):
        shutil.rmtree(leftover, ignore_errors=True)


def files_below(folder: Path, *, skip: Collection[str] = ()) -> list[tuple[str, Path]]:
    """Every file below a folder as (relative name, path), sorted; file names in ``skip`` are left out."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name not in skip)
    return [(file.relative_to(folder).as_posix(), file) for file in files]


def path_sha(path: Path, *, skip: Collection[str] = (), quick: bool = False) -> str:
    """SHA-256 of a file's bytes, or of a folder's relative names and files, as hexadecimal digits.

    quick: a file above 64 MiB (model weights) counts by size and time of change instead of by its bytes.
    """
    path = Path(path)
    if path.is_file():
        status = path.stat()
        if quick and status.st_size > LARGE:
            return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name, member in files_below(path, skip=skip):
        digest.update(f"{name}\0{path_sha(member, quick=quick)}\0".encode())
    return digest.hexdigest()


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, of Python or of a native library, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, (OSError, RuntimeError)) and "no space left on device" in str(error).lower()


def out_of_space(path: Path) -> OutOfSpace:
    """The error for a full disk, naming the folder that was written to."""
    return OutOfSpace(
        "the disk is full", place=str(path), remedy="Free some space and run the same command again; it continues."
    )
