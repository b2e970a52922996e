"""Two small real verbs, registered beside the shipped ones, for tests of the command line and the recipe runner."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassworks.cli import verbs
from glassworks.errors import DataNotFound
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.runs import Run


@dataclass(frozen=True)
class Pace:
    """How fast to count.

    Args:
        pause: seconds between numbers.
        unit: what is counted.
    """

    pause: float = 0.0
    unit: Literal["sheep", "goats"] = "sheep"


def count(
    upto: int, out: str = "runs/count", source: str | None = None, pace: Pace = Pace(), loud: bool = False
) -> Run:
    """Count to a number, one line each, and go on where an interrupted count stopped.

    Args:
        upto: the last number.
        out: folder of the run.
        source: a file that must exist, if given.
        pace: how fast.
        loud: print every number.
    """
    arguments = dict(locals())
    if source is not None and not Path(source).exists():
        raise DataNotFound("no such file", place=source, remedy="Check the path.")
    with Run.start(out, count, arguments) as run:
        file = run.path / "numbers.txt"
        done = len(file.read_text().splitlines()) if file.exists() else 0
        with file.open("a") as stream:
            for number in range(done + 1, upto + 1):
                if loud:
                    print(number)
                stream.write(f"{number}\n")
                stream.flush()
                os.fsync(stream.fileno())
                time.sleep(pace.pause)
        total = len(file.read_text().splitlines())
        run.record(Evidence("test", "Numbers counted", "count", total, unit=pace.unit, n=total))
    return run


@dataclass(frozen=True)
class Sum:
    """The sum of a count. total: the sum."""

    total: int

    def summary(self) -> str:
        """The sum as a sentence."""
        return f"The sum is {self.total}."


def add_up(folder: str) -> Sum:
    """Add up the numbers that a count left.

    Args:
        folder: the count's run folder.
    """
    return Sum(sum(int(line) for line in (Path(folder) / "numbers.txt").read_text().splitlines()))


def register() -> None:
    """Put the two verbs into the table of commands."""
    verbs.VERBS.update({"count": "cases.sample_verbs:count", "add-up": "cases.sample_verbs:add_up"})
