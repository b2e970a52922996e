"""What can be asked is checked when it is said, and results add up."""

from __future__ import annotations

import pytest
from cases.byte_models import local

from glassworks.errors import OptionError
from glassworks.foundations.generation import Sampling
from glassworks.foundations.language_model import ContinuationScore, StepwiseModel
from glassworks.foundations.server_model import ServerModel


@pytest.mark.parametrize(
    "field",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"stop": ("",)}, {"stop": "x"}, {"seed": -1}],
)
def test_options_out_of_range_are_named(field: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(field))):
        Sampling(**field)


@pytest.mark.parametrize("temperature", [float("inf"), float("nan")])
def test_a_temperature_is_a_finite_number(temperature: float) -> None:
    with pytest.raises(OptionError, match="temperature: expected at least 0 and finite"):
        Sampling(temperature=temperature)


def test_a_score_is_the_sum_over_its_tokens() -> None:
    score = ContinuationScore("ab", (7, 8), (-0.5, -1.0))
    assert (score.log_prob, score.mean_log_prob) == (-1.5, -0.75)


def test_weights_here_decode_step_by_step_and_a_server_does_not() -> None:
    assert isinstance(local(), StepwiseModel)
    assert not isinstance(ServerModel("http://127.0.0.1:1", "m"), StepwiseModel)
