"""One writer at a time: the second learns who the first is, and one that ended holds nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from cases.small_stores import many, passage

from glassworks.errors import RunLocked
from glassworks.retrieval.datastore import Datastore


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
