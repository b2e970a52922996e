"""Every response list that hostile authors of up to k' passages can make of a benign one, by brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

Response = TypeVar("Response")


def attacked(
    benign: Sequence[Response], choices: Sequence[Response], *, k: int, budget: int, threat: str
) -> Iterator[list[Response]]:
    """Response lists under injection of 0 to `budget` (any ranks, the end displaced) or replacement of up to as many.

    choices: what one hostile passage can make the reader say.
    """
    for count in range(budget + 1):
        for hostile in itertools.product(choices, repeat=count):
            if threat == "injection":
                size = min(k, len(benign) + count)
                for places in itertools.combinations(range(size), count):
                    rest = iter(benign)
                    held = dict(zip(places, hostile, strict=True))
                    yield [held[at] if at in held else next(rest) for at in range(size)]
            else:
                for places in itertools.combinations(range(len(benign)), min(count, len(benign))):
                    changed = list(benign)
                    for place, response in zip(places, hostile, strict=False):
                        changed[place] = response
                    yield changed
