"""What did each stage of a run leave behind? Its manifest, options, evidence, figures and sample answers, as read.

A stage is any folder, the run's own or one below it, that holds a manifest, evidence, ``figures/*.svg`` or
``samples.jsonl``: lines of {question, answer, citations, answers (or gold), correct, ...}, where a citation is text or
a mapping with any of number, title, section, uri, quote, text. Nothing is judged or laid out here, and nothing is
skipped: what cannot be read is named by file and line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.data import read_jsonl
from glassworks.foundations.evidence import EVIDENCE_FILE, Evidence, read_evidence
from glassworks.foundations.runs import CONFIG, MANIFEST, read_manifest
from glassworks.report.figures import FIGURES_FOLDER, find_figures
from glassworks.report.page import Citation, Sample
from glassworks.report.svg import Picture, embedded

SAMPLES_FILE = "samples.jsonl"
RECIPE_RECORD = "recipe.json"  # written by the recipe runner: stage name -> verb, status, seconds


@dataclass(frozen=True)
class StageRecord:
    """One stage as it lies on disk. name: its folder below the run; config: its options, config_text: as written."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    config_text: str
    evidence: tuple[Evidence, ...]
    pictures: tuple[Picture, ...]
    samples: tuple[Sample, ...]

    @property
    def verb(self) -> str:
        """The command that made it; empty where no manifest says so."""
        return str(self.manifest.get("verb") or "")

    @property
    def status(self) -> str:
        """What its manifest says, "finished" or else."""
        return str(self.manifest.get("status") or "no manifest")

    @property
    def seconds(self) -> float:
        """How long it took, in seconds; 0 where that was not recorded."""
        seconds = self.manifest.get("seconds")
        return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def read_stages(run: Path) -> list[StageRecord]:
    """The stages of a run folder, in the order in which they started, then by name.

    Raises DataNotFound where there is no such folder, and MalformedRecord, naming file and line, for a broken file.
    """
    if not run.is_dir():
        raise DataNotFound(
            "expected a run folder, found a file" if run.exists() else "no such run folder",
            place=str(run),
            remedy="Give the folder that a command or recipe named when it ended ('Run folder: ...').",
        )
    marks = (MANIFEST, EVIDENCE_FILE, SAMPLES_FILE)
    folders = {file.parent for name in marks for file in run.rglob(name)}
    folders |= {file.parent.parent for file in run.rglob(f"{FIGURES_FOLDER}/*.svg")}
    visible = [folder for folder in folders if not any(part.startswith(".") for part in folder.relative_to(run).parts)]
    records = [_read_stage(run, folder) for folder in sorted(visible)]
    return sorted(records, key=lambda record: (str(record.manifest.get("started") or "~"), record.name))


def lost_stages(run: Path, records: list[StageRecord]) -> list[str]:
    """Stages that a recipe started and that left no folder to report on, by name."""
    file = run / RECIPE_RECORD
    if not file.exists():
        return []
    try:
        entries: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        started = [name for name, entry in entries.items() if entry["status"] != "done" and entry["verb"] != "report"]
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as problem:
        raise MalformedRecord(
            f"not a recipe's record ({problem})", place=str(file), remedy="Run the recipe again."
        ) from problem
    return [name for name in started if name not in {record.name for record in records}]


def _read_stage(run: Path, folder: Path) -> StageRecord:
    config_file, evidence_file, samples_file = folder / CONFIG, folder / EVIDENCE_FILE, folder / SAMPLES_FILE
    config_text = config_file.read_text(encoding="utf-8") if config_file.exists() else ""
    try:
        config = yaml.safe_load(config_text) or {}
    except yaml.YAMLError as problem:
        raise MalformedRecord(f"not valid YAML ({problem})", place=str(config_file)) from problem
    name = folder.relative_to(run).as_posix()
    name = run.resolve().name if name == "." else name
    pictures = [
        embedded(file.read_text(encoding="utf-8"), prefix=f"{_slug(name)}-{at}-", place=str(file))
        for at, file in enumerate(find_figures(folder))
    ]
    return StageRecord(
        name=name,
        folder=folder,
        manifest=read_manifest(folder) or {},
        config=config if isinstance(config, dict) else {},
        config_text=config_text,
        evidence=tuple(read_evidence(evidence_file)) if evidence_file.exists() else (),
        pictures=tuple(pictures),
        samples=tuple(_read_samples(samples_file)) if samples_file.exists() else (),
    )


def _read_samples(file: Path) -> list[Sample]:
    rows = read_jsonl(file, ("question", "answer"), types={"citations": list, "correct": (bool, int, float)})
    return [_sample(row) for row in rows]


def _sample(row: Mapping[str, Any]) -> Sample:
    expected = "answers" if row.get("answers") else "gold"
    known = {"question", "answer", "citations", "correct", expected}
    correct = row.get("correct")
    return Sample(
        question=_plain(row["question"]),
        answer=_plain(row["answer"]),
        gold=_plain(row.get(expected)),
        correct=None if correct is None else bool(correct),
        citations=[_citation(entry, at) for at, entry in enumerate(row.get("citations") or (), start=1)],
        extra=[(key.replace("_", " "), _plain(row[key])) for key in row if key not in known and _plain(row[key])],
    )


def _citation(entry: object, position: int) -> Citation:
    if not isinstance(entry, Mapping):
        return Citation(str(position), _plain(entry), "")
    places = dict.fromkeys(_plain(entry.get(key)) for key in ("title", "section", "uri", "document_id"))
    source = ", ".join(place for place in places if place)
    return Citation(_plain(entry.get("number", position)), source, _plain(entry.get("quote") or entry.get("text")))


def _plain(value: object) -> str:
    """A JSON value as a reader wants it: text as is, lists and flat mappings joined, the rest as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return "; ".join(map(str, value))
    if isinstance(value, dict) and all(isinstance(item, (str, int, float)) for item in value.values()):
        return "; ".join(f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
