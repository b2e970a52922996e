"""What does the reader answer when it sees one passage at a time? Isolated responses, batched and remembered.

RobustRAG section 3: r_i = LLM(instruction, question, passage i), greedy, cut at the first blank line; a response that
says it found nothing abstains. All prompts of all questions are one call, so that the model batches them and computes
their common beginning once. Version 2 reads disjoint groups: a passage's group is a hash of its content, so an
injected passage changes its own group and no other. In: questions and ranked passages. Out: one response a unit.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.language_model import LanguageModel, Prompt, Sampling
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.samples import Generated, Ledger, prompt_key
from glassworks.robustness.certificate import Threat
from glassworks.robustness.prompts import TEMPLATES, PromptTemplates, closed_prompt, hint_prompt, isolated_prompt

Unit = tuple[Passage, ...]
Asked = tuple[str, Sequence[Passage]]
Abstains = Callable[[str], bool]

ABSTENTION_PATTERNS = (
    r"^\W*(i'?m sorry\W+(but )?)?i (really )?(don'?t|do not|cannot|can'?t|could not|couldn'?t) "
    r"(know|find|answer|tell|have|see)",
    r"^\W*(there is |i found |i have )?no (relevant |such |further )?(information|answer|mention)",
    r"^\W*(unknown|not (mentioned|found|stated|given|provided|specified|enough|available))\b",
    r"^\W*the (passage|text) (does not|doesn't|says nothing|gives no)",
    r"^\W*$",
)


def abstention(patterns: Sequence[str] = ()) -> Abstains:
    """Whether a response says that nothing was found: any of these regular expressions, whatever the case.

    None given: the built-in ones. They look at the beginning: "I don't Want to Miss a Thing" is an answer.
    """
    try:
        compiled = [re.compile(pattern, re.IGNORECASE) for pattern in patterns or ABSTENTION_PATTERNS]
    except re.error as error:
        raise OptionError(f"not a regular expression ({error})", place="abstention") from None
    return lambda text: any(pattern.search(text.replace("’", "'")) for pattern in compiled)


def choice_letter(response: str) -> str | None:
    """The letter of a multiple-choice response; None for anything that does not begin with "A." to "D."."""
    head = response.strip()[:2]
    return head[0] if head in ("A.", "B.", "C.", "D.") else None


def cut_response(text: str) -> str:
    """A response up to its first blank line."""
    return re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0].strip()


class UnitBudget(NamedTuple):
    """Over which units, of at most k, with which budget and threat a certificate is to be computed."""

    units: list[Unit]
    k: int
    budget: int
    threat: Threat


def group_number(passage: Passage, groups: int) -> int:
    """The group of a passage: a hash of its words, so that no other passage can move it."""
    return int(hashlib.sha256(passage.indexed_text.encode("utf-8", "surrogatepass")).hexdigest(), 16) % groups


def units_of(passages: Sequence[Passage], groups: int = 0) -> list[Unit]:
    """One unit a passage, or `groups` disjoint units in which passages keep their order; some may be empty."""
    if not groups:
        return [(passage,) for passage in passages]
    held: list[list[Passage]] = [[] for _ in range(groups)]
    for passage in passages:
        held[group_number(passage, groups)].append(passage)
    return [tuple(members) for members in held]


def unit_budget(passages: Sequence[Passage], groups: int, *, k: int, budget: int, threat: Threat) -> UnitBudget:
    """What k' corrupted passages can do to the units.

    Groups: those of p_1..p_{k-k'} are compared with what is read under attack. An injected passage, or a benign one
    that it did not displace, alters one group; a replaced passage leaves one group and enters another.
    """
    if not groups:
        return UnitBudget(units_of(passages[:k]), k, budget, threat)
    if threat == "injection":
        return UnitBudget(units_of(passages[: k - budget], groups), groups, budget, "modification")
    return UnitBudget(units_of(passages[:k], groups), groups, 2 * budget, "modification")


class Responder:
    """A model's greedy answers, each asked for once. calls, tokens: made so far, remembered ones not counted.

    ledger: keeps them on disk from run to run. fingerprint: of the model's bytes, for the ledger's keys.
    Raises OptionError for sampling with a temperature, about which nothing can be certified.
    """

    def __init__(
        self, model: LanguageModel, options: Sampling, *, ledger: Ledger | None = None, fingerprint: str = ""
    ) -> None:
        if options.temperature:
            raise OptionError("answers drawn at random cannot be certified", place="temperature", remedy="Use 0.")
        self.model, self.options = model, options
        self.calls = self.tokens = 0
        self._ledger, self._fingerprint = ledger, fingerprint or model.name
        self._known: dict[str, str] = (
            {key: entry.text for key, entry in ledger.entries.items()} if ledger is not None else {}
        )

    @property
    def spent(self) -> tuple[int, int]:
        """Calls and tokens so far."""
        return self.calls, self.tokens

    def respond(self, prompts: Sequence[Prompt]) -> list[str]:
        """One response a prompt, in order, cut at the first blank line."""
        keys = [prompt_key(prompt, self.options, self._fingerprint) for prompt in prompts]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._known}
        if missing:
            start = time.perf_counter()
            made = self.model.generate(list(missing.values()), self.options)
            seconds = (time.perf_counter() - start) / len(made)
            self.calls += len(made)
            self.tokens += sum(one.prompt_tokens + len(one.token_ids) for one in made)
            entries = [
                Generated(key, cut_response(one.text), one.prompt_tokens, len(one.token_ids), seconds)
                for key, one in zip(missing, made, strict=True)
            ]
            if self._ledger is not None:
                self._ledger.add(entries)
            self._known |= {entry.key: entry.text for entry in entries}
        return [self._known[key] for key in keys]

    def forget(self) -> None:
        """Ask again from here on, for measurements of time."""
        self._known.clear()


@dataclass(frozen=True)
class Reading:
    """How passages are read: by whom, with which words, one by one or in groups.

    k: the most passages that count. groups: 0 reads each alone. characters: longer passages are cut there.
    """

    responder: Responder
    templates: PromptTemplates = TEMPLATES["short"]
    abstains: Abstains = field(default_factory=abstention)
    k: int = 10
    groups: int = 0
    characters: int = 2000

    def __post_init__(self) -> None:
        check_at_least(1, k=self.k, characters=self.characters)
        check_at_least(0, groups=self.groups)

    @property
    def chat(self) -> bool:
        """Whether the model takes conversations."""
        return self.responder.model.chat

    def isolated(self, question: str, unit: Unit) -> Prompt:
        """The prompt about one unit."""
        return isolated_prompt(self.templates, question, unit, chat=self.chat, characters=self.characters)

    def units(self, passages: Sequence[Passage]) -> list[Unit]:
        """The units of the first k passages."""
        return units_of(passages[: self.k], self.groups)

    def prepare(self, asked: Sequence[Asked]) -> None:
        """Read all units of several questions in one call; what is asked afterwards is remembered."""
        prompts = [
            self.isolated(question, unit) for question, passages in asked for unit in self.units(passages) if unit
        ]
        self.responder.respond(prompts)

    def responses(self, question: str, units: Sequence[Unit]) -> list[str]:
        """What is said about each unit, abstentions included; "" for a unit without passages."""
        filled = [unit for unit in units if unit]
        said = iter(self.responder.respond([self.isolated(question, unit) for unit in filled]))
        return [next(said) if unit else "" for unit in units]

    def answers_to_hints(self, asked: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
        """The final answers to questions with keywords in their canonical order."""
        return self.responder.respond(
            [hint_prompt(self.templates, question, keywords, chat=self.chat) for question, keywords in asked]
        )

    def plain(self, questions: Sequence[Asked]) -> list[str]:
        """Ordinary retrieval-augmented answers: all passages in one prompt, or none where none was found."""
        return self.responder.respond(
            [
                self.isolated(question, tuple(passages[: self.k]))
                if passages
                else closed_prompt(self.templates, question, chat=self.chat)
                for question, passages in questions
            ]
        )
