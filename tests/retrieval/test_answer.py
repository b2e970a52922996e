"""A question asked of a small store: streamed answer, citations that open the passage, refusals, honesty."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases.capitals import CAPITALS, reading_server, write_documents, write_model

from glassworks.errors import DatastoreError, DatastoreNotFound, ModelNotFound, OptionError
from glassworks.retrieval.answer import ask, printable
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.index import index

KENYA = "What is the capital of Kenya?"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("capitals")
    return str(index(str(write_documents(folder / "docs")), str(folder / "index")).path)


@pytest.fixture
def reader() -> Iterator[tuple[str, list[str]]]:
    with reading_server() as server:
        yield server


def test_the_answer_streams_with_its_citations_and_they_open_the_passage(
    store: str, reader: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(KENYA, store, reader[0], k=2)
    assert capsys.readouterr().out == "The capital of Kenya is Nairobi. [2] That is all.\n\n"
    assert answer.text == "The capital of Kenya is Nairobi. That is all."
    first, second = answer.sentences
    assert (answer.cited, second.citations) == ((2,), ())
    source, citation = answer.sources[1], first.citations[0]
    assert (source.title, source.document_id) == ("Kenya", "Kenya.md")
    document = source.text
    assert document[citation.start - source.start : citation.end - source.start] == citation.quote
    assert citation.quote == "The capital of Kenya is Nairobi."
    shown = answer.summary()
    assert all(part in shown for part in ("[2] Kenya", source.uri, citation.quote, "many rivers"))
    assert f"{citation.start}-{citation.end}" in shown
    assert "Read but not cited: [1]" in shown


def test_the_result_is_plain_data(store: str, reader: tuple[str, list[str]]) -> None:
    plain = json.loads(json.dumps(dataclasses.asdict(ask(KENYA, store, reader[0], k=1))))
    assert plain["sources"][0]["title"] == "Kenya"
    assert set(plain["seconds"]) == {"retrieval", "loading", "answering"}


def test_an_unsupported_answer_says_so(store: str, reader: tuple[str, list[str]]) -> None:
    answer = ask("What is the capital of Glass?", store, reader[0], k=1)
    assert answer.text == "I do not know."
    assert answer.cited == ()
    assert any("No passage supports" in note for note in answer.notes)


def test_where_nothing_is_found_no_model_is_asked_unless_allowed(store: str, reader: tuple[str, list[str]]) -> None:
    answer = ask("Xyzzy plugh?", store, "no-such-model")
    assert (answer.text, answer.sources) == ("", ())
    assert "not answered" in answer.summary()
    answer = ask("Xyzzy plugh?", store, reader[0], closed_book_fallback=True)
    assert "from the model alone" in answer.summary()
    assert "passages" not in reader[1][0]


def test_a_score_floor_leaves_weak_passages_out(store: str) -> None:
    assert ask(KENYA, store, "no-such-model", min_score=1e6).sources == ()


@pytest.mark.parametrize("chat", [True, False])
def test_models_that_run_here_with_and_without_a_chat_template(store: str, tmp_path: Path, chat: bool) -> None:
    answer = ask(KENYA, store, write_model(tmp_path / "model", chat=chat), k=2, max_new_tokens=4)
    assert len(answer.sources) == 2
    assert answer.notes


def test_the_model_can_cite_itself(store: str, reader: tuple[str, list[str]]) -> None:
    answer = ask(KENYA, store, reader[0], k=1, citations="model")
    assert answer.cited == ()  # it never does
    assert "[1]" in reader[1][0].partition("Kenya")[0]


def test_citing_by_an_encoder(store: str, reader: tuple[str, list[str]]) -> None:
    answer = ask(KENYA, store, reader[0], k=2, citations="encoder", encoder="hashing:256")
    assert answer.sentences[0].citations[0].number == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"question": "  "}, OptionError, "question"),
        ({"k": 0}, OptionError, "k: expected"),
        ({"max_new_tokens": 0}, OptionError, "max_new_tokens"),
        ({"store": "nowhere"}, DatastoreNotFound, "nowhere"),
        ({"retriever": "dense"}, OptionError, "encoder"),
        ({"citations": "encoder"}, OptionError, "encoder"),
        ({"model": "no-such-folder/model"}, ModelNotFound, "no-such-folder"),
    ],
)
def test_refusals_come_before_loading(
    store: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    settings = {"question": KENYA, "store": store, "model": "nobody/nothing"} | options
    with pytest.raises(error, match=words):
        ask(**settings)  # type: ignore[arg-type]


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    Datastore.create(tmp_path / "empty")
    with pytest.raises(DatastoreError, match="holds no passage"):
        ask(KENYA, str(tmp_path / "empty"))


def test_documents_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b]8;;http://evil\x07b\u202e\r\n\tc") == "a]8;;http://evilb\n\tc"
    assert printable("ok \U0001f469\u200d\U0001f52c") == "ok \U0001f469\u200d\U0001f52c"


def test_every_capital_is_found_and_cited(store: str, reader: tuple[str, list[str]]) -> None:
    for country, capital in list(CAPITALS.items())[:3]:
        answer = ask(f"What is the capital of {country}?", store, reader[0], k=1)
        assert answer.sentences[0].citations[0].quote.endswith(f"{capital}.")
