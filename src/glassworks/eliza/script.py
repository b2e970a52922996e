"""Scripts of the synthetic ELIZA: ranked templates, rules that answer them in turn, a memory queue.

Friedman, Panigrahi, Chen 2025 (arXiv 2407.10949), section 2 and appendix A. A template is `U ... .` of words and
wildcards `0`; a rule is `E ... .` of words and indices into the template (U = 0) whose wildcard is copied. The last
template is the null template `U 0 .`. Read from our text format (errors at file:line:column) or the official
script.csv; checked on creation. Pure Python; knows no conversation (interpreter) and no model.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassworks.errors import DataNotFound, MalformedRecord, OptionError

logger = logging.getLogger(__name__)

START, USER, ELIZA, END = "$", "U", "E", "."
WILDCARD = "0"
NULL: tuple[str, ...] = (USER, WILDCARD, END)
Token = str | int
NullCycle = Literal["on_input", "on_response"]


@dataclass(frozen=True)
class Script:
    """Templates by rank with the rules of each; memory: which template is remembered, answered by `dequeue` later.

    null_cycle: whether rules of the null template take turns on every null input (the paper's main data) or on
    those only that are answered by a null rule (appendix D.1). Raises OptionError for a script that cannot be run.
    """

    templates: tuple[tuple[str, ...], ...]
    rules: tuple[tuple[tuple[Token, ...], ...], ...]
    memory: int | None = None
    dequeue: tuple[tuple[Token, ...], ...] = ()
    null_cycle: NullCycle = "on_input"

    def __post_init__(self) -> None:
        if len(self.templates) != len(self.rules) or not self.templates or self.templates[-1] != NULL:
            raise OptionError("the last template is to be 'U 0 .', and every template needs rules", place="script")
        if self.null_cycle not in ("on_input", "on_response"):
            raise OptionError(f"null_cycle '{self.null_cycle}', expected on_input or on_response", place="script")
        for at, (template, rules) in enumerate(zip(self.templates, self.rules, strict=True)):
            check_template(template, f"template {at + 1}")
            if not rules:
                raise OptionError("the template has no rule", place=f"template {at + 1}")
            for number, rule in enumerate(rules, start=1):
                check_rule(rule, template, f"template {at + 1}, rule {number}")
        if self.memory is not None:
            if not 0 <= self.memory < len(self.templates) - 1 or not self.dequeue:
                raise OptionError("expected a memory template before the null one, with dequeue rules", place="script")
            for number, rule in enumerate(self.dequeue, start=1):
                check_rule(rule, self.templates[self.memory], f"dequeue rule {number}")
        elif self.dequeue:
            raise OptionError("dequeue rules without a memory template", place="script")
        for at, template in enumerate(self.templates[:-1]):
            if any(covers(earlier, template) for earlier in self.templates[:at]):
                logger.warning("template %d ('%s') never answers: an earlier one covers it", at + 1, shown(template))

    @property
    def words(self) -> list[str]:
        """All words of templates and rules besides `$ U E .`, sorted."""
        sides = [*self.templates, *(rule for rules in self.rules for rule in rules), *self.dequeue]
        found = {token for side in sides for token in side if isinstance(token, str)}
        return sorted(found - {START, USER, ELIZA, END, WILDCARD})

    @property
    def all_rules(self) -> list[tuple[int, tuple[Token, ...]]]:
        """Every rule with its template's number; dequeue rules last, with the number of templates."""
        listed = [(at, rule) for at, rules in enumerate(self.rules) for rule in rules]
        return listed + [(len(self.templates), rule) for rule in self.dequeue]


def check_template(template: Sequence[str], place: str) -> None:
    """Refuse a template that is not `U ... .` with words and separated wildcards. Raises OptionError."""
    if len(template) < 2 or template[0] != USER or template[-1] != END:
        raise OptionError(f"expected 'U ... .', received '{' '.join(template)}'", place=place)
    inner = template[1:-1]
    if {USER, ELIZA, END, START} & set(inner):
        raise OptionError("U, E, $ and . stand at the ends only", place=place)
    if any(a == b == WILDCARD for a, b in itertools.pairwise(inner)):
        raise OptionError("two wildcards beside each other", place=place, remedy="Put a word between them.")


def check_rule(rule: Sequence[Token], template: Sequence[str], place: str) -> None:
    """Refuse a rule that is not `E ... .` or copies what is no wildcard of the template. Raises OptionError."""
    if len(rule) < 2 or rule[0] != ELIZA or rule[-1] != END:
        raise OptionError(f"expected 'E ... .', received '{shown(rule)}'", place=place)
    for token in rule[1:-1]:
        if isinstance(token, int) and not (0 <= token < len(template) and template[token] == WILDCARD):
            wildcards = [str(at) for at, part in enumerate(template) if part == WILDCARD]
            raise OptionError(
                f"{token} in '{shown(rule)}' is no wildcard of '{' '.join(template)}'",
                place=place,
                remedy=f"Its wildcards are {', '.join(wildcards) or 'none'} (U counts as 0).",
            )
        if token in (START, USER, ELIZA, END):
            raise OptionError("U, E, $ and . stand at the ends only", place=place)


def covers(wider: Sequence[str], narrower: Sequence[str]) -> bool:
    """Whether a template matches everything that another one does, its wildcards read as a word of their own."""
    filled = [f"\0{at}" if token == WILDCARD else token for at, token in enumerate(narrower)]
    return bool(match(wider, filled) is not None)


def chunks_of(template: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The runs of words between a template's wildcards: c_0 begins with U, the last ends with `.`."""
    chunks: list[tuple[str, ...]] = []
    run: list[str] = []
    for token in template:
        if token == WILDCARD:
            chunks.append(tuple(run))
            run = []
        else:
            run.append(token)
    return (*chunks, tuple(run))


def match(template: Sequence[str], sentence: Sequence[str]) -> list[int] | None:
    """Where the runs of words of a template end in a sentence, greedy from the left; None where it does not match.

    sentence: `U ... .`. The ends E_0 .. E_K are positions in the sentence (section 2); wildcard k captures
    E_{k-1} + 1 .. E_k - |c_k|.
    """
    chunks = chunks_of(template)
    size = len(sentence)
    first = len(chunks[0])
    if tuple(sentence[:first]) != chunks[0]:
        return None
    if len(chunks) == 1:
        return [size - 1] if size == first else None
    ends = [first - 1]
    for chunk in chunks[1:-1]:
        start = ends[-1] + 1
        while start + len(chunk) <= size and tuple(sentence[start : start + len(chunk)]) != chunk:
            start += 1
        if start + len(chunk) > size:
            return None
        ends.append(start + len(chunk) - 1)
    start = size - len(chunks[-1])
    if start <= ends[-1] or tuple(sentence[start:]) != chunks[-1]:
        return None
    return [*ends, size - 1]


def captures(template: Sequence[str], sentence: Sequence[str], ends: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Which positions [start, stop) of a sentence each wildcard, by its index in the template, captured."""
    chunks = chunks_of(template)
    wildcards = [at for at, token in enumerate(template) if token == WILDCARD]
    spans = zip(ends, ends[1:], chunks[1:], strict=False)
    return {at: (low + 1, high - len(chunk) + 1) for at, (low, high, chunk) in zip(wildcards, spans, strict=True)}


def shown(tokens: Sequence[Token]) -> str:
    """A template or rule as text."""
    return " ".join(map(str, tokens))


def parse_script(text: str, file: str = "script") -> Script:
    """A script in our text format: templates at the margin by rank, rules indented, `memory` and `dequeue` marked.

    Lines: `U a 0 .`, `memory U c 0 .`, an indented `E p 2 .` or `dequeue E q 2 .`, `null_cycle on_response`;
    `#` starts a comment. Raises MalformedRecord naming line and column, and OptionError.
    """
    templates: list[tuple[str, ...]] = []
    rules: list[list[tuple[Token, ...]]] = []
    dequeue: list[tuple[Token, ...]] = []
    memory: int | None = None
    null_cycle: NullCycle = "on_input"
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].rstrip()
        words = content.split()
        if not words:
            continue
        column = len(content) - len(content.lstrip()) + 1
        place = f"{file}:{number}:{column}"
        marked, body = words[0], words[1:] if words[0] in ("memory", "dequeue", "null_cycle") else words
        if marked == "null_cycle":
            if body not in (["on_input"], ["on_response"]):
                raise MalformedRecord("expected on_input or on_response after null_cycle", place=place)
            null_cycle = "on_response" if body == ["on_response"] else "on_input"
        elif body and body[0] == USER and marked != "dequeue":
            if marked == "memory" and memory is not None:
                raise MalformedRecord("expected one memory template, found a second", place=place)
            memory = len(templates) if marked == "memory" else memory
            _located(check_template, place, body)
            templates.append(tuple(body))
            rules.append([])
        elif body and body[0] == ELIZA and templates and marked != "memory":
            rule = tuple(int(token) if token.isdecimal() else token for token in body)
            _located(check_rule, place, rule, templates[-1])
            (dequeue if marked == "dequeue" else rules[-1]).append(rule)
        else:
            wanted = "a template (U ... .)" if not templates else "a template (U ... .) or a rule (E ... .)"
            raise MalformedRecord(f"expected {wanted}, found '{' '.join(words)}'", place=place)
    return Script(tuple(templates), tuple(map(tuple, rules)), memory, tuple(dequeue), null_cycle)


def _located(check: object, place: str, *arguments: object) -> None:
    try:
        check(*arguments, place)  # type: ignore[operator]
    except OptionError as error:
        raise MalformedRecord(error.problem, place=place, remedy=error.remedy) from None


def write_script(script: Script) -> str:
    """A script as `parse_script` reads it."""
    lines = [f"null_cycle {script.null_cycle}"]
    for at, (template, rules) in enumerate(zip(script.templates, script.rules, strict=True)):
        lines.append(("memory " if at == script.memory else "") + shown(template))
        lines += [f"    {shown(rule)}" for rule in rules]
        if at == script.memory:
            lines += [f"    dequeue {shown(rule)}" for rule in script.dequeue]
    return "\n".join(lines) + "\n"


def from_csv(text: str, file: str = "script.csv", null_cycle: NullCycle = "on_input") -> Script:
    """The script of an official script.csv. Raises MalformedRecord."""
    templates: dict[int, tuple[str, ...]] = {}
    rules: dict[int, list[tuple[Token, ...]]] = {}
    dequeue: list[tuple[Token, ...]] = []
    memory: int | None = None
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            at, kind = int(row["template_id"]), row["type"]
            template = tuple(row["template"].split())
            rule = tuple(int(token) if token.isdecimal() else token for token in row["transformation"].split())
        except (KeyError, ValueError, AttributeError) as error:
            raise MalformedRecord(
                f"expected the columns of an official script ({error})", place=f"{file}:{number}"
            ) from None
        if kind == "memory":
            dequeue.append(rule)
            memory = next((known for known, other in templates.items() if other == template), None)
        else:
            templates[at] = template
            rules.setdefault(at, []).append(rule)
    order = sorted(templates)
    return Script(
        tuple(templates[at] for at in order),
        tuple(tuple(rules[at]) for at in order),
        None if memory is None else order.index(memory),
        tuple(dequeue),
        null_cycle,
    )


def read_script(path: str | Path, null_cycle: NullCycle = "on_input") -> Script:
    """A script in our text format, or an official script.csv by its ending. Raises DataNotFound, MalformedRecord."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataNotFound(f"cannot read the script ({error.strerror})", place=str(path)) from error
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not UTF-8 text (byte {error.start})", place=str(path)) from error
    try:
        if Path(path).suffix == ".csv":
            return from_csv(text, str(path), null_cycle)
        return parse_script(text, str(path))
    except OptionError as error:  # of the script as a whole, which no line is to blame for
        place = f"{path}, {error.place}" if error.place != "script" else str(path)
        raise MalformedRecord(error.problem, place=place, remedy=error.remedy) from None
