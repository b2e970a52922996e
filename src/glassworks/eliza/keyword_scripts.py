"""Scripts of 1966 inside a Transformer: keywords as guards of ranked templates, rewritten inputs as emitted turns.

Friedman et al. 2025 (arXiv 2407.10949), section 2.2, say how; here it is done. Compiles: keywords with ranks (the
first of the highest rank leads), word replacement, tags, `(*A B)`, `0` and `n`, several decompositions, reassemblies
in turn, links of reassemblies and of keywords, PRE, NONE. A link or PRE is a turn `=KEY words .` that the model
writes to itself before it replies. Does not compile, and is refused: MEMORY (HASH and LIMIT), NEWKEY, and keywords
whose decompositions can all fail (the remark depends on LIMIT). The clause is chosen before the model reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from glassworks.eliza.doctor import (
    AnyOf,
    DoctorScript,
    KeywordRule,
    Link,
    NewKey,
    Pattern,
    Pre,
    Reassembly,
    Say,
    Tagged,
)
from glassworks.eliza.doctor_interpreter import DELIMITERS
from glassworks.eliza.machine import PAD, UNKNOWN, Chunk, Machine, Part, Span, WordClass
from glassworks.eliza.machine import Pattern as Template
from glassworks.eliza.script import ELIZA, END, START, USER
from glassworks.errors import OptionError

SLOTS = 32
"""Words outside the script that one conversation can hold: each gets a token `w1`, `w2`, ... of its own."""
ROLES = (START, USER, ELIZA, END)


def machine_of_keywords(script: DoctorScript) -> Machine:
    """The machine of a script of 1966. Raises OptionError naming the first construct that does not compile."""
    check_compiles(script)
    builder = _Builder(script)
    for key, rule in script.rules.items():
        if rule.is_keyword:
            builder.keyword(key, rule)
    null = builder.none(script.none)
    return Machine(
        tokens=builder.tokens,
        patterns=tuple(builder.templates),
        rules=tuple(builder.rules),
        null=null,
        starts=(USER, *(f"={key}" for key in builder.targets)),
        replaced={key: rule.substitute for key, rule in script.rules.items() if rule.substitute},
        ranks={key: rule.rank for key, rule in script.rules.items() if rule.is_keyword},
    )


def check_compiles(script: DoctorScript) -> None:
    """Refuse a script with a construct that does not compile. Raises OptionError."""

    def refused(what: str, where: str) -> OptionError:
        return OptionError(
            f"{what} does not compile", place=f"{script.name}: {where}", remedy="Chat with it symbolically."
        )

    if script.memory is not None:
        raise refused("MEMORY, which HASH and LIMIT govern,", "MEMORY")
    for key, rule in _all_rules(script):
        actions = [action for change in rule.transformations for action in change.reassemblies]
        if any(isinstance(action, NewKey) for action in actions):
            raise refused("NEWKEY, which goes on to the next keyword,", key)
        if any(isinstance(a, Link | Pre) and a.key == "NONE" for a in actions) or rule.link == "NONE":
            raise refused("a link to NONE", key)
        if key == "NONE" and not all(isinstance(action, Say) for action in actions):
            raise refused("NONE with links", key)
        fails = not any(change.decomposition == (0,) for change in rule.transformations) and rule.link is None
        if (rule.is_keyword or key == "NONE") and fails:
            raise refused("a keyword whose decompositions can all fail (end it with (0) or a link)", key)
        for change in rule.transformations:
            if any(a == b == 0 for a, b in zip(change.decomposition, change.decomposition[1:], strict=False)):
                raise refused("a decomposition with 0 beside 0", key)
        if bad := _words_of(key, rule) & set(ROLES):
            raise refused(f"the word '{min(bad)}', which marks turns,", key)


class _Builder:
    def __init__(self, script: DoctorScript) -> None:
        self.script = script
        self.templates: list[Template] = []
        self.rules: list[tuple[tuple[Part, ...], ...]] = []
        actions = [a for rule in script.rules.values() for t in rule.transformations for a in t.reassemblies]
        linked = [action.key for action in actions if isinstance(action, Link | Pre)]
        linked += [rule.link for rule in script.rules.values() if rule.link]
        self.targets = sorted(set(linked))
        self.words = sorted({"HMMM"}.union(*(_words_of(key, rule) for key, rule in _all_rules(script))))
        slots = [f"w{number}" for number in range(1, SLOTS + 1)]
        starts = [f"={key}" for key in self.targets]
        self.tokens = (PAD, *ROLES, *starts, *self.words, *slots, UNKNOWN)
        self.any_word: WordClass = frozenset([*self.words, *slots])

    def keyword(self, key: str, rule: KeywordRule) -> None:
        """The templates of a keyword: after its decompositions the link that takes what they leave."""
        changes = [(change.decomposition, change.reassemblies) for change in rule.transformations]
        if rule.link is not None:
            changes.append(((0,), (Link(rule.link),)))
        for decomposition, reassemblies in changes:
            self._template(decomposition, reassemblies, key)

    def none(self, rule: KeywordRule) -> int:
        """The group of the rule for inputs without a keyword."""
        for change in rule.transformations:
            self._template(change.decomposition, change.reassemblies, "")
            if change.decomposition == (0,):
                break
        return len(self.rules) - 1

    def _template(self, pattern: Sequence[Pattern], reassemblies: Sequence[Reassembly], key: str) -> None:
        group = len(self.rules)
        runs, spans = self._chunks(pattern)
        starts = [(USER, key)] + ([(f"={key}", "")] if key in self.targets else [])
        for start, guard in starts:
            opened = ((frozenset({start}), *runs[0][1:]), *runs[1:])
            self.templates.append(Template(opened, group, guard))
        self.rules.append(tuple(self._rule(action, runs, spans) for action in reassemblies))

    def _chunks(self, pattern: Sequence[Pattern]) -> tuple[tuple[Chunk, ...], list[Span]]:
        """Runs of word classes between the zeros, `U` and `.` at the ends, and the span of each element."""
        runs: list[list[WordClass]] = [[frozenset({USER})]]
        places: list[tuple[int, int, int]] = []
        for element in pattern:
            if element == 0:
                places.append((len(runs), -1, 0))
                runs.append([])
            else:
                size = element if isinstance(element, int) else 1
                places.append((len(runs) - 1, len(runs[-1]), size))
                runs[-1] += [self._class(element)] * size
        runs[-1].append(frozenset({END}))
        spans = []
        for run, offset, size in places:
            length = len(runs[run])
            if offset < 0:
                spans.append(Span(run - 1, 0, run, -length))
            else:
                spans.append(Span(run, offset - length, run, offset - length + size))
        return tuple(map(tuple, runs)), spans

    def _class(self, element: Pattern) -> WordClass:
        if isinstance(element, int):
            return self.any_word
        if isinstance(element, AnyOf):
            return element.words
        if isinstance(element, Tagged):
            return frozenset(word for tag in element.tags for word in self.script.tags.get(tag, ()))
        return frozenset({element})

    def _rule(self, action: Reassembly, runs: Sequence[Chunk], spans: Sequence[Span]) -> tuple[Part, ...]:
        if isinstance(action, Link):
            return (f"={action.key}", Span(0, 1 - len(runs[0]), len(runs) - 1, -1), END)
        assert isinstance(action, Say | Pre)
        first = ELIZA if isinstance(action, Say) else f"={action.key}"
        parts = [word if isinstance(word, str) else spans[word - 1] if 1 <= word <= len(spans) else "HMMM"
                 for word in action.words]  # fmt: skip
        return (first, *parts, END)


def _all_rules(script: DoctorScript) -> list[tuple[str, KeywordRule]]:
    return [*script.rules.items(), ("NONE", script.none)]


def _words_of(key: str, rule: KeywordRule) -> set[str]:
    """Every word that a rule speaks or listens to."""
    words = {key, *([rule.substitute] if rule.substitute else [])} - {"NONE"}
    for change in rule.transformations:
        for element in change.decomposition:
            words |= element.words if isinstance(element, AnyOf) else {element} if isinstance(element, str) else set()
        for action in change.reassemblies:
            if isinstance(action, Say | Pre):
                words |= {word for word in action.words if isinstance(word, str)}
    return words


def clause_of(script: DoctorScript, words: Sequence[str]) -> list[str]:
    """The clause that is answered, as it was said: up to a delimiter behind the first keyword, else the last one."""
    clause: list[str] = []
    found = False
    for word in words:
        if word in DELIMITERS:
            if found:
                break
            clause = []
            continue
        rule = script.rules.get(word)
        found = found or (rule is not None and rule.is_keyword)
        clause.append(word)
    return clause


class Slots:
    """Tokens for the words of one conversation that the script does not know."""

    def __init__(self, machine: Machine) -> None:
        self.known = set(machine.tokens) - {*machine.starts, *ROLES, PAD, UNKNOWN}
        self.free = [token for token in machine.tokens if token in {f"w{number}" for number in range(1, SLOTS + 1)}]
        self.known -= set(self.free)
        self.given: dict[str, str] = {}

    def encode(self, words: Sequence[str]) -> list[str]:
        """Words as tokens. Raises OptionError where the conversation has more unknown words than slots."""
        for word in words:
            if word not in self.known and word not in self.given:
                if len(self.given) == len(self.free):
                    problem = f"the conversation has more than {len(self.free)} words that the script does not know"
                    raise OptionError(problem, place="conversation", remedy="Start a new conversation.")
                self.given[word] = self.free[len(self.given)]
        return [self.given.get(word, word) for word in words]

    def decode(self, tokens: Sequence[str]) -> list[str]:
        """Tokens as words."""
        back = {token: word for word, token in self.given.items()}
        return [back.get(token, token) for token in tokens]
