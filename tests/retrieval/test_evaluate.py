"""The whole measurement on a small store: known figures, resume after a kill, known items, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases.capitals import CAPITALS, reading_server, write_documents, write_model, write_questions

from glassworks.errors import DatastoreNotFound, MalformedRecord, OptionError, ServerError
from glassworks.foundations.evidence import Evidence, read_evidence
from glassworks.foundations.runs import is_intact
from glassworks.report.figures import find_figures
from glassworks.retrieval.evaluate import measure
from glassworks.retrieval.index import index


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("capitals")
    run = index(str(write_documents(folder / "docs")), str(folder / "index"), encoder="hashing:64")
    return str(run.path), str(write_questions(folder / "questions.jsonl"))


@pytest.fixture
def reader() -> Iterator[tuple[str, list[str]]]:
    with reading_server() as server:
        yield server


def figures(folder: Path) -> dict[str, Evidence]:
    return {item.metric: item for item in read_evidence(folder)}


def test_a_reader_that_needs_passages_gains_by_retrieval(
    world: tuple[str, str], reader: tuple[str, list[str]], tmp_path: Path
) -> None:
    run = measure(world[0], reader[0], str(tmp_path / "run"), world[1], k=2)
    found = figures(run.path)
    assert found["lexical_recall@1"].value == found["lexical_mrr@10"].value == 1.0
    assert (found["closed_book_accuracy"].value, found["answer_accuracy"].value) == (0.0, 1.0)
    gain = found["answer_accuracy_gain"]
    assert (gain.value, gain.n, found["answer_accuracy"].baseline) == (1.0, len(CAPITALS), 0.0)
    assert gain.interval is not None
    assert gain.interval[0] > 0
    assert found["answer_accuracy_gain_p_value"].value == pytest.approx(2 / 2 ** len(CAPITALS))
    assert found["citation_correctness"].value == 1.0
    assert found["citation_coverage"].value == 0.5  # "That is all." cites nothing
    assert is_intact(run.path)
    assert [path.stem for path in find_figures(run.path)] == ["accuracy", "recall"]
    assert "with retrieval" in run.summary()


def test_samples_hold_both_answers_and_spans_of_the_documents(
    world: tuple[str, str], reader: tuple[str, list[str]], tmp_path: Path
) -> None:
    run = measure(world[0], reader[0], str(tmp_path / "run"), world[1], limit=3, k=1)
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 3
    for sample in samples:
        (citation,) = sample["citations"]
        assert sample["without"] == "I do not know."
        assert (sample["scores"]["accuracy"], citation["is_gold"], citation["holds_answer"]) == (1.0, True, True)
        document = (Path(world[0]).parent / "docs" / f"{citation['title']}.md").read_text()
        assert citation["quote"] in document
        assert citation["end"] - citation["start"] == len(citation["quote"])


def test_another_retriever_is_compared_with_lexical(
    world: tuple[str, str], reader: tuple[str, list[str]], tmp_path: Path
) -> None:
    run = measure(
        world[0], reader[0], str(tmp_path / "run"), world[1], limit=1, retriever="hybrid", encoder="hashing:64"
    )
    found = figures(run.path)
    assert found["hybrid_recall@10"].baseline == found["lexical_recall@10"].value
    assert {"hybrid_recall@1_gain", "hybrid_recall@1_gain_p_value"} <= found.keys()
    assert found["answer_accuracy"].interval is not None


def test_a_killed_run_asks_only_what_is_left(world: tuple[str, str], tmp_path: Path) -> None:
    out, asked = str(tmp_path / "run"), 2 * len(CAPITALS)
    with reading_server(patience=17) as (model, prompts):
        with pytest.raises(ServerError):
            measure(world[0], model, out, world[1])
        kept = (tmp_path / "run" / "generations.jsonl").read_text().splitlines()
        assert len(kept) == 16
        with (tmp_path / "run" / "generations.jsonl").open("a") as file:
            file.write('{"key": "torn')
        prompts.clear()
        run = measure(world[0], model, out, world[1])
        assert len(prompts) == asked - 16
    assert figures(run.path)["answer_accuracy"].value == 1.0
    lines = (run.path / "generations.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines[:16]] == [json.loads(line)["key"] for line in kept]
    assert len(lines) == asked


def test_the_same_seed_asks_the_same_questions(
    world: tuple[str, str], reader: tuple[str, list[str]], tmp_path: Path
) -> None:
    def asked(name: str, seed: int) -> list[str]:
        run = measure(world[0], reader[0], str(tmp_path / name), world[1], limit=4, seed=seed)
        return [json.loads(line)["id"] for line in (run.path / "samples.jsonl").read_text().splitlines()]

    assert asked("a", 1) == asked("b", 1) != asked("c", 2)


def test_documents_without_questions_are_searched_for_known_items(world: tuple[str, str], tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", chat=True)
    run = measure(world[0], model, str(tmp_path / "run"), questions=None)
    found = figures(run.path)
    assert found["lexical_recall@1"].value == 1.0
    assert "answers are not scored" in found["lexical_recall@1"].setting
    assert "answer_accuracy" not in found
    assert not (run.path / "samples.jsonl").exists()
    assert found["perplexity"].value > 1
    assert found["perplexity"].interval is not None
    assert found["read_speed"].value > 0
    assert found["write_speed"].n == 5
    assert found["perplexity"].model_sha != ""


@pytest.mark.parametrize("chat", [True, False])
def test_models_that_run_here(world: tuple[str, str], tmp_path: Path, chat: bool) -> None:
    model = write_model(tmp_path / "model", chat=chat)
    run = measure(world[0], model, str(tmp_path / "run"), world[1], limit=2, k=1, max_new_tokens=4)
    found = figures(run.path)
    assert {"answer_accuracy", "closed_book_token_f1", "perplexity", "write_speed"} <= found.keys()


def test_sources_that_the_store_lacks_are_said(
    world: tuple[str, str], reader: tuple[str, list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [{"question": "Kenya's capital?", "answer": "Nairobi", "titles": ["Kenya"]}]
    rows += [{"question": "Capital of Mali?", "answer": "Bamako", "titles": ["Mali"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = measure(world[0], reader[0], str(tmp_path / "run"), str(path))
    assert "'Mali'" in caplog.text
    assert figures(run.path)["lexical_recall@10"].value == 0.5


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"k": 0}, OptionError, "k"),
        ({"limit": 0}, OptionError, "limit"),
        ({"max_new_tokens": 0}, OptionError, "max_new_tokens"),
        ({"store": "nowhere"}, DatastoreNotFound, "nowhere"),
        ({"retriever": "dense"}, OptionError, "encoder"),
    ],
)
def test_refusals_leave_no_folder(
    world: tuple[str, str], tmp_path: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    settings = {"store": world[0], "model": "nobody", "out": str(tmp_path / "run"), "questions": world[1]} | options
    with pytest.raises(error, match=words):
        measure(**settings)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_questions_that_nothing_can_judge_are_refused(world: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "Why?"}\n')
    with pytest.raises(MalformedRecord, match="question 1"):
        measure(world[0], "nobody", str(tmp_path / "run"), str(path))
