"""Random scripts and sentences that are hard on a compiler: few letters, so that runs of words repeat and overlap.

For tests, benchmarks and counterfactual controls; the paper's data are made by `conversations`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from glassworks.eliza.script import END, NULL, USER, WILDCARD, NullCycle, Script, Token

LETTERS = "abcd"
PREFIX_LETTERS = "efghijklmnopqrstuvwxyz"


def random_script(
    seed: int,
    *,
    templates: int = 5,
    max_wildcards: int = 3,
    max_run: int = 3,
    max_rules: int = 3,
    memory: bool = True,
    null_cycle: NullCycle = "on_input",
) -> Script:
    """A script of `templates` templates and the null template; rules begin with two letters of their own."""
    draw = random.Random(seed)
    forms: list[tuple[str, ...]] = []
    while len(forms) < templates:
        form = _template(draw, max_wildcards, max_run)
        if form not in forms and form != NULL:
            forms.append(form)
    forms = [*sorted(forms, key=len, reverse=True), NULL]
    prefixes = [(a, b) for a in PREFIX_LETTERS for b in PREFIX_LETTERS]
    draw.shuffle(prefixes)

    def rules(form: tuple[str, ...]) -> tuple[tuple[Token, ...], ...]:
        return tuple(_rule(draw, form, prefixes.pop(), max_run) for _ in range(draw.randint(1, max_rules)))

    remembered = draw.randrange(templates) if memory else None
    listed = tuple(rules(form) for form in forms)
    dequeue = () if remembered is None else rules(forms[remembered])
    return Script(tuple(forms), listed, remembered, dequeue, null_cycle)


def _template(draw: random.Random, max_wildcards: int, max_run: int) -> tuple[str, ...]:
    wildcards = draw.randint(1, max_wildcards)
    form: list[str] = [USER]
    for at in range(wildcards + 1):
        low = 0 if at in (0, wildcards) else 1
        form += draw.choices(LETTERS, k=draw.randint(low, max_run))
        form += [WILDCARD] if at < wildcards else [END]
    return tuple(form)


def _rule(draw: random.Random, form: Sequence[str], prefix: tuple[str, str], max_run: int) -> tuple[Token, ...]:
    wildcards = [at for at, token in enumerate(form) if token == WILDCARD]
    copied = draw.sample(wildcards, draw.randint(0, len(wildcards)))
    rule: list[Token] = ["E", *prefix]
    for at in copied:
        rule += [*draw.choices(LETTERS, k=draw.randint(0, max_run)), at]
    return (*rule, END)


def random_sentences(script: Script, count: int, seed: int, *, max_copy: int = 4) -> list[tuple[str, ...]]:
    """Sentences `U ... .`: templates with random groups, two in five of the null and the memory template."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(count):
        form = draw.choice(script.templates)
        if draw.random() < 0.4:
            form = draw.choice([NULL, script.templates[script.memory or 0]])
        sentence: list[str] = []
        for token in form:
            sentence += draw.choices(LETTERS, k=draw.randint(0, max_copy)) if token == WILDCARD else [token]
        sentences.append(tuple(sentence))
    return sentences
