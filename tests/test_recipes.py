"""Every shipped recipe says how it is launched and is accepted, option by option, by the verbs that it names."""

import re
from pathlib import Path

import pytest

from glassworks.cli.recipe import check_recipe, read_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipe_is_accepted(name: str) -> None:
    plan = read_recipe(name)
    assert list(check_recipe(plan, Path("runs"), {})) == [stage.name for stage in plan.stages]


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipe_opens_with_its_launch_command(name: str) -> None:
    first = Path(shipped_recipes()[name]).read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(rf"# glassworks run {name}( .*)?", first)


OFFICIAL = {  # beta, gamma / beta, learning rate, max_length, max_prompt_length: SimPO's released configurations
    "simpo-mistral-base": (2.0, 0.8, 3e-7, 1024, 512),
    "simpo-mistral-instruct": (2.5, 0.1, 5e-7, 2048, 1800),
    "simpo-llama3-base": (2.0, 0.5, 6e-7, 2048, 1800),
    "simpo-llama3-instruct": (2.5, 0.55, 1e-6, 2048, 1800),
    "simpo-llama3-instruct-v0.2": (10, 0.3, 1e-6, 2048, 1800),
    "simpo-gemma2": (10, 0.5, 8e-7, 2048, 1800),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_simpo_settings(name: str) -> None:
    options = check_recipe(read_recipe(name), Path("runs"), {})["align"]
    settings, pairs, optimisation = options["settings"], options["pairs"], options["optimisation"]
    assert OFFICIAL[name] == (
        settings["beta"],
        settings["gamma_beta_ratio"],
        optimisation.learning_rate,
        pairs.max_length,
        pairs.max_prompt_length,
    )
    assert (optimisation.batch_size, optimisation.warmup_ratio, optimisation.lr_scheduler) == (128, 0.1, "cosine")
    assert (optimisation.epochs, optimisation.weight_decay, options["seed"]) == (1.0, 0.0, 42)
    assert pairs.header_in_response
    assert pairs.auto_insert_empty_system_msg is (name == "simpo-mistral-base")


def test_no_official_setting_is_untested() -> None:
    assert {name for name in shipped_recipes() if name.startswith("simpo-")} == set(OFFICIAL)
