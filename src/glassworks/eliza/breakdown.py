"""What makes a turn hard: how much it copies, how far back it remembers, how often the queue has moved.

Friedman et al. 2025 (arXiv 2407.10949), section 4 and figures of section 5. Input: the turns of a conversation and
whether a model replied right. Output: shares of right turns by the value of each property. Pure Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from glassworks.eliza.interpreter import Turn
from glassworks.foundations.statistics import proportion


class Hardness(NamedTuple):
    """copied_tokens, copied_groups: of the reply; enqueues: remembered inputs before; operations: and recalled ones.

    distance: turns since the remembered input that is answered, None where none is.
    """

    copied_tokens: int
    copied_groups: int
    enqueues: int
    operations: int
    distance: int | None


def hardness(turns: Sequence[Turn], memory: int | None) -> list[Hardness]:
    """The properties of each turn of a conversation; memory: the number of the remembered template."""
    found = []
    remembered: list[int] = []
    recalled = 0
    for at, turn in enumerate(turns):
        distance = None if turn.dequeued is None else at - remembered[turn.dequeued]
        operations = len(remembered) + recalled
        found.append(Hardness(sum(turn.copied), len(turn.copied), len(remembered), operations, distance))
        recalled += turn.dequeued is not None
        if turn.template == memory:
            remembered.append(at)
    return found


def shares(rows: Iterable[tuple[Hardness, bool]]) -> dict[str, list[dict[str, Any]]]:
    """For each property, by value: turns, and the share that is right with its 95 % interval."""
    groups: dict[str, dict[int, list[bool]]] = {name: {} for name in Hardness._fields}
    for turn, right in rows:
        for name, value in turn._asdict().items():
            if value is not None:
                groups[name].setdefault(value, []).append(right)
    table: dict[str, list[dict[str, Any]]] = {}
    for name, by_value in groups.items():
        table[name] = []
        for value, found in sorted(by_value.items()):
            share = proportion(sum(found), len(found))
            table[name].append({"value": value, "turns": len(found), "right": share.value, "interval": share.interval})
    return table
