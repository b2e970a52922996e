"""How good is each answer to a prompt? Four scorers behind one call.

In: prompts, each with its answers. Out: one score an answer, higher is better, None where the scorer gave none.
`classifier`: a reward model with one output (ArmoRM's kind), fed the rendered conversation, batches sorted by length.
`pairwise`: a language model compares each two answers in both orders; the score is the mean chance to win (PairRM's
use). `judge`: a language model grades each answer 1 to 10. `function`: any Python callable. Knows no files.
"""

from __future__ import annotations

import importlib
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.errors import NotAModel, OptionError, UserError
from glassworks.foundations.chat import Message, encode, render
from glassworks.foundations.generation import Sampling
from glassworks.preference.judges import Judge, fill_template, label_probability
from glassworks.preference.judging import GRADE_TEMPLATE, PAIR_TEMPLATE
from glassworks.preference.mt_bench import parse_grade

Kind = Literal["classifier", "pairwise", "judge", "function"]
Scores = list[list[float | None]]


class Scorer(Protocol):
    """name: as evidence says it."""

    name: str

    def score(self, prompts: Sequence[list[Message]], responses: Sequence[Sequence[str]]) -> Scores:
        """A score for each answer of each prompt."""
        ...


class ClassifierScorer:
    """A sequence classifier with one output. max_tokens: in one batch, padding included.

    Raises NotAModel where the model has several outputs: which of them is the reward is not known.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, *, max_tokens: int = 8192
    ) -> None:
        if model.config.num_labels != 1:
            raise NotAModel(f"has {model.config.num_labels} outputs, a reward model has one", place=name)
        self.model, self.tokenizer, self.name, self.max_tokens = model, tokenizer, name, max_tokens

    def score(self, prompts: Sequence[list[Message]], responses: Sequence[Sequence[str]]) -> Scores:
        """The output for each rendered conversation; but for rounding, it does not depend on the batch."""
        rows = [self.tokens(prompt, one) for prompt, few in zip(prompts, responses, strict=True) for one in few]
        found: dict[int, float] = {}
        for batch in tqdm(self._batches([len(row) for row in rows]), desc="scoring", leave=False):
            found |= dict(zip(batch, self._forward([rows[at] for at in batch]), strict=True))
        flat = iter(range(len(rows)))
        return [[found[next(flat)] for _ in few] for few in responses]

    def tokens(self, prompt: list[Message], response: str) -> list[int]:
        """Token ids of a conversation with its answer: by the template, without further special tokens.

        A tokenizer without a template reads prompt and answer as a pair, with its special tokens.
        """
        if getattr(self.tokenizer, "chat_template", None):
            turns = [*prompt, {"role": "assistant", "content": response}]
            return encode(self.tokenizer, render(self.tokenizer, turns, place=self.name))
        asked = "\n\n".join(message["content"] for message in prompt)
        return list(self.tokenizer(asked, response, truncation=False)["input_ids"])

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for at in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= self.max_tokens:
                batches[-1].append(at)
            else:
                batches.append([at])
        return batches

    @torch.no_grad()
    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        pad = self._padding(rows)
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.model.device)
        before, self.model.config.pad_token_id = self.model.config.pad_token_id, pad
        try:
            logits = self.model(input_ids=ids, attention_mask=mask).logits
        finally:
            self.model.config.pad_token_id = before
        return [float(value) for value in logits[:, 0].float()]

    def _padding(self, rows: Sequence[Sequence[int]]) -> int:
        """A padding token that no row ends with: decoders read the last token that is not padding."""
        own = self.tokenizer.pad_token_id
        last = {row[-1] for row in rows}
        if own is not None and own not in last:
            return int(own)
        used = set(itertools.chain.from_iterable(rows))
        return next(token for token in itertools.count() if token not in used)


class PairwiseScorer:
    """A judge that compares each two answers in both orders. template: fields instruction, output_1, output_2."""

    def __init__(self, judge: Judge, template: str = PAIR_TEMPLATE) -> None:
        self.judge, self.template, self.name = judge, template, judge.name

    def score(self, prompts: Sequence[list[Message]], responses: Sequence[Sequence[str]]) -> Scores:
        """The mean chance of an answer to win against the prompt's others, in [0, 1]."""
        games = [
            (row, first, second)
            for row, few in enumerate(responses)
            for first, second in itertools.permutations(range(len(few)), 2)
        ]
        asked = [
            fill_template(self.template, {
                "instruction": as_text(prompts[row]),
                "output_1": responses[row][first], "output_2": responses[row][second],
            })
            for row, first, second in games
        ]  # fmt: skip
        won: list[list[list[float]]] = [[[] for _ in few] for few in responses]
        for (row, first, second), top in zip(games, self.judge.top_tokens(asked), strict=True):
            if (chance := label_probability(top, "m", "M")) is not None:
                won[row][first].append(1 - chance)
                won[row][second].append(chance)
        return [[sum(one) / len(one) if one else None for one in few] for few in won]


class GradeScorer:
    """A judge that grades each answer from 1 to 10. template: fields conversation and, if it likes, reference."""

    def __init__(self, judge: Judge, options: Sampling, template: str = GRADE_TEMPLATE) -> None:
        self.judge, self.options, self.template, self.name = judge, options, template, judge.name

    def score(self, prompts: Sequence[list[Message]], responses: Sequence[Sequence[str]]) -> Scores:
        """The grade of each answer; None where it could not be read."""
        asked = [
            fill_template(self.template, {"reference": "", "conversation": f"{as_text(prompt)}\n\nAssistant: {one}"})
            for prompt, few in zip(prompts, responses, strict=True)
            for one in few
        ]
        grades = iter([parse_grade(text) for text in self.judge.write(asked, self.options)])
        return [[next(grades) for _ in few] for few in responses]


class FunctionScorer:
    """A Python callable f(prompts, responses) -> one number each; prompts are texts, or conversations where there are
    several turns."""

    def __init__(self, reference: str) -> None:
        self.name, self._function = reference, load_function(reference)

    def score(self, prompts: Sequence[list[Message]], responses: Sequence[Sequence[str]]) -> Scores:
        """What the function returns. Raises OptionError for a wrong count or something that is no finite number."""
        flat = [(prompt, one) for prompt, few in zip(prompts, responses, strict=True) for one in few]
        values = list(self._function([_simple(prompt) for prompt, _ in flat], [one for _, one in flat]))
        if len(values) != len(flat):
            raise OptionError(f"returned {len(values)} scores for {len(flat)} answers", place=self.name)
        for at, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise OptionError(f"returned {value!r} for answer {at}, expected a finite number", place=self.name)
        each = iter(values)
        return [[float(next(each)) for _ in few] for few in responses]


def load_function(reference: str) -> Callable[..., Any]:
    """The callable that 'package.module:function' names; modules of the working folder are found too."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise OptionError(f"expected package.module:function, received '{reference}'", place="scorer")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"cannot be imported ({error})", place=reference, remedy="Check the name.") from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise OptionError("is not a function", place=reference)
    return function  # type: ignore[no-any-return]


def as_text(prompt: Sequence[Message]) -> str:
    """A conversation as a judge reads it: the text of a single turn, else each turn with its role."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in prompt)


def _simple(prompt: list[Message]) -> str | list[Message]:
    return prompt[0]["content"] if len(prompt) == 1 else prompt


def refuse_unscored(scores: Scores, name: str) -> None:
    """Raises UserError where no answer at all has a score."""
    if not any(value is not None for few in scores for value in few):
        raise UserError("gave no answer a score", place=name, remedy="Look at judgments.jsonl.")
