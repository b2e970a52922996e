"""Answers that a bounded number of corrupted passages cannot change: the door for programs.

RobustRAG (Xiang et al. 2024, arXiv 2405.15556): `RobustRAG(model, retriever, aggregator).answer(question)` and
`.certify(question, k_prime)`. The retriever is ours, a function from question to passages (see `adapters`), or left out
where passages are given with each question; passages are `Passage` or plain texts, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glassworks.errors import OptionError
from glassworks.foundations.language_model import LanguageModel, Sampling
from glassworks.retrieval.passages import Passage, Retriever
from glassworks.robustness.aggregators import Aggregator, KeywordAggregator, RobustAnswer, answer_one, certify_answer
from glassworks.robustness.certificate import Certificate, Checker, Threat, check_budget, same_answer
from glassworks.robustness.isolation import Reading, Responder, abstention
from glassworks.robustness.prompts import TEMPLATES, PromptTemplates

Found = Sequence[Passage] | Sequence[str]
Finder = Callable[[str, int], Found]


class RobustRAG:
    """A reader behind a secure aggregator. retriever: ours, or a function (question, k) -> passages, best first.

    patterns: regular expressions of an abstaining response; None for those of the templates. groups: see `isolation`.
    """

    def __init__(
        self,
        model: LanguageModel,
        retriever: Retriever | Finder | None = None,
        aggregator: Aggregator | None = None,
        *,
        k: int = 10,
        groups: int = 0,
        templates: PromptTemplates = TEMPLATES["short"],
        patterns: Sequence[str] | None = None,
    ) -> None:
        self.aggregator: Aggregator = aggregator or KeywordAggregator()
        stops = ("\n\n",) if model.chat else ("\n",)
        responder = Responder(model, Sampling(templates.max_new_tokens, stop=stops))
        abstains = abstention(templates.abstention if patterns is None else patterns)
        self.reading = Reading(responder, templates, abstains, k, groups)
        self._retriever = retriever

    def answer(self, question: str, passages: Found | None = None) -> RobustAnswer:
        """The robust answer. Nothing retrieved is an abstention."""
        return answer_one(self.aggregator, self.reading, question, self._passages(question, passages))

    def answer_all(self, questions: Sequence[str], passages: Sequence[Found] | None = None) -> list[RobustAnswer]:
        """Answers to several questions, computed together."""
        given = passages if passages is not None else [None] * len(questions)
        found = [self._passages(question, own) for question, own in zip(questions, given, strict=True)]
        return self.aggregator.answer_all(self.reading, list(zip(questions, found, strict=True)))

    def certify(
        self,
        question: str,
        k_prime: int = 1,
        threat: Threat = "injection",
        checker: Checker | None = None,
        passages: Found | None = None,
    ) -> Certificate:
        """Whether no k_prime passages can make the answer fail the checker.

        checker: by default, that the answer stays what it is now. Raises OptionError for a budget outside [0, k) and
        for an aggregator that has no certificate.
        """
        check_budget(k_prime, self.reading.k)
        found = self._passages(question, passages)
        if checker is None:
            checker = same_answer(answer_one(self.aggregator, self.reading, question, found).text)
        return certify_answer(self.aggregator, self.reading, question, found, k_prime, threat, checker)

    def _passages(self, question: str, given: Found | None) -> list[Passage]:
        if given is None:
            if self._retriever is None:
                raise OptionError("no retriever was given, so passages are needed", place="passages")
            if isinstance(self._retriever, Retriever):
                given = [hit.passage for hit in self._retriever.retrieve([question], self.reading.k)[0]]
            else:
                given = self._retriever(question, self.reading.k)
        return as_passages(given)[: self.reading.k]


def as_passages(found: Found) -> list[Passage]:
    """Passages of plain texts; those that are passages already stay as they are."""
    return [
        passage if isinstance(passage, Passage) else Passage(f"given#{number}", "given", str(passage))
        for number, passage in enumerate(found)
    ]
