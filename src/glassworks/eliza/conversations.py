"""Synthetic ELIZA data: a random script and conversations with it, as in the paper's experiments.

Friedman et al. 2025 (arXiv 2407.10949), section 4 and appendix B; the official generator's options and files. Letters,
lengths and segments are drawn in large batches, and one regular expression finds the best template, so that one
process makes hundreds of conversations a second. `compat` keeps a fault of the official generator: it rejects a
segment that holds the next run of letters as a subsequence, where only an unbroken run would be matched there.
Pure numpy; the verb is in `generate`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

from glassworks.eliza.script import ELIZA, END, NULL, USER, WILDCARD, NullCycle, Script, Token, chunks_of
from glassworks.errors import OptionError, check_at_least

POOL = 1 << 14


@dataclass(frozen=True)
class ScriptShape:
    """How scripts are drawn.

    Args:
        num_templates: Templates besides the null one.
        max_transformations_per_template: Rules of a template, 1 to this many.
        memory_queue: Whether one template is remembered.
        null_template_cycle_version: 1: null rules take turns on every null input; 2: on null replies only.
        max_template_len: Longest template, in tokens.
        max_ngram_len: Longest run of letters.
        min_num_wildcards: Fewest wildcards.
        max_num_wildcards: Most wildcards.
        template_prefix_len: Letters at the front of a rule that no other rule begins with.
        min_copies: Fewest wildcards that a rule copies.
        max_copies: Most wildcards that a rule copies.
    """

    num_templates: int = 32
    max_transformations_per_template: int = 1
    memory_queue: bool = True
    null_template_cycle_version: int = 2
    max_template_len: int = 12
    max_ngram_len: int = 3
    min_num_wildcards: int = 2
    max_num_wildcards: int = 4
    template_prefix_len: int = 2
    min_copies: int = 1
    max_copies: int = 4


@dataclass(frozen=True)
class ConversationShape:
    """How conversations are drawn.

    Args:
        max_queue_size: Most inputs that wait in memory.
        memory_ratio: Weight of the memory template among the others.
        min_copy_len: Shortest segment that a wildcard takes.
        max_copy_len: Longest segment that a wildcard takes.
        unigram_concentration: Dirichlet parameter of the letters of each segment; -1: uniform.
        concentration: Dirichlet parameter of a conversation's templates.
        max_turns: Most turns.
        max_conversation_len: Most tokens.
        compat: Reject segments as the official generator does.
    """

    max_queue_size: int = 4
    memory_ratio: float = 1.0
    min_copy_len: int = 0
    max_copy_len: int = 10
    unigram_concentration: float = 100.0
    concentration: float = 1.0
    max_turns: int = 1
    max_conversation_len: int = 512
    compat: bool = False


def draw_script(shape: ScriptShape, rng: np.random.Generator) -> Script:
    """A random script. Raises OptionError where the options leave no script to draw."""
    check_shape(shape)
    forms: list[tuple[str, ...]] = []
    seen: set[tuple[str, ...]] = {tuple(token for token in NULL if token != WILDCARD)}
    for _ in range(1000 * shape.num_templates):
        form = _draw_template(shape, rng)
        letters = tuple(token for token in form if token != WILDCARD)
        if letters not in seen and len(form) <= shape.max_template_len:
            seen.add(letters)
            forms.append(form)
        if len(forms) == shape.num_templates:
            break
    else:
        raise OptionError("no more templates of this shape", place="num_templates", remedy="Ask for fewer or longer.")
    forms = [*sorted(forms, key=len, reverse=True), NULL]
    prefixes: set[tuple[str, ...]] = set()

    def rules(form: tuple[str, ...]) -> tuple[tuple[Token, ...], ...]:
        count = int(rng.integers(1, shape.max_transformations_per_template + 1))
        return tuple(_draw_rule(shape, form, prefixes, rng) for _ in range(count))

    listed = tuple(rules(form) for form in forms)
    memory = int(rng.integers(shape.num_templates)) if shape.memory_queue else None
    dequeue = () if memory is None else rules(forms[memory])
    null_cycle: NullCycle = "on_input" if shape.null_template_cycle_version == 1 else "on_response"
    return Script(tuple(forms), listed, memory, dequeue, null_cycle)


def check_shape(shape: ScriptShape) -> None:
    """Refuse impossible shapes. Raises OptionError."""
    for name, least in (
        ("num_templates", 1), ("max_transformations_per_template", 1), ("max_ngram_len", 1), ("min_num_wildcards", 1),
        ("max_num_wildcards", shape.min_num_wildcards), ("min_copies", 0), ("max_copies", shape.min_copies),
    ):  # fmt: skip
        check_at_least(least, **{f"script_shape.{name}": getattr(shape, name)})
    rules = (shape.num_templates + 2) * shape.max_transformations_per_template
    if 26**shape.template_prefix_len < 2 * rules:
        raise OptionError(
            f"{rules} rules need prefixes of more than {shape.template_prefix_len} letters",
            place="script_shape.template_prefix_len",
        )
    if shape.null_template_cycle_version not in (1, 2):
        raise OptionError("expected 1 or 2", place="script_shape.null_template_cycle_version")


def check_conversations(shape: ConversationShape, script: Script) -> None:
    """Refuse shapes that no conversation with a script has. Raises OptionError."""
    # The shortest turn that every script allows: one letter, answered by the shortest null rule.
    shortest = 4 + min(len(rule) for rule in script.rules[-1])
    for name, least in (
        ("max_queue_size", 1), ("min_copy_len", 0), ("max_copy_len", shape.min_copy_len), ("max_turns", 1),
        ("max_conversation_len", shortest),
    ):  # fmt: skip
        check_at_least(least, **{f"conversation_shape.{name}": getattr(shape, name)})
    for name in ("memory_ratio", "concentration"):
        if not 0 < getattr(shape, name) < float("inf"):
            raise OptionError(
                f"expected a positive number, received {getattr(shape, name)}", place=f"conversation_shape.{name}"
            )


def _letters(rng: np.random.Generator, low: int, high: int) -> list[str]:
    return [ascii_lowercase[int(at)] for at in rng.integers(26, size=int(rng.integers(low, high + 1)))]


def _draw_template(shape: ScriptShape, rng: np.random.Generator) -> tuple[str, ...]:
    wildcards = int(rng.integers(shape.min_num_wildcards, shape.max_num_wildcards + 1))
    form = [USER]
    for at in range(wildcards + 1):
        form += _letters(rng, int(0 < at < wildcards), shape.max_ngram_len)
        form.append(WILDCARD if at < wildcards else END)
    return tuple(form)


def _draw_rule(
    shape: ScriptShape, form: tuple[str, ...], prefixes: set[tuple[str, ...]], rng: np.random.Generator
) -> tuple[Token, ...]:
    wildcards = [] if form == NULL else [at for at, token in enumerate(form) if token == WILDCARD]
    copies = int(rng.integers(min(shape.min_copies, len(wildcards)), min(shape.max_copies, len(wildcards)) + 1))
    while True:
        prefix = tuple(_letters(rng, shape.template_prefix_len, shape.template_prefix_len))
        if prefix not in prefixes:
            break
    prefixes.add(prefix)
    rule: list[Token] = [ELIZA, *prefix]
    for at in rng.permutation(wildcards)[:copies].tolist():
        rule += [*_letters(rng, 0, shape.max_ngram_len), int(at)]
    return (*rule, *_letters(rng, 0, shape.max_ngram_len), END)


class Exchange(NamedTuple):
    """One turn as strings of letters without spaces. kind: the official turn type; target: the turn it answers."""

    sentence: str
    reply: str
    template: int
    rule: int
    kind: str
    target: int
    copied: int


class Segments:
    """Random strings of letters, drawn by the thousand."""

    def __init__(self, shape: ConversationShape, rng: np.random.Generator) -> None:
        self.shape, self.rng = shape, rng
        self.pool: list[str] = []

    def draw(self) -> str:
        """One segment: its length uniform, its letters uniform or of a distribution of its own."""
        if not self.pool:
            self._refill()
        return self.pool.pop()

    def _refill(self) -> None:
        shape, rng = self.shape, self.rng
        most = max(1, shape.max_copy_len)
        if shape.unigram_concentration <= 0:
            codes = rng.integers(26, size=(POOL, most))
        else:
            # In the logarithm, since gamma variates of small parameters underflow to 0.
            gammas = np.log(rng.gamma(shape.unigram_concentration + 1, size=(POOL, 26)))
            logs = gammas + np.log(rng.random((POOL, 26))) / shape.unigram_concentration
            shares = np.exp(logs - logs.max(axis=1, keepdims=True))
            sums = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
            drawn = rng.random((POOL, most))
            codes = np.stack([np.minimum((drawn[:, [at]] > sums).sum(axis=1), 25) for at in range(most)], axis=1)
        lengths = rng.integers(shape.min_copy_len, shape.max_copy_len + 1, size=POOL)
        text = (codes + ord("a")).astype(np.uint8).tobytes().decode("ascii")
        self.pool = [text[at * most : at * most + n] for at, n in enumerate(lengths.tolist())]


@dataclass
class Generator:
    """Draws conversations with one script."""

    script: Script
    shape: ConversationShape
    rng: np.random.Generator
    segments: Segments = field(init=False)

    def __post_init__(self) -> None:
        self.segments = Segments(self.shape, self.rng)
        forms = self.script.templates
        self.chunks = [["".join(chunk).strip(USER + END) for chunk in chunks_of(form)] for form in forms]
        patterns = ["([a-z]*?)".join(chunks) for chunks in self.chunks]
        self.single = [re.compile(pattern) for pattern in patterns]
        # The alternatives in the order of their rank: the first that matches is the best template.
        marked = [f"(?P<t{at}>{re.sub(r'[(]', '(?:', pattern)})" for at, pattern in enumerate(patterns)]
        self.best = re.compile("|".join(f"{pattern}$" for pattern in marked))
        self.broken = [[re.compile(".*".join(chunk)) for chunk in chunks] for chunks in self.chunks]

    def conversation(self) -> list[Exchange]:
        """One conversation of at least one turn where max_conversation_len allows."""
        script, shape = self.script, self.shape
        turns: list[Exchange] = []
        weights = np.cumsum(self._mixture()).tolist()
        state = _State(script)
        size = 1
        while len(turns) < shape.max_turns:
            template = _pick(weights, float(self.rng.random()))
            if template == script.memory and len(state.queue) >= shape.max_queue_size:
                continue
            sentence = self.sentence(template)
            turn = state.respond(template, sentence, self.single, len(turns))
            size += len(turn.sentence) + len(turn.reply) + 4
            if size > shape.max_conversation_len:
                break
            turns.append(turn)
        return turns

    def _mixture(self) -> np.ndarray:
        """Probabilities of the templates in one conversation; null gets at least half of memory's."""
        script, shape = self.script, self.shape
        alphas = np.full(len(script.templates), shape.concentration)
        if script.memory is not None:
            alphas[script.memory] *= shape.memory_ratio
        shares = self.rng.dirichlet(alphas)
        shares = np.full(len(alphas), 1 / len(alphas)) if not np.isfinite(shares).all() else shares
        if script.memory is not None:
            shares[-1] = max(shares[-1], shares[script.memory] / 2)
        normed: np.ndarray = shares / shares.sum()
        return normed

    def sentence(self, template: int) -> str:
        """Letters of a sentence whose best template is the given one."""
        chunks, broken, compat = self.chunks[template], self.broken[template], self.shape.compat
        null = template == len(self.chunks) - 1
        for _ in range(10_000):
            text = chunks[0]
            for at in range(1, len(chunks)):
                segment = self.segments.draw()
                chunk = chunks[at]
                if chunk and at < len(chunks) - 1 and (broken[at].search(segment) if compat else chunk in segment):
                    break
                text += segment + chunk
            else:
                if null and not text:
                    if self.shape.max_copy_len:
                        continue
                    text = ascii_lowercase[int(self.rng.integers(26))]  # a null input is never empty
                found = self.best.match(text)
                assert found is not None  # the null template matches everything
                if found.lastgroup == f"t{template}":
                    return text
        raise OptionError(
            f"template '{' '.join(self.script.templates[template])}' is never the best of its sentences",
            place="script",
            remedy="Choose another seed or longer runs of letters.",
        )


