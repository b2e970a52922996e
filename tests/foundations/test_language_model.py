"""What can be asked is checked when it is said, and results add up."""

from __future__ import annotations

import pytest

from glassworks.errors import OptionError
from glassworks.foundations.generation import Sampling


@pytest.mark.parametrize(
    "field",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"stop": ("",)}, {"stop": "x"}, {"seed": -1}],
)
def test_options_out_of_range_are_named(field: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(field))):
        Sampling(**field)
