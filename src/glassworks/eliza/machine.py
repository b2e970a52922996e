"""What the compiler is given: templates as runs of word classes, rules as literals and spans, whatever the dialect.

A template's runs of words (chunks) end at positions E_0 .. E_K of the input; a rule copies spans between them. A
group of templates shares rules that take turns. Synthetic scripts become machines here, keyword scripts in
`keyword_scripts`. Pure Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import NamedTuple

from glassworks.eliza.script import ELIZA, END, START, USER, WILDCARD, NullCycle, Script, Token, chunks_of

PAD, UNKNOWN = "<pad>", "<unk>"
WordClass = frozenset[str]
Chunk = tuple[WordClass, ...]


class Span(NamedTuple):
    """Positions E_low + low_offset + 1 .. E_high + high_offset of the input, ends of the chunks low and high."""

    low: int
    low_offset: int
    high: int
    high_offset: int


Part = str | Span


class Pattern(NamedTuple):
    """A template: its chunks, the group whose rules answer it, and the keyword that has to lead, if any."""

    chunks: tuple[Chunk, ...]
    group: int
    guard: str = ""


@dataclass(frozen=True)
class Machine:
    """Templates by rank, rules by group. A rule's first part is written where the input ends (`E`, or `=KEY`).

    starts: tokens that begin an input. null: the group of the null template; memory: the group that is remembered,
    answered by `dequeue`. replaced: word -> the word that takes its place in inputs that begin with U.
    ranks: keyword -> rank, for guards.
    """

    tokens: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    rules: tuple[tuple[tuple[Part, ...], ...], ...]
    null: int
    memory: int | None = None
    dequeue: tuple[tuple[Part, ...], ...] = ()
    null_cycle: NullCycle = "on_input"
    starts: tuple[str, ...] = (USER,)
    replaced: dict[str, str] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    @property
    def wildcards(self) -> int:
        """K, the wildcards of the template that has most."""
        return max(len(pattern.chunks) for pattern in self.patterns) - 1

    @property
    def longest_chunk(self) -> int:
        """n, the words of the longest chunk."""
        return max(len(chunk) for pattern in self.patterns for chunk in pattern.chunks)


def machine_of(script: Script) -> Machine:
    """A synthetic script as a machine; its vocabulary: `<pad>`, letters and words sorted, `<unk>`."""
    words = sorted({START, USER, ELIZA, END, *ascii_lowercase, *script.words})
    patterns = tuple(
        Pattern(tuple(tuple(frozenset({word}) for word in chunk) for chunk in chunks_of(template)), at)
        for at, template in enumerate(script.templates)
    )
    return Machine(
        tokens=(PAD, *words, UNKNOWN),
        patterns=patterns,
        rules=tuple(
            tuple(_parts(rule, template) for rule in rules)
            for template, rules in zip(script.templates, script.rules, strict=True)
        ),
        null=len(script.templates) - 1,
        memory=script.memory,
        dequeue=tuple(_parts(rule, script.templates[script.memory or 0]) for rule in script.dequeue),
        null_cycle=script.null_cycle,
    )


def _parts(rule: Sequence[Token], template: Sequence[str]) -> tuple[Part, ...]:
    """A rule with its wildcards as spans: wildcard k lies between chunks k - 1 and k."""
    chunks = chunks_of(template)
    parts: list[Part] = []
    for token in rule:
        if isinstance(token, int):
            number = template[: token + 1].count(WILDCARD)
            parts.append(Span(number - 1, 0, number, -len(chunks[number])))
        else:
            parts.append(token)
    return tuple(parts)
