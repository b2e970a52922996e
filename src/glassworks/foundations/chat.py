"""How does a conversation become tokens, and which of them are the response? Rules of SimPO's data path.

The response is the whole conversation rendered by the chat template minus the same without its last turn: the
prefix property is asserted, never a model name looked at, so templates that refuse a lone assistant turn work.
A rendered text is always tokenised without special tokens; the start token then stands there exactly once and
the end token last. Truncation keeps the start token, cuts each response by its own budget and never to nothing.
Meng et al. 2024 and its official data path; differences are said where they are. Knows no loss and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2
from transformers import PreTrainedTokenizerBase

from glassworks.errors import DataNotFound, OptionError, TemplateError

Message = dict[str, str]
"""One turn of a conversation: {"role": ..., "content": ...}."""

NO_TEMPLATE = "Give one with --chat_template FILE (a Jinja file), or use an instruction-tuned model."


class TurnTexts(NamedTuple):
    """A conversation's last turn as text: prompt + response is the whole rendered conversation."""

    prompt: str
    response: str


class TurnTokens(NamedTuple):
    """A conversation's last turn as token ids, [prompt tokens] and [response tokens], start and end included."""

    prompt_ids: list[int]
    response_ids: list[int]


class Truncated(NamedTuple):
    """A prompt and its responses within a budget, and how many tokens each lost."""

    prompt_ids: list[int]
    responses: list[list[int]]
    prompt_cut: int
    responses_cut: list[int]


def set_template(tokenizer: PreTrainedTokenizerBase, file: str | Path) -> None:
    """Give `tokenizer` the chat template in `file`. Raises DataNotFound, or TemplateError when it is not Jinja."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataNotFound(f"cannot be read as a chat template ({error})", place=str(file)) from error
    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"not valid Jinja ({error.message})", place=f"{file}:{error.lineno}") from error
    tokenizer.chat_template = text


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    auto_insert_empty_system_msg: bool = False,
    place: str = "chat template",
) -> str:
    """The conversation as the template writes it; its start token, if the template writes one, is in the text.

    auto_insert_empty_system_msg: put an empty system message first where the template knows system messages
    and the conversation has none, as alignment-handbook does. Raises TemplateError at `place`.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        several = isinstance(tokenizer.chat_template, dict)
        problem = "has several chat templates and none is the default" if several else "has no chat template"
        raise TemplateError(f"the tokenizer {problem}", place=place, remedy=NO_TEMPLATE) from error
    turns = list(messages)
    if auto_insert_empty_system_msg and "system" in template and (not turns or turns[0].get("role") != "system"):
        turns.insert(0, {"role": "system", "content": ""})
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt)
    except (jinja2.TemplateError, TypeError, KeyError, IndexError, ValueError) as error:
        roles = ", ".join(str(turn.get("role")) for turn in turns) or "no turns"
        problem = f"cannot render the turns {roles} ({error})"
        remedy = "Use turns that the template accepts, or another template with --chat_template FILE."
        raise TemplateError(problem, place=place, remedy=remedy) from error
    return str(text)


