"""Who judges? One protocol for a local model, an OpenAI-compatible server and judgments recorded earlier.

In: a judge's prompt as a conversation. Out: a text (a verdict or grade is read from it by each benchmark), or the
probability of one label against another from the next-token distribution. What a judge said is kept in a ledger in the
run folder under a key of the prompt alone, so a killed run asks only what is left, and that file can be the judge of
another run: `recorded:FILE`. Prompts are ours; `template` takes a benchmark's own file, whose published scores it fits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.chat import Message
from glassworks.foundations.data import local_file
from glassworks.foundations.generation import LanguageModel, Prompt, Sampling, open_language_model
from glassworks.foundations.ledger import Ledger, entry_key

RECORDED = "recorded:"
CALL_PROMPTS = 16  # a kill loses at most this many judgments
_TURN = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.S)
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges and how.

    Args:
        model: A packaged name, folder, hub id, server http://host:port/v1#name, or recorded:FILE (judgments.jsonl).
        template: File with the benchmark's own judge prompt, fields in braces; none: a prompt of this package.
        max_new_tokens: Longest judgment that is written, in tokens.
        temperature: Of the judge's writing.
        seed: Of the judge's writing, and of the order in which two outputs are shown.
        device: Where a local judge runs: auto, cpu or cuda.
        dtype: Precision of a local judge's weights.
    """

    model: str | None = None
    template: str | None = None
    max_new_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    @property
    def sampling(self) -> Sampling:
        """The options of the judge's writing. Raises OptionError."""
        return Sampling(self.max_new_tokens, self.temperature, seed=self.seed)


class Judge(Protocol):
    """Answers a judge's prompts, in order. name: who judges, as reports say it."""

    name: str

    def write(self, prompts: Sequence[list[Message]], options: Sampling) -> list[str]:
        """The judgment written after each prompt."""
        ...

    def top_tokens(self, prompts: Sequence[list[Message]]) -> list[dict[str, float]]:
        """The five most likely next tokens of each prompt: text -> log-probability."""
        ...


class ModelJudge:
    """A language model, here or on a server, as a judge; what it says goes into the ledger."""

    def __init__(self, model: LanguageModel, ledger: Ledger) -> None:
        self.model, self.ledger, self.name = model, ledger, model.name

    def write(self, prompts: Sequence[list[Message]], options: Sampling) -> list[str]:
        """The judgment written after each prompt; known ones are not asked again."""

        def ask(few: list[Prompt]) -> list[dict[str, Any]]:
            return [{"judgment": generation.text} for generation in self.model.generate(few, options)]

        return [entry["judgment"] for entry in self._ask("write", prompts, ask)]

    def top_tokens(self, prompts: Sequence[list[Message]]) -> list[dict[str, float]]:
        """The five most likely next tokens of each prompt; known ones are not asked again."""

        def ask(few: list[Prompt]) -> list[dict[str, Any]]:
            return [{"top_tokens": tokens} for tokens in self.model.top_next_tokens(few, 5)]

        return [entry["top_tokens"] for entry in self._ask("top", prompts, ask)]

    def _ask(
        self, kind: str, prompts: Sequence[list[Message]], ask: Callable[[list[Prompt]], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        keys = [entry_key(kind, prompt) for prompt in prompts]
        missing = [at for at in dict(zip(keys, range(len(keys)), strict=True)).values() if keys[at] not in self.ledger]
        for first in tqdm(range(0, len(missing), CALL_PROMPTS), desc="judging", disable=not missing):
            some = missing[first : first + CALL_PROMPTS]
            answers = ask([self._prompt(prompts[at]) for at in some])
            self.ledger.add(
                {"key": keys[at], "judge": self.name, **answer} for at, answer in zip(some, answers, strict=True)
            )
        return [self.ledger[key] for key in keys]

    def _prompt(self, messages: list[Message]) -> Prompt:
        return messages if self.model.chat else "\n\n".join(message["content"] for message in messages) + "\n"


class RecordedJudge:
    """Judgments of an earlier run, by the prompt that was judged. Raises DataNotFound for one that was not."""

    def __init__(self, file: str) -> None:
        self.name, self._ledger = f"{RECORDED}{file}", Ledger(local_file(file))

    def write(self, prompts: Sequence[list[Message]], options: Sampling) -> list[str]:
        """The judgment recorded for each prompt."""
        return [str(self._find("write", prompt, at)["judgment"]) for at, prompt in enumerate(prompts)]

    def top_tokens(self, prompts: Sequence[list[Message]]) -> list[dict[str, float]]:
        """The distribution recorded for each prompt."""
        return [dict(self._find("top", prompt, at)["top_tokens"]) for at, prompt in enumerate(prompts)]

    def _find(self, kind: str, prompt: list[Message], at: int) -> dict[str, Any]:
        key = entry_key(kind, prompt)
        if key not in self._ledger:
            raise DataNotFound(
                f"holds no judgment of prompt {at}", place=self.name,
                remedy="Use the outputs, template and seed it was made with, or ask a judge.",
            )  # fmt: skip
        return self._ledger[key]


def open_judge(options: JudgeOptions, ledger: Path) -> Judge:
    """The judge that the options name; ledger: where its judgments are kept. Raises OptionError where none is named."""
    if not options.model:
        raise OptionError(
            "outputs need a judge", place="judge.model",
            remedy="Name one, as in --judge.model http://127.0.0.1:8000/v1#my-judge, or give judged annotations.",
        )  # fmt: skip
    if options.model.startswith(RECORDED):
        return RecordedJudge(options.model.removeprefix(RECORDED))
    model = open_language_model(options.model, device=options.device, dtype=options.dtype)
    return ModelJudge(model, Ledger(ledger))


def read_template(file: str | None, default: str, fields: Sequence[str]) -> str:
    """A judge's prompt with {field} places, from a file or the default. Raises OptionError where a field lacks."""
    if file is None:
        return default
    text = local_file(file).read_text(encoding="utf-8")
    if missing := [field for field in fields if f"{{{field}}}" not in text]:
        raise OptionError(f"the template has no place for {{{missing[0]}}}", place=file)
    return text


def fill_template(template: str, values: Mapping[str, str]) -> list[Message]:
    """A judge's prompt as a conversation; turns are marked as in ChatML, a template without marks is one user turn.

    Braces that name no value stay as they are: templates show JSON. Values are put in as they are, braces too.
    """

    def put(text: str) -> str:
        return _FIELD.sub(lambda found: values.get(found[1], found[0]), text)

    turns = [{"role": role, "content": put(text.strip())} for role, text in _TURN.findall(template)]
    return turns or [{"role": "user", "content": put(template.strip())}]


def label_probability(top: Mapping[str, float], first: str, second: str) -> float | None:
    """P(second) / (P(first) + P(second)) from top tokens (log-probabilities); None where neither is among them."""
    one, other = (math.exp(top[label]) if label in top else 0.0 for label in (first, second))
    return other / (one + other) if one + other > 0 else None
