"""Evidence: one measured claim with its figure, interval, inputs and the command that made it.

A verb that measures writes one JSON object a line to ``evidence.jsonl`` in its run folder; reports and the risk
register read those lines and know nothing else of the system that wrote them. Nothing here computes a figure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassworks.errors import DataNotFound, MalformedRecord

EVIDENCE_FILE = "evidence.jsonl"


@dataclass(frozen=True)
class Evidence:
    """One measured claim.

    claim: a sentence a reader understands without the metric's name. value, baseline: in ``unit``; baseline is the
    figure that value is compared with. interval: 95 % unless ``setting`` says otherwise. n: how many items were
    measured. better: which direction is good. command, created and id are filled in by the run that records it.
    """

    system: str
    claim: str
    metric: str
    value: float
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "none"
    interval: tuple[float, float] | None = None
    n: int | None = None
    baseline: float | None = None
    setting: str = ""
    seed: int | None = None
    model_sha: str = ""
    data_sha: str = ""
    artefact: str = ""
    command: str = ""
    created: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        for name, figure in (("value", self.value), ("baseline", self.baseline)):
            if figure is not None and not (isinstance(figure, int | float) and math.isfinite(figure)):
                raise ValueError(f"evidence '{self.metric}' has the {name} {figure!r}; only finite figures count")
        if self.n is not None and not isinstance(self.n, int):
            raise ValueError(f"evidence '{self.metric}' has n = {self.n!r}, not a whole number")
        ends = self.interval or (0.0, 0.0)
        if len(ends) != 2 or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
            raise ValueError(f"evidence '{self.metric}' has the interval {self.interval!r}, not two finite numbers")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"evidence '{self.metric}' has the interval {self.interval}, whose ends are reversed")

    @property
    def key(self) -> str:
        """Stable short name of what was measured (not of what came out): 12 hexadecimal digits."""
        parts = [self.system, self.metric, self.claim, self.setting, str(self.seed)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """One line of ``evidence.jsonl``."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


def _parse(line: str, place: str) -> Evidence:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise MalformedRecord(f"not valid JSON ({error.msg}, column {error.colno})", place=place) from None
    if not isinstance(fields, dict):
        raise MalformedRecord(f"expected a JSON object, found {type(fields).__name__}", place=place)
    known = {field.name for field in dataclasses.fields(Evidence)}
    if unknown := sorted(set(fields) - known):
        raise MalformedRecord(f"unknown evidence field '{unknown[0]}'", place=place)
    if fields.get("interval") is not None:
        fields["interval"] = tuple(fields["interval"])
    try:
        return Evidence(**fields)
    except (TypeError, ValueError) as error:
        raise MalformedRecord(f"not a complete evidence record ({error})", place=place) from None


def read_evidence(path: Path) -> list[Evidence]:
    """All evidence of a file, or of every ``evidence.jsonl`` below a folder, in path order.

    Raises DataNotFound where the path does not exist and MalformedRecord, naming file and line, on a broken record.
    """
    path = Path(path)
    if not path.exists():
        raise DataNotFound("no such file or folder", place=str(path))
    files = sorted(path.rglob(EVIDENCE_FILE)) if path.is_dir() else [path]
    found = []
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                found.append(_parse(line, f"{file}:{number}"))
    return found
