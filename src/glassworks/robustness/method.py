"""Which defence, with which settings? One dataclass of options, and how it becomes a reading and an aggregator.

Used by the verbs `answer` and `certify`. Everything is checked before a model is loaded: names, thresholds, budgets,
templates, the extractor, and whether the model can do what the method needs. In: options. Out: `Reading`, `Aggregator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassworks.errors import OptionError, UnknownName, check_at_least
from glassworks.foundations.generation import LanguageModel, Sampling, open_language_model
from glassworks.foundations.models import model_sha
from glassworks.retrieval.samples import Ledger
from glassworks.robustness.aggregators import Aggregator, IndependentSetAggregator, KeywordAggregator, VotingAggregator
from glassworks.robustness.certificate import Threat
from glassworks.robustness.decoding_reader import DecodingAggregator
from glassworks.robustness.isolation import Reading, Responder, abstention
from glassworks.robustness.keyword_aggregation import Thresholds
from glassworks.robustness.keywords import open_extractor
from glassworks.robustness.prompts import PromptTemplates, open_templates
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.voting import rank_weights

Method = Literal["keyword", "voting", "decoding", "independent-set"]
SCRIPTED = "scripted"


@dataclass(frozen=True)
class Defence:
    """How passages are read and their responses joined.

    Args:
        k: How many passages are retrieved.
        alpha: Keyword: share of the answering passages that must agree, 0 to 1.
        beta: Keyword: number of passages that is enough, whatever the share.
        eta: Decoding: smallest lead, on the sum of probabilities, with which the passages decide a token.
        threat: What the attacker does: inject passages, which displaces others, or replace the content of some.
        groups: Read disjoint groups of passages, assigned by content, instead of single ones; 0 reads each alone.
        weights: "uniform", or "geometric:0.9" to let better ranks count more, which has no certificate.
        extractor: Keyword: "rules", or "spacy" where spaCy and its English model are installed.
        mode: What is asked for: "short" answers, letters of "choices", or "long" texts.
        templates: YAML file with prompt texts, and patterns of abstention, that replace the built-in ones.
        characters: Longer passages are cut there, each by itself; short ones cost less.
        query_first: Put the question before the passage, so that more of the prompt is computed once.
        batch_invariant: Compute each prompt by itself, so that the certificate is, bit for bit, about what is served.
    """

    k: int = 10
    alpha: float = 0.3
    beta: float = 3
    eta: float = 0.0
    threat: Threat = "injection"
    groups: int = 0
    weights: str = "uniform"
    extractor: str = "rules"
    mode: Literal["short", "choices", "long"] = "short"
    templates: str | None = None
    characters: int = 2000
    query_first: bool = False
    batch_invariant: bool = True


def open_aggregator(method: Method, defence: Defence) -> Aggregator:
    """The aggregator of a method. Raises UnknownName or OptionError, naming the setting."""
    rank_weights(defence.weights, 1)
    if method == "keyword":
        return KeywordAggregator(
            Thresholds(defence.alpha, defence.beta), open_extractor(defence.extractor), defence.mode == "long",
            9 if defence.mode == "long" else 14, defence.weights,
        )  # fmt: skip
    if method == "voting":
        return VotingAggregator(defence.mode == "choices", defence.weights)
    if method == "decoding":
        return DecodingAggregator(defence.eta)
    if method == "independent-set":
        return IndependentSetAggregator()
    raise UnknownName("method", method, ("keyword", "voting", "decoding", "independent-set"), place="robust")


def check_defence(method: Method, defence: Defence, model: str, budget: int | None) -> PromptTemplates:
    """Refuse what cannot work before anything is loaded, and read the templates. budget: to be certified, or None."""
    check_at_least(1, **{"defence.k": defence.k, "defence.characters": defence.characters})
    check_at_least(0, **{"defence.groups": defence.groups})
    aggregator = open_aggregator(method, defence)
    if budget is not None and not 0 <= budget < defence.k:
        raise OptionError(f"expected 0 to {defence.k - 1} (k - 1), received {budget}", place="certify")
    if budget and aggregator.uncertified:
        raise OptionError(aggregator.uncertified, place="certify", remedy="Choose another method, or uniform weights.")
    if method == "decoding" and "://" in model:
        raise OptionError(
            "decoding aggregation needs the probabilities of all tokens, which a server does not give",
            place="robust", remedy="Use keyword.",
        )  # fmt: skip
    templates = open_templates(defence.mode, defence.templates, query_first=defence.query_first)
    abstention(templates.abstention)
    return templates


def open_reading(
    model: str, defence: Defence, templates: PromptTemplates, *, ledger: Path | None = None, device: str = "auto",
    dtype: str = "auto",
) -> Reading:  # fmt: skip
    """The model, opened, with how it reads passages. ledger: file that keeps its responses."""
    opened: LanguageModel
    if model == SCRIPTED:
        opened, fingerprint = ScriptedReader(), SCRIPTED
    else:
        opened = open_language_model(model, device=device, dtype=dtype, batch_invariant=defence.batch_invariant)
        fingerprint = model if "://" in model else model_sha(model)
    stops = ("\n\n",) if opened.chat else ("\n",)
    options = Sampling(templates.max_new_tokens, stop=stops)
    responder = Responder(opened, options, ledger=Ledger(ledger) if ledger else None, fingerprint=fingerprint)
    abstains = abstention(templates.abstention)
    return Reading(responder, templates, abstains, k=defence.k, groups=defence.groups, characters=defence.characters)
