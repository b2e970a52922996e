"""HANS-like pairs: premises and hypotheses that share all words, half of them entailed, from templates of our own.

McCoy, Pavlick and Linzen 2019 name three heuristics (lexical overlap, subsequence, constituent) with ten subcases
each; the Heuristic Core (2024) tests subnetworks on them. Names and fields are those of their release, sentences are
drawn here from a small grammar, by seed: no content word twice in a premise, no pair twice. Label 0 is entailment.
Output: rows as `sentence_pairs` reads them, and the fields of the text release.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassworks.errors import OptionError
from glassworks.foundations.files import write_text

NOUNS = (
    "baker", "chemist", "clerk", "dentist", "driver", "editor", "engineer", "gardener", "painter", "poet", "president",
    "sailor", "singer", "soldier", "teacher", "writer",
)  # fmt: skip
TRANSITIVE = (
    "admired", "advised", "blamed", "called", "contacted", "followed", "greeted", "helped", "invited", "praised",
    "recommended", "recognized", "supported", "thanked", "visited", "warned",
)  # fmt: skip
INTRANSITIVE = ("arrived", "coughed", "danced", "laughed", "ran", "resigned", "shouted", "slept")
PREPOSITIONS = ("near", "behind", "beside", "next to", "in front of")
PLACES = ("garden", "library", "museum", "office", "station")
CLAUSE_OR_OBJECT = ("believed", "heard", "knew", "noticed", "remembered")
PARTICIPLES = ("paid", "studied", "taught", "presented", "investigated")
OPTIONAL_OBJECT = ("hid", "moved", "left", "returned", "stopped")
UNDERSTOOD = (("read", "book"), ("ate", "cake"), ("painted", "wall"), ("wrote", "letter"), ("sang", "song"))
ADJECTIVES = ("angry", "famous", "helpful", "quiet", "tired")
DOUBTING = ("claimed", "hoped", "said", "suspected", "thought")
FACTIVE = ("discovered", "forgot", "knew", "learned", "realized")
DOUBTFUL = ("maybe", "probably", "supposedly", "hopefully", "possibly")
CERTAIN = ("certainly", "clearly", "obviously", "of course", "without a doubt")

PAPER_CASES = ("ln_subject/object_swap", "ln_preposition", "cn_embedded_under_if", "cn_embedded_under_verb")
"""The four cases over which the paper's out-of-domain average runs."""

FIELDS = (
    "gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse", "sentence1",
    "sentence2", "pairID", "heuristic", "subcase", "template",
)  # fmt: skip
HEURISTICS = {"l": "lexical_overlap", "s": "subsequence", "c": "constituent"}
PAIRS_A_CASE = 1000


