"""The door for programs: texts or passages, retrievers or functions, one call for several questions, certificates."""

import pytest
from cases.capitals import ASKED, write_documents

from glassworks.errors import OptionError
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.index import index
from glassworks.retrieval.retrievers import open_retriever
from glassworks.robustness.aggregators import KeywordAggregator
from glassworks.robustness.certificate import Reason
from glassworks.robustness.keyword_aggregation import Thresholds
from glassworks.robustness.robust_rag import RobustRAG
from glassworks.robustness.scripted_reader import ScriptedReader

QUESTION = "What is the capital of Ruritania?"
TEXTS = ["The capital of Ruritania is Strelsau."] * 5


def test_plain_texts_and_the_default_checker() -> None:
    rag = RobustRAG(ScriptedReader(), k=5)
    answer = rag.answer(QUESTION, TEXTS)
    assert (answer.text, answer.kept, answer.citations) == ("strelsau", ("strelsau",), (1, 2, 3, 4, 5))
    certificate = rag.certify(QUESTION, 1, passages=TEXTS)
    assert (certificate.certified, certificate.outputs) == (True, ("strelsau",))
    assert rag.certify(QUESTION, 3, passages=TEXTS).reason is Reason.THRESHOLD_LE_BUDGET


def test_a_retriever_of_ours_and_a_function(tmp_path: object) -> None:
    store = Datastore.open(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index")).path)  # type: ignore[operator]
    rag = RobustRAG(ScriptedReader(), open_retriever(store), KeywordAggregator(Thresholds(0.3, 1)), k=3)
    assert "nairobi" in rag.answer(ASKED.format("Kenya")).text
    assert (
        RobustRAG(ScriptedReader(), lambda question, k: TEXTS[:k], k=2).answer(QUESTION).isolated == ("Strelsau",) * 2
    )
    with pytest.raises(OptionError, match="passages"):
        RobustRAG(ScriptedReader()).answer(QUESTION)


def test_several_questions_are_one_reading() -> None:
    model = ScriptedReader()
    rag = RobustRAG(model, lambda question, k: TEXTS, k=5)
    together = rag.answer_all([QUESTION, "What is the capital of Elsewhere?"])
    assert [answer.text for answer in together] == ["strelsau", "I don't know."]
    assert together == [
        RobustRAG(ScriptedReader(), lambda question, k: TEXTS, k=5).answer(a.question) for a in together
    ]
