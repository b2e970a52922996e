"""References in a recipe: ``${inputs.model}``, ``${index.out}`` (an earlier stage's folder), ``${run.out}``.

Pure functions over the parsed YAML. A reference to an unknown name, to a later stage or in a circle is refused before
any stage starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from glassworks.errors import RecipeError

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")


def find_references(value: object) -> Iterator[str]:
    """Every ``${...}`` inside a value of strings, lists and mappings, without the braces."""
    if isinstance(value, str):
        yield from (match.strip() for match in _REFERENCE.findall(value))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from find_references(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_references(item)


def substitute(value: Any, known: Mapping[str, Any]) -> Any:
    """Replace references by what they stand for; a string that is one reference keeps its value's type."""
    if isinstance(value, Mapping):
        return {key: substitute(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, known) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return known[whole[1].strip()]
    return _REFERENCE.sub(lambda match: str(known[match[1].strip()]), value)


def check_references(stages: Mapping[str, object], inputs: Mapping[str, object], *, place: str) -> None:
    """Refuse references that cannot be resolved when the stages run in the order given.

    stages: name -> options. Raises RecipeError naming the stage, the reference and what there is; a circle is spelled
    out (``a -> b -> a``).
    """
    names = list(stages)
    needs = {name: _stages_needed(name, stages, inputs, place) for name in names}
    for name in names:
        if circle := _circle(name, needs):
            raise RecipeError(f"circular reference {' -> '.join(circle)}", place=place, remedy="Break the circle.")
    for position, name in enumerate(names):
        for other in needs[name]:
            if other not in names[:position]:
                remedy = f"Move '{other}' before '{name}'."
                raise RecipeError(f"stage '{name}' refers to the later stage '{other}'", place=place, remedy=remedy)


def _stages_needed(name: str, stages: Mapping[str, object], inputs: Mapping[str, object], place: str) -> list[str]:
    needed = []
    for reference in find_references(stages[name]):
        owner, _, field = reference.partition(".")
        if owner in stages and field == "out":
            needed.append(owner)
        elif not (owner == "inputs" and field in inputs) and reference != "run.out":
            choices = [*(f"inputs.{key}" for key in inputs), *(f"{stage}.out" for stage in stages), "run.out"]
            raise RecipeError(
                f"stage '{name}' refers to '${{{reference}}}', which is not there",
                place=place,
                remedy=f"There is: {', '.join(choices)}.",
            )
    return needed


def _circle(start: str, needs: Mapping[str, list[str]]) -> list[str]:
    """The shortest way from a stage back to itself, or an empty list."""
    paths = [[start]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        for other in needs[path[-1]]:
            if other == start:
                return [*path, start]
            if other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return []
