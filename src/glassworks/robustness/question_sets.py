"""Which questions, with which passages, gold answers and attack targets, is a defence measured on?

Loaders for the official RobustRAG JSON (question, correct answer, expanded answer, incorrect answer, context), BEIR
folders (corpus.jsonl, queries.jsonl, qrels) and JSONL questions asked of a live datastore. A question without a known
target gets the answer of another, similar one. Out: `RobustQuestion`. Knows no model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.data import read_jsonl
from glassworks.retrieval.corpora import read_rows
from glassworks.retrieval.lexical import BM25Settings, build_lexical
from glassworks.retrieval.passages import Passage, Retriever
from glassworks.retrieval.questions import Question, read_questions


@dataclass(frozen=True)
class RobustQuestion:
    """A question with its ranked passages, gold answers and the wrong answer that an attacker wants.

    choices: options of a multiple-choice question, gold_choice the right one's number from 0.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    target: str
    passages: tuple[Passage, ...] = ()
    choices: tuple[str, ...] = ()
    gold_choice: int | None = None


def read_official(path: str | Path) -> list[RobustQuestion]:
    """The questions of an official RobustRAG data file. Raises DataNotFound or MalformedRecord."""
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"cannot be read ({error.strerror})", place=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MalformedRecord(f"not valid JSON ({error})", place=str(path)) from None
    if not isinstance(rows, list) or not rows:
        raise MalformedRecord("expected a list of questions", place=str(path))
    return [_official(row, f"{path}, question {number}", number) for number, row in enumerate(rows, start=1)]


def _official(row: Any, place: str, number: int) -> RobustQuestion:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise MalformedRecord("field 'question' is missing", place=place)
    answers = [str(answer) for key in ("correct answer", "expanded answer") for answer in _list(row.get(key))]
    if not answers:
        raise MalformedRecord("field 'correct answer' is missing", place=place)
    wrong = _list(row.get("incorrect answer"))
    choices = tuple(map(str, _list(row.get("choices"))))
    gold = row.get("choices answer") if choices else None
    known = [str(number) for number in range(min(len(choices), 4))]  # a letter A to D stands for each
    if gold is not None and str((_list(gold) or [""])[0]) not in known:
        problem = f"'choices answer': expected one of {', '.join(known)}, received {gold!r}"
        raise MalformedRecord(problem, place=place)
    if not all(isinstance(one, dict) for one in _list(row.get("context"))):
        raise MalformedRecord("'context': expected a list of {title, text}", place=place)
    passages = [
        Passage(f"{number}-{rank}#0", f"{number}-{rank}", str(one.get("text", "")), str(one.get("title", "")))
        for rank, one in enumerate(_list(row.get("context")))
    ]
    return RobustQuestion(
        str(row.get("id", number)), row["question"].strip(), tuple(dict.fromkeys(answers)),
        str(wrong[0]) if wrong else "", tuple(passages), choices,
        None if gold is None else int(str(_list(gold)[0])),
    )  # fmt: skip


def read_beir(folder: str | Path, k: int) -> list[RobustQuestion]:
    """The queries of a BEIR-style folder with their k best passages by BM25.

    Answers are the query's `answers` or `metadata.answers`; where it has none, the titles of its relevant documents.
    """
    folder = Path(folder)
    documents = {document.id: document for document in read_rows(folder / "corpus.jsonl")}
    passages = {id_: Passage(f"{id_}#0", id_, document.text, document.title) for id_, document in documents.items()}
    index = build_lexical([(id_, passage.indexed_text) for id_, passage in passages.items()], 0, BM25Settings())
    relevant = _qrels(folder)
    found: list[RobustQuestion] = []
    for row in read_jsonl(folder / "queries.jsonl", ["text"]):
        id_ = str(row.get("_id", row.get("id", len(found))))
        nested = row.get("metadata") or {}
        answers = _list(row.get("answers") or nested.get("answers"))
        answers = answers or [documents[one].title for one in relevant.get(id_, ()) if one in documents]
        ranked = tuple(passages[hit] for hit, _ in index.search(row["text"], k))
        found.append(RobustQuestion(id_, row["text"], tuple(map(str, answers)), str(row.get("target", "")), ranked))
    return found


def _qrels(folder: Path) -> Mapping[str, list[str]]:
    relevant: dict[str, list[str]] = {}
    for file in sorted((folder / "qrels").glob("*.tsv")) if (folder / "qrels").is_dir() else []:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()[1:], start=2):
            try:
                query, document, score = line.split("\t")[:3]
                counts = float(score) > 0
            except ValueError:
                problem = "expected query, document and score, with tabs between"
                raise MalformedRecord(problem, place=f"{file}:{number}") from None
            if counts:
                relevant.setdefault(query, []).append(document)
    return relevant


def ask_store(questions: Sequence[Question], retriever: Retriever, k: int) -> list[RobustQuestion]:
    """Questions with known answers and the k passages that a retriever finds for them."""
    known = [question for question in questions if question.answers]
    hits = retriever.retrieve([question.text for question in known], k)
    return [
        RobustQuestion(question.id, question.text, question.answers, "", tuple(hit.passage for hit in found))
        for question, found in zip(known, hits, strict=True)
    ]


def read_live(path: str, retriever: Retriever, k: int) -> list[RobustQuestion]:
    """The questions of a JSONL file or packaged name, asked of a store."""
    return ask_store(read_questions(path), retriever, k)


def with_targets(
    questions: Sequence[RobustQuestion], seed: int, pool: Sequence[RobustQuestion] = ()
) -> list[RobustQuestion]:
    """Every question with a target: its own, or another one's answer that is not an answer of its own.

    pool: whose answers are taken, by default these questions'. The answer is that of a question which begins with as
    many of the same words as any, drawn by seed: who asks for a capital is told another capital. Of a multiple-choice
    question it is a wrong choice.
    """
    draw = random.Random(seed)
    known = [(other.text.lower().split(), other.answers[0]) for other in pool or questions if other.answers]
    done = []
    for question in questions:
        if not question.target:
            wrong = [choice for number, choice in enumerate(question.choices[:4]) if number != question.gold_choice]
            own, words = [answer.lower() for answer in question.answers], question.text.lower().split()
            free = [(_shared(words, asked), a) for asked, a in known if not _overlap(a.lower(), own)]
            most = max((shared for shared, _ in free), default=0)
            nearest = [answer for shared, answer in free if shared == most]
            question = replace(question, target=draw.choice(wrong or nearest or ["Zanzibar"]))
        done.append(question)
    return done


def _overlap(answer: str, own: Sequence[str]) -> bool:
    return any(answer in gold or gold in answer for gold in own)


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words two texts begin with in common."""
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
