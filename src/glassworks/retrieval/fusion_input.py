"""How do retrieved passages get into the prompt? Numbered, in a known order, within a token budget, and inert.

Input augmentation of Asai et al. 2024 (arXiv 2403.03187): the passages stand before the question, by default the
best one last, next to it. In: a question, ranked passages, a function that counts a prompt's tokens. Out: a
conversation for chat models or a plain text for base models, and which passages were numbered, shortened or left
out. A passage is data: it stays on one line, so it cannot open a line of its own, its brackets cannot look like
our numbers, and text that a tokenizer would read as a control token is broken up. Knows no model and no store.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from glassworks.errors import OptionError
from glassworks.foundations.language_model import Prompt
from glassworks.retrieval.passages import Passage

Order = Literal["best_last", "best_first"]
CountTokens = Callable[[Prompt], int]

INSTRUCTION = "Answer the question with the help of the passages. Answer with a short phrase."
CLOSED_BOOK_INSTRUCTION = "Answer the question. Answer with a short phrase."

_NUMBER_MARK = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)\s*\]")
# Control tokens of the common chat templates; a space after the first character makes them ordinary text.
_CONTROL = re.compile(
    r"<(?=\||[｜]|/?s>|/?(?:start|end)_of_turn>|(?:bos|eos|pad|unk)>|/?think>|/?(?:system|user|assistant)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FusedPrompt:
    """A prompt with its passages. passages: in prompt order, number n is passages[n - 1].

    dropped: left out whole for want of room, worst first. shortened: number of the passage that was cut at its
    end, else None; that entry of `passages` then holds the text the model saw. tokens: length of the prompt.
    """

    prompt: Prompt
    passages: tuple[Passage, ...] = ()
    dropped: tuple[Passage, ...] = ()
    shortened: int | None = None
    tokens: int = 0


def fuse(
    question: str,
    passages: Sequence[Passage],
    *,
    chat: bool,
    count_tokens: CountTokens,
    budget: int,
    order: Order = "best_last",
    cite_in_answer: bool = False,
    system_role: bool = True,
) -> FusedPrompt:
    """Put passages, best first, before the question in at most `budget` tokens.

    Whole passages are dropped from the worst upwards; if the best alone is too long, its end is cut. The question
    is never cut: OptionError where it does not fit on its own. chat: a conversation, else a text to continue.
    cite_in_answer: also ask the model to write the numbers of the passages it used. system_role: False for models
    whose template has none, where the instruction opens the user's message.
    """

    def build(kept: Sequence[Passage]) -> FusedPrompt:
        numbered = tuple(reversed(kept)) if order == "best_last" else tuple(kept)
        prompt = _prompt(question, numbered, chat, cite_in_answer, system_role)
        return FusedPrompt(prompt, numbered, tuple(reversed(passages[len(kept) :])), None, count_tokens(prompt))

    kept = len(passages)
    fused = build(passages)
    while fused.tokens > budget and kept > 1:
        kept -= 1
        fused = build(passages[:kept])
    if fused.tokens > budget and kept:
        fused = _shorten(passages[0], build, budget) or build(())
    if fused.tokens > budget:
        problem = f"the question alone takes {fused.tokens} tokens of the prompt, there is room for {budget}"
        raise OptionError(problem, place="question", remedy="Shorten it or choose a model with a longer context.")
    return fused


def _shorten(passage: Passage, build: Callable[[Sequence[Passage]], FusedPrompt], budget: int) -> FusedPrompt | None:
    """The prompt with as many of the passage's leading words as fit, or None where not one does."""
    ends = [match.end() for match in re.finditer(r"\S+", passage.text)]
    low, high, best = 0, len(ends) - 1, None
    while low <= high:
        middle = (low + high) // 2
        text = passage.text[: ends[middle]]
        cut = dataclasses.replace(passage, text=text, end=passage.start + len(text), content_hash="")
        fused = build([cut])
        if fused.tokens <= budget:
            low, best = middle + 1, fused
        else:
            high = middle - 1
    return dataclasses.replace(best, shortened=1) if best else None


def closed_book(
    question: str, *, chat: bool, count_tokens: CountTokens | None = None, system_role: bool = True
) -> FusedPrompt:
    """The same request without passages: what retrieval is compared with."""
    prompt = _prompt(question, (), chat, cite_in_answer=False, system_role=system_role)
    return FusedPrompt(prompt, tokens=count_tokens(prompt) if count_tokens else 0)


def render_passage(number: int, passage: Passage) -> str:
    """One line: ``[n] title. text``, escaped."""
    return f"[{number}] {escape(passage.indexed_text)}"


def escape(text: str) -> str:
    """Text that stays data inside a prompt: one line, no numbers in brackets, no control tokens."""
    flat = " ".join(text.split())
    return break_control_tokens(_NUMBER_MARK.sub(r"(\1)", flat))


def break_control_tokens(text: str) -> str:
    """Text in which nothing reads as a control token of a chat template, otherwise as it was."""
    return _CONTROL.sub(lambda match: match.group() + " ", text)


def _prompt(question: str, numbered: Sequence[Passage], chat: bool, cite_in_answer: bool, system_role: bool) -> Prompt:
    instruction = INSTRUCTION if numbered else CLOSED_BOOK_INSTRUCTION
    if cite_in_answer and numbered:
        instruction += " After it write the numbers of the passages you used, like [1]."
    lines = [render_passage(number, passage) for number, passage in enumerate(numbered, start=1)]
    asked = f"Question: {break_control_tokens(question.strip())}"
    if not chat:
        return "\n\n".join([instruction, *lines, f"{asked}\nAnswer:"])
    if not system_role:
        return [{"role": "user", "content": "\n\n".join([instruction, *lines, asked])}]
    return [{"role": "system", "content": instruction}, {"role": "user", "content": "\n\n".join([*lines, asked])}]