def _pick(cumulative: list[float], u: float) -> int:
    return next((at for at, bound in enumerate(cumulative) if u <= bound), len(cumulative) - 1)


@dataclass
class _State:
    script: Script
    used: dict[int, int] = field(default_factory=dict)
    queue: deque[tuple[int, str]] = field(default_factory=deque)
    dequeued: int = 0

    def respond(self, template: int, sentence: str, forms: list[re.Pattern[str]], number: int) -> Exchange:
        script, null = self.script, len(self.script.templates) - 1
        uses = self.used.get(template, 0)
        if template == null and self.queue:
            if script.null_cycle == "on_input":
                self.used[null] = uses + 1
            target, stored = self.queue.popleft()
            rule = self.dequeued % len(script.dequeue)
            self.dequeued += 1
            assert script.memory is not None
            reply, copied = self._fill(script.dequeue[rule], script.memory, stored, forms)
            return Exchange(sentence, reply, len(script.templates), rule, "dequeue", target, copied)
        rule = uses % len(script.rules[template])
        self.used[template] = uses + 1
        reply, copied = self._fill(script.rules[template][rule], template, sentence, forms)
        if template == script.memory:
            self.queue.append((number, sentence))
        cycles = "multi_turn_cycling" if len(script.rules[template]) > 1 else "multi_turn_single_template"
        kind = (
            "none" if template == null else cycles if uses else "multi_turn_multi_template" if number else "first_turn"
        )
        return Exchange(sentence, reply, template, rule, kind, number, copied)

    def _fill(self, rule: tuple[Token, ...], template: int, text: str, forms: list[re.Pattern[str]]) -> tuple[str, int]:
        found = forms[template].fullmatch(text)
        assert found is not None
        wildcards = [at for at, token in enumerate(self.script.templates[template]) if token == WILDCARD]
        groups = dict(zip(wildcards, found.groups(), strict=True))
        parts = [groups[token] if isinstance(token, int) else token for token in rule[1:-1]]
        return "".join(parts), sum(len(groups[token]) for token in rule if isinstance(token, int))


def conversations(
    script: Script, shape: ConversationShape, count: int, rng: np.random.Generator
) -> Iterator[list[Exchange]]:
    """`count` conversations with a script."""
    generator = Generator(script, shape, rng)
    for _ in range(count):
        yield generator.conversation()


def tokens_of(turns: list[Exchange]) -> list[str]:
    """A conversation as tokens: `$ U ... . E ... .`."""
    tokens = ["$"]
    for turn in turns:
        tokens += [USER, *turn.sentence, END, ELIZA, *turn.reply, END]
    return tokens
