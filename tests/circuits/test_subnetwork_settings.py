"""Settings of a search: the published ones by name, and values that make no sense."""

import pytest

from glassworks.circuits.subnetwork_settings import SearchConfig, preset
from glassworks.errors import OptionError


def test_presets() -> None:
    official = preset("heuristic-core-2024", 0.5)
    assert (official.steps, round(official.warmup_share * official.steps)) == (9300, 9000)
    assert (official.penalty, official.init_mean, official.rule, official.per_example) == (
        "sampled", 10.0, "per_layer", False,
    )  # fmt: skip
    assert preset("default", 0.5) == SearchConfig()
    with pytest.raises(OptionError, match="Known: default"):
        preset("fast", 0.5)


def test_senseless_values_are_refused() -> None:
    with pytest.raises(OptionError, match=r"^settings\.steps: expected at least 1, received 0"):
        SearchConfig(steps=0)
    with pytest.raises(OptionError, match="warmup_share is 1.5"):
        SearchConfig(warmup_share=1.5)
    with pytest.raises(OptionError, match=r"settings\.alpha_lr"):
        SearchConfig(alpha_lr=-0.1)
