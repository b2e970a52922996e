"""From rows of preference data to tokenised pairs that share one prompt, with every loss of a token or row counted.

Question: which tokens are the prompt, which the two responses (SimPO spec, section 5)? Input: rows in any of four
schemas: `prompt` text + `chosen`/`rejected` conversations; conversations on all three; texts already templated;
on-policy records with `all_generated_responses`. Output: `TokenizedPair`s and a `Preparation` that says how many rows
were cut or left out and why. Errors name the row. Knows no loss; the template rules are those of
`foundations.chat`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from glassworks.errors import InvalidPair, OptionError, TemplateError
from glassworks.foundations.chat import NO_TEMPLATE, Message, TurnTexts, TurnTokens, encode_turn, truncate, turn_texts
from glassworks.foundations.data import check_messages
from glassworks.foundations.rows import load_rows

log = logging.getLogger(__name__)

ON_POLICY = "all_generated_responses"
"""The column that marks on-policy records, whose prompt is a user's message even where the responses are texts."""


@dataclass(frozen=True)
class PairFormat:
    """How a pair becomes tokens.

    max_length: prompt and longer response together, tokens. max_prompt_length: what a prompt is cut to, tokens.
    truncation: which end of a long prompt is kept. header_in_response: the tokens that open the assistant's turn
    count as response, as in the official SimPO settings. auto_insert_empty_system_msg: as alignment-handbook does.
    on_invalid: refuse the data at the first broken row, or drop such rows and count them.
    split: of a folder or hub dataset; empty for train or the only one. test_split: held-out pairs are this split's
    instead of a share of the prompts.
    """

    max_length: int = 2048
    max_prompt_length: int = 1800
    truncation: Literal["end", "start"] = "end"
    header_in_response: bool = False
    auto_insert_empty_system_msg: bool = False
    on_invalid: Literal["refuse", "drop"] = "refuse"
    split: str = ""
    test_split: str = ""

    def check(self) -> None:
        """Raises OptionError for lengths that leave no response."""
        if not 1 <= self.max_prompt_length < self.max_length:
            raise OptionError(
                f"expected 1 <= max_prompt_length < max_length, got {self.max_prompt_length} and {self.max_length}",
                place="--pairs.max_length",
                remedy="Leave room for the response.",
            )


class Pair(NamedTuple):
    """A preference as written. prompt: messages, or a text already templated; name: source and row, for errors."""

    prompt: list[Message] | str
    chosen: str
    rejected: str
    name: str


class TokenizedPair(NamedTuple):
    """A preference as token ids: one prompt, [prompt tokens], and two responses, each [response tokens], not empty."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    name: str


@dataclass
class Preparation:
    """What preparing did: pairs kept, prompts and responses that lost tokens, rows left out by reason."""

    kept: int = 0
    prompts_cut: int = 0
    responses_cut: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str:
        """The counts in one line."""
        parts = [f"{self.kept} pairs", f"{self.prompts_cut} prompts and {self.responses_cut} responses cut"]
        parts += [f"{count} rows dropped: {reason}" for reason, count in sorted(self.dropped.items())]
        return "; ".join(parts)


def read_pairs(
    source: str, *, on_invalid: Literal["refuse", "drop"] = "refuse", split: str | None = None
) -> tuple[list[Pair], Preparation]:
    """The pairs of a file, folder, packaged name or hub id in any of the four schemas, and the rows left out.

    Raises MalformedRecord for a row that is no record of any schema and InvalidPair for one that is no preference,
    both with the row's number, and DataNotFound.
    """
    report, pairs = Preparation(), []
    for number, row in enumerate(load_rows(source, ("chosen", "rejected"), split=split), start=1):
        try:
            pairs.append(pair_of(row, f"{source}, {split + ' ' if split else ''}row {number}"))
        except InvalidPair as invalid:
            if on_invalid == "refuse":
                raise
            report.dropped[invalid.reason] += 1
    report.kept = len(pairs)
    return pairs, report


def pair_of(row: Mapping[str, Any], name: str) -> Pair:
    """One row of any schema as a Pair. Raises MalformedRecord and InvalidPair at `name`."""
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not isinstance(prompt, str):
            prompt = check_messages(prompt, f"{name}, prompt")
        elif row.get(ON_POLICY) is not None:
            prompt = [{"role": "user", "content": prompt}]
        pair = Pair(prompt, chosen, rejected, name)
    else:
        first = check_messages(chosen, f"{name}, chosen", last="assistant")
        second = check_messages(rejected, f"{name}, rejected", last="assistant")
        before = _turns_before(prompt, first, name)
        if first[:-1] != second[:-1]:
            raise InvalidPair("the prompts of chosen and rejected differ", name)
        pair = Pair([*before, *first[:-1]], first[-1]["content"], second[-1]["content"], name)
    for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not text.strip():
            raise InvalidPair(f"the {side} response is empty", name)
    if pair.chosen == pair.rejected:
        raise InvalidPair("chosen and rejected are the same", name)
    return pair


def check_template(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises TemplateError where pairs are conversations and the tokenizer has no template to write them with."""
    if any(not isinstance(pair.prompt, str) for pair in pairs) and not tokenizer.chat_template:
        raise TemplateError("the tokenizer has no chat template", place="model", remedy=NO_TEMPLATE)


