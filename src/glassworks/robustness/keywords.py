"""Which keywords does one response hold? A set, so that a response counts at most once for any of them.

RobustRAG section 4: the whole response, every phrase between function words, verbs and punctuation, and every single
word of such a phrase, in normal form (NFKC, case-folded). `RuleExtractor` needs no data: closed word classes and
common verbs of English separate phrases. `SpacyExtractor` uses the paper's parts of speech and lemmas where spaCy and
its model are installed. Both are pure functions of one response; nothing of another response can steer them.
"""

from __future__ import annotations

import importlib
import itertools
import re
from functools import lru_cache
from typing import Any, Protocol

from glassworks.errors import MissingDependency, ModelNotFound, UnknownName
from glassworks.robustness.certificate import normal_form

_TOKEN = re.compile(r"\w+(?:[.,'’&/-]\w+)*|[^\w\s]")
_SEPARATING_TEXT = """
a about above according across after again against all almost along also although always am among an and answer any
anybody anyone anything are around as asked at based be became because become becomes been before being believed
between born both but by called came can cannot come contains could did do does done during each either else ever
every everyone everything find for found founded from gave get gets give given gives go goes got had has have having
he held her here hers him his how however i if in included includes including into is it its itself just know known
knows lay lies located made make makes many may me mentioned might mine more most much must my named near neither no
nobody none nor not nothing now of off oh ok on once only onto or other others our ours out over own passage provided
question said same say says she should shown since so some someone something stands states stood such than that the
their theirs them themselves then there these they this those though through thus to told too under until up upon used
very was we were what whatever when where whether which while who whom whose why will with within without won would
wrote yes yet you your yours
"""
_SEPARATING = frozenset(_SEPARATING_TEXT.split())
_SEPARATING_POS = frozenset(["VERB", "INTJ", "ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ", "PUNCT", "SPACE"])


class KeywordExtractor(Protocol):
    """A deterministic function from one response to its keywords. name: what outputs depend on, for records."""

    name: str

    def extract(self, text: str) -> frozenset[str]:
        """The keywords of a response, in normal form, none of them empty."""
        ...


class RuleExtractor:
    """Phrases between function words, common verbs and punctuation; works offline, for English."""

    name = "rules"

    def extract(self, text: str) -> frozenset[str]:
        """The whole response, its phrases, and their words."""
        words = _TOKEN.findall(normal_form(text))
        runs = [
            list(run)
            for separates, run in itertools.groupby(words, key=lambda word: _separates(word.replace("’", "'")))
            if not separates
        ]
        return _usable([normal_form(text), *(" ".join(run) for run in runs), *itertools.chain(*runs)])


class SpacyExtractor:
    """Phrases between the paper's separating parts of speech, by lemma. Raises MissingDependency or ModelNotFound."""

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            spacy = importlib.import_module("spacy")
        except ImportError:
            raise MissingDependency("spacy", "spacy") from None
        try:
            self._parse: Any = spacy.load(model)
        except OSError:
            remedy = f"Get it with: python -m spacy download {model}; or use the extractor 'rules'."
            raise ModelNotFound("spaCy has no such model", place=model, remedy=remedy) from None
        self.name = f"spacy:{model}"

    def extract(self, text: str) -> frozenset[str]:
        """The whole response, its phrases of lemmas, and the lemmas."""
        found, run = [normal_form(text)], ""
        for token in self._parse(text):
            if token.pos_ in _SEPARATING_POS:
                found.append(normal_form(run))
                run = ""
                continue
            run += token.lemma_ + token.whitespace_
            found.append(normal_form(token.lemma_))
        return _usable([*found, normal_form(run)])


@lru_cache(maxsize=4)
def open_extractor(name: str = "rules") -> KeywordExtractor:
    """The extractor of this name: rules, spacy, or spacy:MODEL. Raises UnknownName."""
    kind, _, model = name.partition(":")
    if kind == "spacy":
        return SpacyExtractor(model or "en_core_web_sm")
    if name != "rules":
        raise UnknownName("keyword extractor", name, ("rules", "spacy"), place="extractor")
    return RuleExtractor()


def phrases_only(keywords: frozenset[str]) -> frozenset[str]:
    """The keywords of several words: single ones are dropped for long texts, to keep the set small."""
    return frozenset(word for word in keywords if " " in word)


def _separates(word: str) -> bool:
    return word in _SEPARATING or not any(character.isalnum() for character in word)


def _usable(found: list[str]) -> frozenset[str]:
    """Without edge punctuation, empty texts, and texts that are a separator themselves."""
    stripped = (word.strip(" .,;:!?\"'()[]") for word in found)
    return frozenset(word for word in stripped if word and not _separates(word))
