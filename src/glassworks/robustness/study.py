"""Which questions is a defence measured on, with which passages, and what is their corpus? From names to questions.

Made-up questions, the official JSON, a BEIR folder, or JSONL asked of a live store by any of its retrievers. Made-up
facts can be planted in a copy of a store, so that any store can be studied without labelled questions. Questions
of little redundancy can be left out: a defence by agreement needs several passages that say the same, and a study of it
says how many questions have them. In: options. Out: `Asked`. Knows no model.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glassworks.errors import MalformedRecord, OptionError, check_at_least
from glassworks.foundations.data import file_sha
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.grounding import open_filled_store, store_sha
from glassworks.retrieval.metrics import contains_answer
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.retrievers import Kind, open_retriever
from glassworks.robustness.poisoned_corpus import PoisonedCorpus
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
        check_at_least(1, **{"study.limit": self.limit})
        if not 0 <= self.redundancy <= k:
            raise OptionError(f"expected 0 to {k} (k), received {self.redundancy}", place="study.redundancy")


@dataclass(frozen=True)
class Asked:
    """Questions with targets. corpus: the store, or every passage there is.

    planted: made-up passages that are still to be put into a copy of the store, from which `ask_again` retrieves.
    known: questions with an answer; redundant: those of them that have the redundancy asked for.
    """

    questions: list[RobustQuestion]
    corpus: Datastore | list[Passage]
    known: int
    redundant: int
    data_sha: str
    planted: tuple[Passage, ...] = ()


def open_study(
    questions: str | None, store: str | None, study: Study, k: int, retriever: Kind = "lexical",
    encoder: str | None = None, characters: int = 2000,
) -> Asked:  # fmt: skip
    """The questions that a study uses, each with its k best passages and an attacker's target.

    questions: null for made-up ones. characters: how much of a passage is read, and so counts for redundancy.
    Raises OptionError where none is left, or where a store is named for questions that bring their own passages.
    """
    if questions is None:
        questions = f"{SYNTHETIC}:{4 * study.limit}"
        logger.warning("no questions are given: made-up ones are asked")
    live, made_up = is_live(questions), questions.startswith(f"{SYNTHETIC}:")
    if not (live or made_up) and store is not None:
        raise OptionError("these questions bring their own passages", place="store", remedy="Leave it out.")
    opened = open_filled_store(store) if store is not None else None
    if live:
        if opened is None:
            raise OptionError("these questions come without passages", place="store", remedy="Name a store.")
        found = read_live(questions, open_retriever(opened, retriever, encoder), k)
        return _chosen(found, opened, study, k, characters, _data_sha(questions, opened))
    if opened is None and retriever != "lexical":
        raise OptionError("these questions bring their own passages", place="retriever", remedy="Leave it out.")
    found = _with_passages(questions, k, study.seed)
    passages = [passage for question in found for passage in question.passages]
    if opened is None:
        return _chosen(found, passages, study, k, characters, _data_sha(questions, passages))
    return Asked(found, opened, len(found), len(found), _data_sha(questions, opened), tuple(passages))


def ask_again(asked: Asked, corpus: PoisonedCorpus, study: Study, k: int, characters: int = 2000) -> Asked:
    """Made-up questions with the passages that are found for them where theirs are planted."""
    found = corpus.retrieve({question.id: question.text for question in asked.questions}, {}, k)
    again = [replace(question, passages=found[question.id]) for question in asked.questions]
    return _chosen(again, asked.corpus, study, k, characters, asked.data_sha)


def _chosen(
    found: Sequence[RobustQuestion], corpus: Datastore | list[Passage], study: Study, k: int, characters: int,
    data_sha: str,
) -> Asked:  # fmt: skip
    """Questions with an answer and enough redundancy, as many as the study uses, with targets."""
    id_, count = Counter(question.id for question in found).most_common(1)[0] if found else ("", 0)
    if count > 1:
        raise MalformedRecord(f"{count} questions have the id {id_!r}", place="questions")
    known = [question for question in found if question.answers]
    kept = [question for question in known if redundancy(question, k, characters) >= study.redundancy]
    if not kept:
        remedy = "Lower --study.redundancy." if known else "Give 'answers' to some."
        raise OptionError("no question is left", place="questions", remedy=remedy)
    drawn = sorted(random.Random(study.seed).sample(range(len(kept)), min(study.limit, len(kept))))
    targeted = with_targets([kept[at] for at in drawn], study.seed, known)
    return Asked(targeted, corpus, len(known), len(kept), data_sha)


def is_live(questions: str) -> bool:
    """Whether the questions are asked of a store, and do not bring their own passages."""
    kind = questions.partition(":")[0]
    return kind != SYNTHETIC and not Path(questions).is_dir() and not questions.endswith(".json")


def redundancy(question: RobustQuestion, k: int, characters: int = 2000) -> int:
    """How many of its first k passages hold a known answer in what is read of them."""
    read = [passage.indexed_text[:characters] for passage in question.passages[:k]]
    return sum(bool(contains_answer(text, question.answers)) for text in read)


def _with_passages(questions: str, k: int, seed: int) -> list[RobustQuestion]:
    kind, _, count = questions.partition(":")
    if kind == SYNTHETIC:
        if not count.isdecimal() or not int(count):
            raise OptionError(f"expected synthetic:N, received {questions}", place="questions")
        return synthetic_questions(int(count), k=k, seed=seed)
    return read_beir(questions, k) if Path(questions).is_dir() else read_official(questions)


def _data_sha(questions: str, corpus: Datastore | list[Passage]) -> str:
    """16 hexadecimal digits over questions and the documents of a store; "" where both are made up."""
    asked = None if questions.startswith(f"{SYNTHETIC}:") else questions
    if isinstance(corpus, Datastore):
        return store_sha(corpus, asked)
    return file_sha(asked) if asked else ""
