"""What happens to one question: plain and robust, clean and attacked, with certificates? Rows on disk as they come.

In: questions with passages, a reading, an aggregator, attacks. Out: one `Trial` a question, appended to `trials.jsonl`
before the next begins, so that a killed run goes on where it stopped. The hard invariant is counted here: a certified
answer that an attack within the budget makes wrong is a violation, which is a fault, not noise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from glassworks.foundations.files import write_text
from glassworks.retrieval.lexical import BM25Settings, build_lexical
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import Aggregator
from glassworks.robustness.attacks import Position, hostile_passages, insert, overwrite
from glassworks.robustness.certificate import Checker, Threat, holds_answer, starts_with_letter
from glassworks.robustness.isolation import Reading
from glassworks.robustness.prompts import choices_text
from glassworks.robustness.question_sets import RobustQuestion

TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Attacks:
    """What is tried, and where it lands.

    Args:
        names: pia, poison, poisonedrag, refusal, template, flood or blank; several by commas.
        count: Hostile passages a question.
        delivery: Insert into the retrieved list, overwrite places in it, or add to the corpus and retrieve again.
        position: Where in the list: last, first or random.
    """

    names: str = "pia,poison"
    count: int = 1
    delivery: Literal["insert", "overwrite", "corpus"] = "insert"
    position: Position = "last"

    @property
    def listed(self) -> list[str]:
        """The names one by one."""
        return [name.strip() for name in self.names.split(",") if name.strip()]


@dataclass(frozen=True)
class Attacked:
    """Answers under one attack. hostile: hostile passages among those read."""

    plain: str
    robust: str
    hostile: int
    plain_right: bool
    robust_right: bool
    plain_hit: bool
    robust_hit: bool


@dataclass(frozen=True)
class Trial:
    """One question. certified: by budget, as text; reasons likewise; undecided: |W_B| at the smallest budget > 0."""

    id: str
    question: str
    answers: tuple[str, ...]
    target: str
    plain: str
    robust: str
    plain_right: bool
    robust_right: bool
    abstained: bool
    certified: dict[str, bool]
    reasons: dict[str, str]
    undecided: int
    calls: int
    tokens: int
    attacks: dict[str, Attacked]

    def violations(self, threat: Threat, delivery: str) -> int:
        """Attacks within a certified budget that make the answer wrong."""
        if delivery == "overwrite" and threat == "injection":
            return 0  # another threat than the certified one
        return sum(
            self.certified.get(str(one.hostile), False) and not one.robust_right for one in self.attacks.values()
        )


Corpus = Sequence[Passage]
Delivered = Mapping[str, Mapping[str, Sequence[Passage]]]


def deliver(
    questions: Sequence[RobustQuestion], attacks: Attacks, corpus: Callable[[], Corpus], k: int, seed: int
) -> Delivered:
    """Attack -> question id -> the passages that are read under it.

    corpus: every passage of the corpus, for delivery "corpus": the hostile passages of all questions are added to it,
    and each question is asked anew by BM25, so they compete by score.
    """
    found: dict[str, dict[str, Sequence[Passage]]] = {}
    for name in attacks.listed:
        hostile = {q.id: _hostile(name, q, attacks.count) for q in questions}
        if attacks.delivery == "corpus":
            added = [passage for own in hostile.values() for passage in own]
            everything = {passage.id: passage for passage in (*corpus(), *added)}
            index = build_lexical([(id_, p.indexed_text) for id_, p in everything.items()], 0, BM25Settings())
            found[name] = {q.id: [everything[id_] for id_, _ in index.search(q.text, k)] for q in questions}
            continue
        place = insert if attacks.delivery == "insert" else overwrite
        found[name] = {
            q.id: place(q.passages[:k], hostile[q.id], k=k, position=attacks.position, seed=seed) for q in questions
        }
    return found


def _hostile(name: str, question: RobustQuestion, count: int) -> list[Passage]:
    made = hostile_passages(name, question.text, question.target, count)
    return [Passage(f"{p.document_id}-{question.id}#0", f"{p.document_id}-{question.id}", p.text) for p in made]


def run_trials(
    questions: Sequence[RobustQuestion], reading: Reading, aggregator: Aggregator, delivered: Delivered,
    budgets: Sequence[int], threat: Threat, path: Path,
) -> list[Trial]:  # fmt: skip
    """One trial a question, those on disk already left as they are."""
    done = _read(path)
    for question in tqdm(questions, desc="certify", disable=None):
        if question.id in done:
            continue
        given = {name: lists[question.id] for name, lists in delivered.items()}
        trial = _trial(question, reading, aggregator, given, budgets, threat)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        done[question.id] = trial
    return [done[question.id] for question in questions]


def _trial(
    question: RobustQuestion, reading: Reading, aggregator: Aggregator, given: Mapping[str, Sequence[Passage]],
    budgets: Sequence[int], threat: Threat,
) -> Trial:  # fmt: skip
    asked = choices_text(question.text, question.choices) if question.choices else question.text
    right = checker_of(question)
    top = question.passages[: reading.k]
    reading.prepare([(asked, passages) for passages in (top, *given.values())])
    plain, *plain_attacked = reading.plain([(asked, top), *((asked, passages) for passages in given.values())])
    calls, tokens = reading.responder.calls, reading.responder.tokens
    robust = aggregator.answer(reading, asked, top)
    certificates = {
        budget: aggregator.certify(reading, asked, top, budget, threat, right)
        for budget in budgets
        if not aggregator.uncertified
    }
    attacked = {}
    for (name, passages), said in zip(given.items(), plain_attacked, strict=True):
        text = aggregator.answer(reading, asked, passages).text
        hostile = sum(passage.document_id.startswith("hostile-") for passage in passages)
        target = question.target.lower()
        attacked[name] = Attacked(
            said, text, hostile, right(said), right(text), target in said.lower(), target in text.lower()
        )
    first = next((certificates[budget] for budget in budgets if budget and budget in certificates), None)
    return Trial(
        question.id, question.text, question.answers, question.target, plain, robust.text, right(plain),
        right(robust.text), robust.abstained, {str(b): c.certified for b, c in certificates.items()},
        {str(b): c.reason.name for b, c in certificates.items()}, first.undecided if first else 0,
        reading.responder.calls - calls + len(reading.units(top)), reading.responder.tokens - tokens, attacked,
    )  # fmt: skip


def checker_of(question: RobustQuestion) -> Checker:
    """What counts as right: the gold letter, or a gold answer within the text."""
    if question.choices and question.gold_choice is not None:
        return starts_with_letter("ABCD"[question.gold_choice])
    return holds_answer(question.answers)


def _read(path: Path) -> dict[str, Trial]:
    """Whole lines of the file by question; what a killed process left half-written is removed."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        write_text(path, text)
    found = {}
    for line in text.splitlines():
        row = json.loads(line)
        row["attacks"] = {name: Attacked(**one) for name, one in row["attacks"].items()}
        found[row["id"]] = Trial(**{**row, "answers": tuple(row["answers"])})
    return found