class _Draw:
    """One pair's words, each content word at most once."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.used: set[str] = set()

    def word(self, words: Sequence[str]) -> str:
        """A word of the list that the premise does not have yet."""
        chosen = self.random.choice([word for word in words if word not in self.used])
        self.used.add(chosen)
        return chosen

    def noun_phrase(self) -> str:
        """The, and a person or several."""
        return f"the {self.word(NOUNS)}{self.random.choice(('', 's'))}"

    def verb(self) -> str:
        """A transitive verb in the past."""
        return self.word(TRANSITIVE)

    def clause(self) -> str:
        """A whole clause, transitive or not."""
        if self.random.random() < 0.5:
            return f"{self.noun_phrase()} {self.word(INTRANSITIVE)}"
        return f"{self.noun_phrase()} {self.verb()} {self.noun_phrase()}"

    def either(self, *options: str) -> str:
        """One of the options."""
        return self.random.choice(options)


Pair = tuple[str, str]


def _were(noun_phrase: str) -> str:
    return "were" if noun_phrase.endswith("s") else "was"


def _subject_object(d: _Draw, swapped: bool) -> Pair:
    a, v, b = d.noun_phrase(), d.verb(), d.noun_phrase()
    return f"{a} {v} {b}", f"{b} {v} {a}" if swapped else f"{a} {v} {b}"


def _preposition(d: _Draw, hypothesis: str) -> Pair:
    a, prep, b, v, c = d.noun_phrase(), d.word(PREPOSITIONS), d.noun_phrase(), d.verb(), d.noun_phrase()
    wrong = d.either(f"{b} {v} {a}", f"{c} {v} {a}", f"{c} {v} {b}")
    choices = {"wrong": wrong, "near": f"{b} {v} {c}", "around": f"{a} {v} {c}"}
    return f"{a} {prep} {b} {v} {c}", choices[hypothesis]


def _object_preposition(d: _Draw) -> Pair:
    a, v, b, prep, c = d.noun_phrase(), d.verb(), d.noun_phrase(), d.word(PREPOSITIONS), d.noun_phrase()
    return f"{a} {v} {b} {prep} {c}", f"{a} {v} {b}"


def _relative(d: _Draw, hypothesis: str) -> Pair:
    a, b, c, v, w = d.noun_phrase(), d.noun_phrase(), d.noun_phrase(), d.verb(), d.verb()
    if hypothesis in ("wrong", "inside"):
        inside = f"{b} {v} {a}" if hypothesis == "inside" else d.either(f"{a} {v} {b}", f"{c} {w} {b}", f"{c} {w} {a}")
        return f"{a} who {b} {v} {w} {c}", inside
    return f"{a} who {v} {b} {w} {c}", f"{a} {w} {c}" if hypothesis == "around" else f"{b} {w} {c}"


def _object_relative(d: _Draw) -> Pair:
    a, v, b, w, c = d.noun_phrase(), d.verb(), d.noun_phrase(), d.verb(), d.noun_phrase()
    return f"{a} {v} {b} who {w} {c}", f"{a} {v} {b}"


def _passive(d: _Draw, entailed: bool) -> Pair:
    a, v, b = d.noun_phrase(), d.verb(), d.noun_phrase()
    return f"{a} {_were(a)} {v} by {b}", f"{b} {v} {a}" if entailed else f"{a} {v} {b}"


def _conjoined(d: _Draw, hypothesis: str) -> Pair:
    a, b, v, c = d.noun_phrase(), d.noun_phrase(), d.verb(), d.noun_phrase()
    choices = {"wrong": d.either(f"{a} {v} {b}", f"{b} {v} {a}"), "first": f"{a} {v} {c}", "second": f"{b} {v} {c}"}
    return f"{a} and {b} {v} {c}", choices[hypothesis]


def _clause_or_object(d: _Draw) -> Pair:
    a, v, b = d.noun_phrase(), d.word(CLAUSE_OR_OBJECT), d.noun_phrase()
    rest = d.either(d.word(INTRANSITIVE), f"{d.verb()} {d.noun_phrase()}")
    return f"{a} {v} {b} {rest}", f"{a} {v} {b}"


def _participle(d: _Draw) -> Pair:
    subject = f"{d.noun_phrase()} {d.word(PARTICIPLES)} in the {d.word(PLACES)}"
    return f"{subject} {d.either(d.word(INTRANSITIVE), f'{d.verb()} {d.noun_phrase()}')}", subject


def _optional_object(d: _Draw) -> Pair:
    a, v, b = d.noun_phrase(), d.word(OPTIONAL_OBJECT), d.noun_phrase()
    return f"{d.either('while', 'before', 'after')} {a} {v} {b} {d.word(INTRANSITIVE)}", f"{a} {v} {b}"


def _adjective(d: _Draw) -> Pair:
    rest = f"{d.word(NOUNS)}s {d.either(d.word(INTRANSITIVE), f'{d.verb()} {d.noun_phrase()}')}"
    return f"{d.word(ADJECTIVES)} {rest}", rest


def _understood(d: _Draw) -> Pair:
    a, (v, thing) = d.noun_phrase(), d.random.choice(UNDERSTOOD)
    where = d.either("", f" {d.word(PREPOSITIONS)} {d.noun_phrase()}")
    return f"{a}{where} {v} the {thing}", f"{a}{where} {v}"


def _subordinate(d: _Draw, openings: Sequence[str], main: bool) -> Pair:
    one, two = d.clause(), d.clause()
    return f"{d.word(openings)} {one} , {two}", two if main else one


def _embedded(d: _Draw, verbs: Sequence[str]) -> Pair:
    a, v, clause = d.noun_phrase(), d.word(verbs), d.clause()
    return f"{a} {v} that {clause}", clause


def _joined(d: _Draw, word: str) -> Pair:
    one, two = d.clause(), d.clause()
    return f"{one} , {word} {two}", d.either(one, two)


def _adverb(d: _Draw, adverbs: Sequence[str]) -> Pair:
    clause = d.clause()
    return f"{d.word(adverbs)} {clause}", clause


SUBCASES: Mapping[str, Callable[[_Draw], Pair]] = {
    "ln_subject/object_swap": lambda d: _subject_object(d, swapped=True),
    "ln_preposition": lambda d: _preposition(d, "wrong"),
    "ln_relative_clause": lambda d: _relative(d, "wrong"),
    "ln_passive": lambda d: _passive(d, entailed=False),
    "ln_conjunction": lambda d: _conjoined(d, "wrong"),
    "le_relative_clause": lambda d: _relative(d, "inside"),
    "le_around_prepositional_phrase": lambda d: _preposition(d, "around"),
    "le_around_relative_clause": lambda d: _relative(d, "around"),
    "le_conjunction": lambda d: _conjoined(d, "first"),
    "le_passive": lambda d: _passive(d, entailed=True),
    "sn_NP/S": _clause_or_object,
    "sn_PP_on_subject": lambda d: _preposition(d, "near"),
    "sn_relative_clause_on_subject": lambda d: _relative(d, "subject"),
    "sn_past_participle": _participle,
    "sn_NP/Z": _optional_object,
    "se_conjunction": lambda d: _conjoined(d, "second"),
    "se_adjective": _adjective,
    "se_understood_object": _understood,
    "se_relative_clause_on_obj": _object_relative,
    "se_PP_on_obj": _object_preposition,
    "cn_embedded_under_if": lambda d: _subordinate(d, ("if", "unless"), main=False),
    "cn_after_if_clause": lambda d: _subordinate(d, ("if", "unless"), main=True),
    "cn_embedded_under_verb": lambda d: _embedded(d, DOUBTING),
    "cn_disjunction": lambda d: _joined(d, "or"),
    "cn_adverb": lambda d: _adverb(d, DOUBTFUL),
    "ce_embedded_under_since": lambda d: _subordinate(d, ("since", "because"), main=False),
    "ce_after_since_clause": lambda d: _subordinate(d, ("since", "because"), main=True),
    "ce_embedded_under_verb": lambda d: _embedded(d, FACTIVE),
    "ce_conjunction": lambda d: _joined(d, "and"),
    "ce_adverb": lambda d: _adverb(d, CERTAIN),
}


def hans_rows(
    a_case: int = PAIRS_A_CASE, *, seed: int = 0, cases: Sequence[str] = tuple(SUBCASES)
) -> list[dict[str, Any]]:
    """`a_case` pairs of each subcase, none twice. Rows are out of domain and binary; see `sentence_pairs`.

    A not-entailed case has the entailed ones of its heuristic as counterpart. Raises OptionError.
    """
    if a_case < 1:
        raise OptionError(f"{a_case} pairs a case were asked for, expected at least 1", place="hans")
    rows: list[dict[str, Any]] = []
    seen: set[Pair] = set()
    for subcase in cases:
        for number in range(a_case):
            pair, attempt = _sentences(subcase, f"{seed} {subcase} {number}"), 0
            while pair in seen:
                attempt += 1
                if attempt > 1000:
                    raise OptionError(f"there are no {a_case} different pairs of '{subcase}'", place="hans")
                pair = _sentences(subcase, f"{seed} {subcase} {number} {attempt}")
            seen.add(pair)
            rows.append(_row(subcase, pair, len(rows)))
    return rows


def hans_pairs_a_case(source: str) -> int:
    """The number in "hans:200"; 1000 for "hans". Raises OptionError."""
    number = source.partition(":")[2] or str(PAIRS_A_CASE)
    if not number.isdigit():
        raise OptionError(f"'{number}' is no number of pairs", place=source, remedy="Write hans:200, for example.")
    return int(number)


def write_hans_text(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The tab-separated file of the official release; parse columns are empty, since none was made."""
    lines = ["\t".join(FIELDS)]
    for row in rows:
        label = "entailment" if row["label"] == 0 else "non-entailment"
        values = {**row, "gold_label": label, "sentence1": row["text"], "sentence2": row["text_pair"]}
        lines.append("\t".join(str(values.get(field, "")) for field in FIELDS))
    write_text(path, "\n".join(lines) + "\n")


def _sentences(subcase: str, seed: str) -> Pair:
    premise, hypothesis = SUBCASES[subcase](_Draw(seed))
    return f"{premise[0].upper()}{premise[1:]} .", f"{hypothesis[0].upper()}{hypothesis[1:]} ."


def _row(subcase: str, pair: Pair, number: int) -> dict[str, Any]:
    entailed = subcase[1] == "e"
    return {
        "text": pair[0], "text_pair": pair[1], "label": 0 if entailed else 1, "case": subcase, "domain": "out",
        "binary": True, "counterpart": "" if entailed else f"{subcase[0]}e_", "pairID": f"ex{number}",
        "heuristic": HEURISTICS[subcase[0]], "subcase": subcase, "template": subcase,
    }  # fmt: skip
