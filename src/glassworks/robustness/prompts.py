"""What is the reader asked about one passage, about all of them, about keywords, and about nothing but the question?

RobustRAG section 3: an instruction and demonstrations, one of which abstains, are the same in every prompt and come
first, so that their keys and values are computed once. Every text here can be replaced by a YAML file of the same
fields. A passage is data: it stays on one line and control tokens in it are broken up. Out: prompts for chat models
and for base models. Knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from glassworks.errors import MalformedRecord, UnknownName
from glassworks.foundations.data import local_file
from glassworks.foundations.language_model import Message, Prompt
from glassworks.retrieval.fusion_input import break_control_tokens, escape
from glassworks.retrieval.passages import Passage

Mode = Literal["short", "choices", "long"]

_PLACES = {"isolated": ("question", "passages"), "hint": ("question", "keywords"), "closed": ("question",)}
_FIELD = re.compile(r"\{(question|passages|keywords)\}")


@dataclass(frozen=True)
class PromptTemplates:
    """Texts with {question}, {passages} and {keywords}. demonstrations: (request, answer) turns after the instruction.

    isolated: about one passage or group, and the plain prompt with all of them. hint: about the kept keywords, without
    passages. closed: about the question alone. abstention: regular expressions of responses that say nothing was found;
    none for the built-in ones.
    """

    instruction: str
    demonstrations: tuple[tuple[str, str], ...]
    isolated: str = "Passage: {passages}\nQuestion: {question}"
    hint: str = "Keywords: {keywords}\nQuestion: {question}"
    closed: str = "Question: {question}"
    max_new_tokens: int = 20
    abstention: tuple[str, ...] = ()


def _short() -> PromptTemplates:
    facts = (
        ("Passage: Lakes. The deepest lake of the world is Lake Baikal, 1,642 metres deep.\n"
         "Question: What is the deepest lake of the world?", "Lake Baikal"),
        ("Passage: Bees. Honey bees live in colonies and build combs of wax.\n"
         "Question: Who painted the Night Watch?", "I don't know"),
        ("Passage: Elements. Tungsten melts at 3,422 degrees, higher than any other metal.\n"
         "Question: Which metal has the highest melting point?", "Tungsten"),
        ("Keywords: 1969, moon\nQuestion: In which year did people first walk on the moon?", "1969"),
    )  # fmt: skip
    return PromptTemplates(
        "Answer with a few words taken from the passage. If the passage does not answer the question, say: "
        "I don't know",
        facts,
    )


def _choices() -> PromptTemplates:
    facts = (
        ("Passage: Lakes. Lake Baikal is the deepest lake of the world.\n"
         "Question: What is the deepest lake?\nA. Erie\nB. Baikal\nC. Como\nD. Chad\nE. No information found",
         "B. Baikal"),
        ("Passage: Bees. Honey bees build combs of wax.\n"
         "Question: Who painted the Night Watch?\nA. Hals\nB. Vermeer\nC. Rembrandt\nD. Steen\n"
         "E. No information found", "E. No information found"),
    )  # fmt: skip
    return PromptTemplates(
        "Choose the answer that the passage gives. If it gives none of A to D, answer: E. No information found", facts
    )


def _long() -> PromptTemplates:
    return PromptTemplates(
        "Write what the passage tells about the question. If it tells nothing about it, say: I don't know",
        (),
        hint="Write an answer of a few sentences that uses these phrases: {keywords}\nQuestion: {question}",
        max_new_tokens=200,
    )


TEMPLATES: dict[str, PromptTemplates] = {"short": _short(), "choices": _choices(), "long": _long()}
QUERY_FIRST = "Question: {question}\nPassage: {passages}"


def open_templates(mode: Mode = "short", file: str | None = None, *, query_first: bool = False) -> PromptTemplates:
    """The templates of a mode, with the fields that a YAML file replaces.

    query_first: the question before the passage, so that its keys and values are shared as well; changes answers.
    Raises UnknownName for a field, MalformedRecord for a file that holds no mapping.
    """
    templates = TEMPLATES[mode]
    if query_first:
        templates = replace(templates, isolated=QUERY_FIRST)
    if file is None:
        return templates
    return _replaced(templates, local_file(file))


def _replaced(templates: PromptTemplates, file: Path) -> PromptTemplates:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedRecord(f"not valid YAML ({str(error).splitlines()[0]})", place=str(file)) from None
    if not isinstance(found, dict):
        raise MalformedRecord("expected a mapping of template fields", place=str(file))
    known = [field.name for field in fields(PromptTemplates)]
    for name in found:
        if name not in known:
            raise UnknownName("template field", str(name), known, place=str(file))
    return replace(templates, **{name: _field(name, value, str(file)) for name, value in found.items()})


def _field(name: str, value: Any, place: str) -> Any:
    """A field's value as the dataclass holds it. Raises MalformedRecord, naming what was expected."""
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    pairs = isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value)
    expected, holds = "a text", isinstance(value, str)
    if name == "max_new_tokens":
        expected, holds = "a number of at least 1", type(value) is int and value >= 1
    elif name == "abstention":
        expected, holds, value = "a list of regular expressions", texts, tuple(value) if texts else ()
    elif name == "demonstrations":
        expected, holds = "a list of [request, answer]", pairs
        value = tuple((str(asked), str(told)) for asked, told in value) if pairs else ()
    elif name in _PLACES and holds:
        wanted = _PLACES[name]
        expected = f"a text with {' and '.join(f'{{{part}}}' for part in wanted)} and no other field"
        holds = set(_FIELD.findall(value)) == set(wanted)
    if not holds:
        raise MalformedRecord(f"'{name}': expected {expected}", place=place)
    return value


def isolated_prompt(
    templates: PromptTemplates, question: str, passages: Sequence[Passage], *, chat: bool, characters: int
) -> Prompt:
    """About these passages alone. characters: longer passages are cut there, each by itself."""
    lines = [escape(passage.indexed_text[:characters]) for passage in passages]
    return _prompt(templates, templates.isolated, chat, question=question, passages="\n\n".join(lines))


def hint_prompt(templates: PromptTemplates, question: str, keywords: Sequence[str], *, chat: bool) -> Prompt:
    """About the kept keywords, in their canonical order; no passage is in it."""
    return _prompt(templates, templates.hint, chat, question=question, keywords=", ".join(map(escape, keywords)))


def closed_prompt(templates: PromptTemplates, question: str, *, chat: bool) -> Prompt:
    """About the question alone."""
    return _prompt(templates, templates.closed, chat, question=question)


def choices_text(question: str, choices: Sequence[str]) -> str:
    """A question with its options as A. to D. and the option that nothing is said."""
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=False)]
    return "\n".join([question, *lines, "E. No information found"])


def _prompt(templates: PromptTemplates, template: str, chat: bool, **parts: str) -> Prompt:
    # One pass, so that braces inside a passage stay what they are.
    parts["question"] = break_control_tokens(parts["question"].strip())
    request = _FIELD.sub(lambda match: parts.get(match[1], ""), template)
    if not chat:
        shown = [f"{asked}\nAnswer: {told}" for asked, told in templates.demonstrations]
        return "\n\n".join([templates.instruction, *shown, f"{request}\nAnswer:"])
    turns: list[Message] = []
    for asked, told in templates.demonstrations:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
    turns.append({"role": "user", "content": request})
    # The instruction opens the first user's turn: templates without a system role refuse one of its own.
    turns[0] = {"role": "user", "content": f"{templates.instruction}\n\n{turns[0]['content']}"}
    return turns
