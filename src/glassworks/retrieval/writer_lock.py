"""Who may write to a datastore? One process at a time, and the others learn who it is.

The operating system holds the lock, so that a killed writer frees it. A store on another machine (an object store)
has no such lock: there the database's own commit protocol decides.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from glassworks.errors import RunLocked

# Names of the run folder's own lock files, which its manifest leaves out.
LOCK, HOLDER = ".lock", ".lock.holder"


class WriterLock:
    """The right to write to the store in `folder`; re-entrant within the thread that holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder / LOCK)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock; yields whether it was taken just now. Raises RunLocked, naming the holder."""
        is_first = not self._lock.is_locked
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunLocked(
                f"{self._holder()} is writing to this datastore",
                place=str(self._folder),
                remedy="Wait until it is done; reading is possible meanwhile.",
            ) from None
        try:
            if is_first:
                (self._folder / HOLDER).write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
            yield is_first
        finally:
            if is_first:
                (self._folder / HOLDER).unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            return (self._folder / HOLDER).read_text(encoding="utf-8") or "another process"
        except OSError:
            return "another process"