def turn_texts(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    header_in_response: bool = False,
    auto_insert_empty_system_msg: bool = False,
    place: str = "chat template",
) -> TurnTexts:
    """Cut the rendered conversation before its last turn.

    header_in_response: False leaves the tokens that open the assistant's turn in the prompt, as generation
    sees them; True counts them to the response, as the official SimPO code does. Raises TemplateError when the
    shorter rendering is not the beginning of the longer one.
    """
    if not messages or messages[-1].get("role") != "assistant":
        last = messages[-1].get("role") if messages else None
        raise TemplateError(f"the last turn should be the assistant's, not {last!r}", place=place)
    whole = render(tokenizer, messages, auto_insert_empty_system_msg=auto_insert_empty_system_msg, place=place)
    prompt = render(
        tokenizer,
        messages[:-1],
        add_generation_prompt=not header_in_response,
        auto_insert_empty_system_msg=auto_insert_empty_system_msg,
        place=place,
    )
    if not whole.startswith(prompt):
        at = _common_length(whole, prompt)
        problem = (
            f"the conversation without its last turn is not the beginning of the whole: after {at} characters "
            f"{prompt[at : at + 30]!r} against {whole[at : at + 30]!r}"
        )
        if header_in_response:
            remedy = "The template treats the last turn differently; give another with --chat_template FILE."
        else:
            remedy = "Its generation prompt is not how it writes an answer: try --header_in_response true."
        raise TemplateError(problem, place=place, remedy=remedy)
    return TurnTexts(prompt, whole[len(prompt) :])


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids [tokens] of a rendered text, special tokens only where the text has them."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def encode_turn(tokenizer: PreTrainedTokenizerBase, texts: TurnTexts, *, place: str = "response") -> TurnTokens:
    """Tokenise prompt and response together and cut where the prompt's own tokens end.

    Where the prompt's last token merges with the response, the cut moves back before the merged token, which
    then belongs to the response. The start token is put in front unless it is there, the end token last unless
    it is there. Raises TemplateError when the text begins with two start tokens.
    """
    together = encode(tokenizer, texts.prompt + texts.response)
    cut = _common_length(together, encode(tokenizer, texts.prompt))
    whole = _with_start(tokenizer, together, place)
    cut += len(whole) - len(together)
    end = tokenizer.eos_token_id
    if end is not None and whole[-1:] != [end]:
        whole = [*whole, end]
    return TurnTokens(whole[:cut], whole[cut:])


def truncate(
    prompt_ids: Sequence[int],
    responses: Sequence[Sequence[int]],
    *,
    max_length: int,
    max_prompt_length: int,
    keep: Literal["end", "start"] = "end",
    bos_token_id: int | None = None,
) -> Truncated:
    """Fit a prompt [tokens] with each of its responses [tokens] into `max_length` tokens, sharing one prompt.

    The prompt gives way first: down to what the longest response leaves, but not below `max_prompt_length`;
    then each response is cut by its own budget, which leaves at least one token. A cut response loses its end
    token. Unlike the official code, a start token survives keep="end", no prompt is cut further than needed,
    and a side that fits is left whole. Raises OptionError for impossible budgets.
    """
    if not 1 <= max_prompt_length < max_length:
        problem = f"expected 1 <= max_prompt_length < max_length, got {max_prompt_length} and {max_length}"
        raise OptionError(problem, place="max_length", remedy="Leave room for the response.")
    longest = max((len(response) for response in responses), default=0)
    room = max(max_prompt_length, max_length - longest)
    prompt = _cut_prompt(list(prompt_ids), room, keep, bos_token_id)
    budget = max_length - len(prompt)
    kept = [list(response[:budget]) for response in responses]
    lost = [len(response) - len(short) for response, short in zip(responses, kept, strict=True)]
    return Truncated(prompt, kept, len(prompt_ids) - len(prompt), lost)


def _cut_prompt(ids: list[int], room: int, keep: str, bos: int | None) -> list[int]:
    if len(ids) <= room:
        return ids
    if keep == "start":
        return ids[:room]
    if bos is not None and ids[0] == bos:
        return [bos, *ids[len(ids) - room + 1 :]]
    return ids[len(ids) - room :]


def _with_start(tokenizer: PreTrainedTokenizerBase, ids: list[int], place: str) -> list[int]:
    start = tokenizer.bos_token_id
    if start is None:
        return ids
    if ids[:2] == [start, start]:
        problem = f"begins with two start tokens ({tokenizer.bos_token})"
        remedy = "A rendered template has one already: take it out of the text or of the template."
        raise TemplateError(problem, place=place, remedy=remedy)
    return ids if ids[:1] == [start] else [start, *ids]


def _common_length(a: Sequence[object], b: Sequence[object]) -> int:
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))
