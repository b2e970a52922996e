"""Settings become aggregators, and what cannot work is refused before anything is loaded."""

import pytest

from glassworks.errors import OptionError, UnknownName
from glassworks.robustness.aggregators import IndependentSetAggregator, KeywordAggregator, VotingAggregator
from glassworks.robustness.decoding_reader import DecodingAggregator
from glassworks.robustness.keyword_aggregation import Thresholds
from glassworks.robustness.method import Defence, check_defence, open_aggregator, open_reading
from glassworks.robustness.prompts import TEMPLATES


def test_settings_reach_the_aggregator() -> None:
    keyword = open_aggregator("keyword", Defence(alpha=0.4, beta=4, mode="long"))
    assert isinstance(keyword, KeywordAggregator)
    assert (keyword.thresholds, keyword.phrases, keyword.max_undecided) == (Thresholds(0.4, 4), True, 9)
    assert open_aggregator("voting", Defence(mode="choices")) == VotingAggregator(choices=True)
    assert open_aggregator("decoding", Defence(eta=2)) == DecodingAggregator(eta=2)
    assert isinstance(open_aggregator("independent-set", Defence()), IndependentSetAggregator)
    reading = open_reading("scripted", Defence(k=4, groups=3), TEMPLATES["short"])
    assert (reading.k, reading.groups, reading.responder.options.max_new_tokens) == (4, 3, 20)


@pytest.mark.parametrize(
    ("method", "defence", "model", "budget", "words"),
    [
        ("keyword", Defence(alpha=1.5), "m", 1, "alpha"),
        ("keyword", Defence(beta=-1), "m", 1, "beta"),
        ("keyword", Defence(k=0), "m", None, "k: expected"),
        ("keyword", Defence(), "m", 10, "certify"),
        ("keyword", Defence(), "m", -1, "certify"),
        ("keyword", Defence(weights="geometric:0.9"), "m", 1, "no certificate"),
        ("keyword", Defence(weights="heavy"), "m", None, "weights"),
        ("independent-set", Defence(), "m", 1, "no certificate"),
        ("decoding", Defence(eta=-1), "m", None, "eta"),
        ("decoding", Defence(), "http://host/v1#m", None, "Use keyword"),
    ],
)
def test_what_cannot_work_is_refused(method: str, defence: Defence, model: str, budget: int | None, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        check_defence(method, defence, model, budget)  # type: ignore[arg-type]


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="method"):
        open_aggregator("prayer", Defence())  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="extractor"):
        open_aggregator("keyword", Defence(extractor="magic"))
