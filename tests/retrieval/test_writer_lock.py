"""One writer at a time: the second learns who the first is, and one that ended holds nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cases.small_stores import many, passage

from glassworks.errors import RunLocked
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.writer_lock import HOLDER, WriterLock


@pytest.fixture
def lexical(tmp_path: Path) -> Datastore:
    return Datastore.create(tmp_path / "lexical")


def _hold(address: str, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Datastore.open(address).writing():
        ready.set()
        done.wait(60)


def test_a_second_writer_learns_who_the_first_is(lexical: Datastore) -> None:
    lexical.add(many(2))
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    writer = context.Process(target=_hold, args=(lexical.address, ready, done))
    writer.start()
    try:
        assert ready.wait(60)
        with pytest.raises(RunLocked, match=rf"process {writer.pid} on .* is writing to this datastore"):
            lexical.add([passage("x#0")])
        assert lexical.count() == 2
    finally:
        done.set()
        writer.join()
    lexical.add([passage("x#0")])


def test_the_holder_may_enter_again_and_a_failure_frees_the_lock(tmp_path: Path) -> None:
    lock, other = WriterLock(tmp_path), WriterLock(tmp_path)
    with pytest.raises(ZeroDivisionError), lock.held() as first:
        assert first
        with lock.held() as again:
            assert not again
        # The inner block's end neither freed the lock nor forgot its holder.
        with pytest.raises(RunLocked, match=rf"process {os.getpid()} on "), other.held():
            pass
        1 / 0  # noqa: B018
    assert not (tmp_path / HOLDER).exists()
    with other.held() as first:
        assert first


_DYING = """
import os, signal, sys
from pathlib import Path
from glassworks.retrieval.writer_lock import WriterLock
with WriterLock(Path(sys.argv[1])).held():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_holder_leaves_its_name_and_no_lock(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _DYING, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / HOLDER).exists()
    with WriterLock(tmp_path).held() as first:
        assert first
        assert f"process {os.getpid()} " in (tmp_path / HOLDER).read_text()
