"""Each row of the table names a family that transformers knows and that a tiny model proves."""

from __future__ import annotations

import pytest
from cases.tiny_models import FAMILIES as TINY
from cases.tiny_models import tiny_model
from transformers import CONFIG_MAPPING

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.families import FAMILIES, Family, family_of, supported


def test_every_row_is_proven_by_a_tiny_model_and_every_tiny_model_has_a_row() -> None:
    assert {tiny_model(name).config.model_type for name in TINY} == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_named_as_transformers_names_them(name: str) -> None:
    assert name in CONFIG_MAPPING
    assert (name in supported()) is not bool(FAMILIES[name].refused)


def test_a_family_without_a_row_is_tried_with_every_order() -> None:
    assert family_of("olmo") == Family()
    grouped = anatomy(tiny_model("persimmon")).layers[0].attention.query
    assert (grouped.groups, grouped.slots) == (4, 3)


@pytest.mark.parametrize("name", ["gpt2", "phi3", "gpt_neox"])
def test_the_order_of_fused_projections_is_what_the_row_says(name: str) -> None:
    attention = anatomy(tiny_model(name)).layers[0].attention
    assert attention.query.module is attention.key.module is attention.value.module
    assert (attention.query.groups > 1) is (FAMILIES[name].fused == "grouped")