def tokenize_pairs(
    pairs: Iterable[Pair],
    tokenizer: PreTrainedTokenizerBase,
    form: PairFormat,
    report: Preparation | None = None,
) -> tuple[list[TokenizedPair], Preparation]:
    """Tokenise and cut pairs to `form`'s lengths; counts go on in `report`.

    Raises TemplateError and InvalidPair with the row, and InvalidPair where no row is left.
    """
    form.check()
    report = report or Preparation()
    kept: list[TokenizedPair] = []
    names = list(pairs)
    for pair in tqdm(names, desc="tokenising", unit="pair", disable=None if len(names) > 500 else True):
        try:
            kept.append(_tokenized(pair, tokenizer, form, report))
        except InvalidPair as invalid:
            if form.on_invalid == "refuse":
                raise
            report.dropped[invalid.reason] += 1
    report.kept = len(kept)
    if not kept:
        raise InvalidPair("no pair is left to learn from", place="data", remedy=report.sentence())
    log.info("%s", report.sentence())
    return kept, report


def shared_prompt(first: TurnTokens, second: TurnTokens) -> tuple[list[int], list[int], list[int]]:
    """One prompt [prompt tokens] for both responses, each [response tokens].

    A prompt's last token that merged with one response only belongs to both responses then, so that no token is
    predicted from a context the other side does not have.
    """
    common = 0
    for left, right in zip(first.prompt_ids, second.prompt_ids, strict=False):
        if left != right:
            break
        common += 1
    return (
        first.prompt_ids[:common],
        [*first.prompt_ids[common:], *first.response_ids],
        [*second.prompt_ids[common:], *second.response_ids],
    )


def _turns_before(prompt: object, conversation: Sequence[Message], name: str) -> list[Message]:
    """Turns of the prompt that the conversation does not repeat."""
    if prompt is None:
        return []
    if isinstance(prompt, str):
        if len(conversation) == 1:
            return [{"role": "user", "content": prompt}]
        if prompt not in (turn["content"] for turn in conversation[:-1]):
            raise InvalidPair("'prompt' is not among the turns of 'chosen'", name)
        return []
    turns = check_messages(prompt, f"{name}, prompt")
    if len(conversation) > 1:
        if conversation[:-1] != turns:
            raise InvalidPair("'prompt' and the turns before the response in 'chosen' differ", name)
        return []
    return turns


def _tokenized(pair: Pair, tokenizer: PreTrainedTokenizerBase, form: PairFormat, report: Preparation) -> TokenizedPair:
    sides = [encode_turn(tokenizer, _texts(pair, text, tokenizer, form), place=pair.name) for text in pair[1:3]]
    prompt, chosen, rejected = shared_prompt(*sides)
    if not prompt:
        raise InvalidPair("prompt and response have no token in common that begins both", pair.name)
    cut = truncate(
        prompt,
        [chosen, rejected],
        max_length=form.max_length,
        max_prompt_length=form.max_prompt_length,
        keep=form.truncation,
        bos_token_id=tokenizer.bos_token_id,
    )
    if cut.responses[0] == cut.responses[1]:
        raise InvalidPair(
            "chosen and rejected are the same after truncation",
            pair.name,
            f"Raise --pairs.max_length (now {form.max_length}) or pass --pairs.on_invalid drop.",
        )
    report.prompts_cut += cut.prompt_cut > 0
    report.responses_cut += sum(lost > 0 for lost in cut.responses_cut)
    return TokenizedPair(cut.prompt_ids, cut.responses[0], cut.responses[1], pair.name)


def _texts(pair: Pair, response: str, tokenizer: PreTrainedTokenizerBase, form: PairFormat) -> TurnTexts:
    if isinstance(pair.prompt, str):
        return TurnTexts(pair.prompt, response)
    return turn_texts(
        tokenizer,
        [*pair.prompt, {"role": "assistant", "content": response}],
        header_in_response=form.header_in_response,
        auto_insert_empty_system_msg=form.auto_insert_empty_system_msg,
        place=pair.name,
    )
