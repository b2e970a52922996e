"""A robust answer from a small store: kept keywords, agreeing passages, certificate, refusals."""

from pathlib import Path

import pytest
from cases.capitals import reading_server

from glassworks.errors import DatastoreNotFound, OptionError
from glassworks.retrieval.index import index
from glassworks.robustness.answer import answer
from glassworks.robustness.method import Defence
from glassworks.robustness.scripted_reader import WORDINGS

RURITANIA = "What is the capital of Ruritania?"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("answer") / "docs"
    folder.mkdir()
    for number, wording in enumerate(WORDINGS):
        said = wording.format(relation="capital", entity="Ruritania", value="Strelsau")
        (folder / f"book{number}.txt").write_text(said)
    (folder / "lie.txt").write_text("The capital of Ruritania is Zenda. " * 5)
    (folder / "glass.txt").write_text("Glass is made of sand; it is the capital of craft in no Ruritania.")
    return str(index(str(folder), str(folder.parent / "index")).path)


def test_the_lie_is_outvoted_and_the_answer_certified(store: str) -> None:
    given = answer(RURITANIA, store, "scripted", certify=1)
    assert given.answer.kept == ("strelsau",)
    assert given.certificate is not None
    assert given.certificate.certified
    shown = given.summary()
    assert "Certified: no 1 corrupted passage (injected) can change this answer." in shown
    assert "Kept keywords: strelsau" in shown
    assert "book0" in shown
    assert "lie" not in shown


@pytest.mark.parametrize("method", ["voting", "decoding", "independent-set"])
def test_other_ways(store: str, method: str) -> None:
    given = answer(RURITANIA, store, "scripted", robust=method)  # type: ignore[arg-type]
    assert given.answer.text.lower() == "strelsau"
    assert given.certificate is None


def test_why_there_is_no_certificate_is_said(store: str) -> None:
    assert "the adversary alone can reach" in answer(RURITANIA, store, "scripted", certify=3).summary()


def test_a_server_answers_too(store: str) -> None:
    with reading_server() as (model, prompts):
        given = answer(RURITANIA, store, model, certify=1, defence=Defence(k=4, beta=2))
    assert given.certificate is not None
    assert given.certificate.calls <= len(prompts)
    assert len(given.answer.isolated) == 4


def test_refusals_come_before_loading(store: str) -> None:
    for options, words in (
        ({"question": " "}, "question"), ({"certify": 10}, "certify"),
        ({"robust": "decoding", "model": "http://h#m"}, "keyword"),
        ({"defence": Defence(alpha=2)}, "alpha"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            answer(**({"question": RURITANIA, "store": store, "model": "nobody/nothing"} | options))  # type: ignore[arg-type]
    with pytest.raises(DatastoreNotFound):
        answer(RURITANIA, str(Path(store) / "nowhere"))
