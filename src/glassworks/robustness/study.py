"""Which questions is a defence measured on, with which passages, and what is their corpus? From names to questions.

Made-up questions, the official JSON, a BEIR folder, or JSONL asked of a live store by any of its retrievers. Questions
of little redundancy can be left out: a defence by agreement needs several passages that say the same, and a study of it
says how many questions have them. In: options. Out: `Asked`. Knows no model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from dataclasses import dataclass
from pathlib import Path

from glassworks.errors import OptionError
from glassworks.foundations.data import file_sha
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.grounding import open_filled_store
from glassworks.retrieval.metrics import contains_answer
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.retrievers import Kind, open_retriever
from glassworks.robustness.question_sets import RobustQuestion, read_beir, read_live, read_official, with_targets
from glassworks.robustness.synthetic import synthetic_questions

logger = logging.getLogger(__name__)

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Study:
    """Which questions are used, and how far certificates go.

    Args:
        limit: How many questions are used at most, drawn by seed.
        redundancy: Use only questions of which so many retrieved passages hold a known answer; 0 uses all.
        max_corruption: Certified accuracy is given for 1 to so many corrupted passages.
        seed: Draws questions, targets and random positions.
    """

    limit: int = 200
    redundancy: int = 0
    max_corruption: int = 3
    seed: int = 0

    def check(self, k: int) -> None:
        """Raise OptionError unless every setting can be met with k passages."""
        if not 1 <= self.max_corruption < k:
            problem = f"expected 1 to {k - 1} (k - 1), received {self.max_corruption}"
            raise OptionError(problem, place="study.max_corruption")
        if self.limit < 1:
            raise OptionError(f"expected at least 1, received {self.limit}", place="study.limit")
        if not 0 <= self.redundancy <= k:
            raise OptionError(f"expected 0 to {k} (k), received {self.redundancy}", place="study.redundancy")


@dataclass(frozen=True)
class Asked:
    """Questions with targets. corpus: the store, or every passage there is.

    known: questions with an answer; redundant: those of them that have the redundancy asked for.
    """

    questions: list[RobustQuestion]
    corpus: Datastore | list[Passage]
    known: int
    redundant: int
    data_sha: str


def open_study(
    questions: str | None, store: str | None, study: Study, k: int, retriever: Kind = "lexical",
    encoder: str | None = None, characters: int = 2000,
) -> Asked:  # fmt: skip
    """The questions that a study uses, each with its k best passages and an attacker's target.

    questions: null for made-up ones, which any store goes with. characters: how much of a passage is read, and so
    counts for redundancy.

    Raises OptionError where none is left, or where a store is named for questions that bring their own passages.
    """
    corpus: Datastore | list[Passage]
    if questions is None:
        logger.warning("no questions are given: made-up ones are asked, of made-up passages")
        questions, store, retriever = f"{SYNTHETIC}:{4 * study.limit}", None, "lexical"
    if is_live(questions):
        if store is None:
            raise OptionError("these questions come without passages", place="store", remedy="Name a store.")
        corpus = open_filled_store(store)
        found = read_live(questions, open_retriever(corpus, retriever, encoder), k)
    else:
        if store is not None or retriever != "lexical":
            place = "store" if store is not None else "retriever"
            raise OptionError("these questions bring their own passages", place=place, remedy="Leave it out.")
        found = _with_passages(questions, k, study.seed)
        corpus = [passage for question in found for passage in question.passages]
    known = [question for question in found if question.answers]
    kept = [question for question in known if redundancy(question, characters) >= study.redundancy]
    if not kept:
        remedy = "Lower --study.redundancy." if known else "Give 'answers' to some."
        raise OptionError("no question is left", place="questions", remedy=remedy)
    drawn = sorted(random.Random(study.seed).sample(range(len(kept)), min(study.limit, len(kept))))
    targeted = with_targets([kept[at] for at in drawn], study.seed, known)
    return Asked(targeted, corpus, len(known), len(kept), _data_sha(questions, corpus))


def is_live(questions: str) -> bool:
    """Whether the questions are asked of a store, and do not bring their own passages."""
    kind = questions.partition(":")[0]
    return kind != SYNTHETIC and not Path(questions).is_dir() and not questions.endswith(".json")


def redundancy(question: RobustQuestion, characters: int = 2000) -> int:
    """How many of its passages hold a known answer in what is read of them."""
    read = [passage.indexed_text[:characters] for passage in question.passages]
    return sum(bool(contains_answer(text, question.answers)) for text in read)


def _with_passages(questions: str, k: int, seed: int) -> list[RobustQuestion]:
    kind, _, count = questions.partition(":")
    if kind == SYNTHETIC:
        if not count.isdecimal() or not int(count):
            raise OptionError(f"expected synthetic:N, received {questions}", place="questions")
        return synthetic_questions(int(count), k=k, seed=seed)
    return read_beir(questions, k) if Path(questions).is_dir() else read_official(questions)


def _data_sha(questions: str, corpus: Datastore | list[Passage]) -> str:
    """16 hexadecimal digits over the questions and, where they are asked of a store, its documents; "" if made up."""
    if questions.startswith(f"{SYNTHETIC}:"):
        return ""
    if not isinstance(corpus, Datastore):
        return file_sha(questions)
    held = json.dumps(sorted(corpus.fingerprints().items()))
    return hashlib.sha256(f"{held}{file_sha(questions)}".encode()).hexdigest()[:16]
