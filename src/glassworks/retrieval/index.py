"""Verb `index`: documents in, a searchable store in a run folder out.

Read, cut, embed what is new, store in atomic batches, then bring the indexes up to date. The store mirrors the
documents: run again, unchanged documents cost a look at their fingerprint, changed ones are replaced, vanished ones
removed; killed and run again, it goes on where the last whole batch ended.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from glassworks.errors import OptionError, RunMismatch, UserError
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json
from glassworks.foundations.runs import Run
from glassworks.retrieval.chunking import Chunking, Mode
from glassworks.retrieval.datastore import STORE_FOLDER, Datastore, StoreSettings
from glassworks.retrieval.documents import OnUnreadable, read_documents
from glassworks.retrieval.encoders import Encoder, Precision, open_encoder
from glassworks.retrieval.ingest import Tally, ingest
from glassworks.retrieval.lexical import open_lexical

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"


def index(
    docs: str,
    out: str = "runs/index",
    encoder: str | None = None,
    chunk_words: int = 256,
    overlap_words: int = 0,
    chunking: Mode = "words",
    batch_rows: int = 4096,
    on_unreadable: OnUnreadable = "stop",
    device: str = "auto",
    precision: Precision = "float32",
) -> Run:
    """Read documents, cut them into passages and store them in a database that can be searched.

    Shell: glassworks index docs/ --out runs/index

    Args:
        docs: A file or folder of text, Markdown, HTML, PDF, source code, JSONL or Parquet; or packaged:NAME.
        out: The run folder; the database is its folder `store`.
        encoder: Sentence encoder for vectors (packaged:minilm, a folder, a hub id, hashing:256); none: words only.
        chunk_words: Most words a passage holds.
        overlap_words: Words that two neighbouring passages share.
        chunking: Fixed windows of words, or whole sentences up to that many words.
        batch_rows: Passages stored in one commit; a killed run loses at most this many.
        on_unreadable: Stop at a damaged file, or skip and count it.
        device: Where the encoder runs: auto, cpu or cuda.
        precision: Precision that the encoder's network runs in; vectors are float32.
    """
    arguments = dict(locals())
    with Run.start(out, index, arguments) as run:
        cut = Chunking(chunk_words, overlap_words, chunking)
        if batch_rows < 1:
            raise OptionError(f"expected at least 1, got {batch_rows}", place="batch_rows")
        documents = read_documents(docs, on_unreadable=on_unreadable)
        opened = open_encoder(encoder, device=device, precision=precision) if encoder else None
        with _store_for(run.path / STORE_FOLDER, cut, opened) as store, store.writing():
            tally = ingest(store, documents, cut, opened, batch_rows)
            store.optimize()
            open_lexical(store)
        _record(run, store, tally)
    return run


@contextmanager
def _store_for(folder: Path, cut: Chunking, encoder: Encoder | None) -> Iterator[Datastore]:
    """The store to write to; one that was made for input that was refused before its first commit is removed."""
    is_new = not Datastore.exists(folder)
    store = _open_store(folder, cut, encoder)
    try:
        yield store
    except UserError:
        if is_new and not store.count():
            shutil.rmtree(folder)
        raise


def _open_store(folder: Path, cut: Chunking, encoder: Encoder | None) -> Datastore:
    settings = StoreSettings(encoder.signature if encoder else "", encoder.dimension if encoder else 0, asdict(cut))
    if not Datastore.exists(folder):
        return Datastore.create(folder, settings)
    store = Datastore.open(folder, encoder=settings.encoder)
    if store.settings != settings:
        raise RunMismatch(
            f"the store was cut by {dict(store.settings.chunking)}, this call cuts by {asdict(cut)}",
            place=str(folder),
            remedy="Choose another --out, or delete the folder.",
        )
    return store


def _record(run: Run, store: Datastore, tally: Tally) -> None:
    passages = store.count()
    write_json(run.path / SUMMARY, {"stored_passages": passages, "version": store.version, **asdict(tally)})
    run.log(stored_passages=passages, **asdict(tally))
    encoder = store.settings.encoder or "none"
    chunking = ", ".join(f"{name} {value}" for name, value in store.settings.chunking.items())
    setting = f"encoder {encoder}; chunking: {chunking}"
    if tally.truncated:
        logger.warning(
            "%d of %d texts are longer than the encoder reads, so their ends have no part in the vectors; "
            "lower chunk_words", tally.truncated, tally.embedded,
        )  # fmt: skip
    claims: list[tuple[str, str, float, str]] = [
        ("Documents read", "documents", tally.documents, "documents"),
        ("Words read", "words", tally.words, "words"),
        ("Passages in the store", "passages", passages, "passages"),
        ("Documents read and stored a second", "documents_per_second", tally.documents / tally.seconds, "documents/s"),
        ("Seconds for reading and storing", "seconds", tally.seconds, "s"),
    ]
    for count, claim, metric in (
        (tally.unchanged, "Documents that were stored already", "unchanged"),
        (tally.removed, "Documents removed, since they are gone", "removed"),
        (tally.truncated, "Passages longer than the encoder reads", "truncated"),
    ):
        if count:
            claims.append((claim, metric, count, ""))
    claims += [(f"Skipped: {reason}", "skipped", count, "") for reason, count in tally.skipped.items()]
    run.record(
        *(
            Evidence("retrieval", claim, metric, float(value), unit, setting=setting, data_sha=tally.data_sha,
                     artefact=STORE_FOLDER)
            for claim, metric, value, unit in claims
        )
    )  # fmt: skip
