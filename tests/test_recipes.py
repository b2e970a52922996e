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
