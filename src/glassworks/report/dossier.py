"""Verb `report`: everything that a run measured, on one self-contained page that a person can check.

Reads the evidence, figures, sample answers, manifests and options that the stages left in their run folders, and
knows nothing else of any system. Says what is missing (an interval, an n, a stage that stopped) instead of leaving
it out. No clock is read: the same run gives the same bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from glassworks.errors import DataError
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.runs import CONFIG, write_text
from glassworks.report.page import Claim, Fact, Named, Page, Sample, Section, Stage, claims, render
from glassworks.report.stages import SAMPLES_FILE, StageRecord, lost_stages, read_stages
from glassworks.report.tables import number

DOSSIER = "dossier.html"
SAMPLES_SHOWN = 12
HEADLINE_FIGURES = 4
# Options that name what was examined, and which fingerprint of the evidence belongs to them.
_EXAMINED = {"model": ("Model", "model_sha"), "docs": ("Documents", ""), "data": ("Data", "data_sha")}
_EXAMINED |= {"questions": ("Questions", "data_sha")}


@dataclass(frozen=True)
class DossierResult:
    """Where the page is and what it holds. claims, figures, samples: how many; unfinished: stages that stopped."""

    path: str
    claims: int
    figures: int
    samples: int
    unfinished: tuple[str, ...] = ()

    def summary(self) -> str:
        """What a person is told: the counts, what is missing, and the file to open."""
        counts = f"{_count(self.claims, 'claim')}, {_count(self.figures, 'figure')}, "
        counts += _count(self.samples, "sample answer")
        missing = f"\nNot finished: {', '.join(self.unfinished)}" if self.unfinished else ""
        return f"{counts}{missing}\nDossier: {self.path}"


def write_report(run: str, out: str | None = None, title: str = "What was measured") -> DossierResult:
    """Gather all that a run measured on one self-contained HTML page.

    Args:
        run: folder of a run or of a recipe; every stage below it is reported.
        out: the page (NAME.html), or a folder for it. Default: dossier.html in the run folder.
        title: the page's title.
    """
    folder = Path(run)
    path = _page_path(folder, out)
    # As a recipe's stage, the report is at work while it reads; it is not a part of what it reports.
    own = path.parent.resolve() if path.parent.resolve() != folder.resolve() else None
    records = [record for record in read_stages(folder) if record.folder.resolve() != own]
    evidence = [item for record in records for item in record.evidence]
    if not evidence:
        raise DataError(
            "no stage of this run recorded evidence",
            place=run,
            remedy="Run a verb that measures (such as 'glassworks measure') with --out below this folder first.",
        )
    unfinished = [record.name for record in records if record.status != "finished"] + lost_stages(folder, records)
    sections = _sections(records)
    page = Page(
        title=title,
        version=version("glassworks"),
        facts=_facts(records),
        headline=_headline(sections),
        sections=sections,
        stages=_stages(records),
        total=f"{_count(len(records), 'stage')}, {_duration(sum(record.seconds for record in records))} in all",
        notes=_notes(evidence, sections),
        colophon=_colophon(folder, records, evidence),
        unfinished=_unfinished_text(unfinished),
    )
    write_text(path, render(page))
    pictures, samples = (sum(len(getattr(record, kind)) for record in records) for kind in ("pictures", "samples"))
    return DossierResult(str(path), len(evidence), pictures, samples, tuple(unfinished))


def _page_path(folder: Path, out: str | None) -> Path:
    if out is None:
        return folder / DOSSIER
    return Path(out) if Path(out).suffix.lower() in (".html", ".htm") else Path(out) / DOSSIER


def _sections(records: Sequence[StageRecord]) -> list[Section]:
    """One section a system, in the order of first measurement; a stage's pictures go with its first claim."""
    found: dict[str, tuple[list[Evidence], list[StageRecord]]] = {}
    for record in records:
        for item in record.evidence:
            found.setdefault(item.system, ([], []))[0].append(item)
        if record.pictures or record.samples:
            home = record.evidence[0].system if record.evidence else record.verb or record.name
            found.setdefault(home, ([], []))[1].append(record)
    sections = []
    for at, (system, (evidence, homes)) in enumerate(found.items(), start=1):
        pictures = [picture for record in homes for picture in record.pictures]
        shown, note = _samples(homes)
        counted = [(len(evidence), "claim"), (len(pictures), "figure"), (len(shown), "answer")]
        sections.append(
            Section(
                anchor=f"system-{at}",
                title=system[:1].upper() + system[1:],
                summary=", ".join(_count(count, what) for count, what in counted if count),
                claims=claims(evidence),
                pictures=pictures,
                samples=shown,
                samples_note=note,
            )
        )
    return sections


def _samples(records: Sequence[StageRecord]) -> tuple[list[Sample], str]:
    """The first answers of each stage's file, never picked, and a sentence that says how many there are."""
    shown: list[Sample] = []
    notes: list[str] = []
    for record in (record for record in records if record.samples):
        some = list(record.samples[:SAMPLES_SHOWN])
        shown += some
        total, file = len(record.samples), f"{record.name}/{SAMPLES_FILE}"
        notes.append(
            f"All {total} of {file}, in file order."
            if len(some) == total
            else f"The first {len(some)} of {total} in {file}, in file order; none was picked."
        )
    return shown, " ".join(notes)


def _headline(sections: Sequence[Section]) -> list[Claim]:
    """A system's first claim that was compared, else its first with an interval; at most four systems.

    Bare counts are key figures only where a run holds nothing else.
    """
    claimed = [section.claims for section in sections if section.claims]
    chosen = [min(own, key=_weight) for own in claimed]  # the first of the weightiest
    return [claim for claim in chosen if claim.bar or not any(c.bar for c in chosen)][:HEADLINE_FIGURES]


def _weight(claim: Claim) -> int:
    if claim.bar is None:
        return 3
    return (claim.bar.low is None) + (claim.bar.baseline is None)


def _facts(records: Sequence[StageRecord]) -> list[Fact]:
    """What was examined, when, on what machine, with which software; each distinct value once."""
    facts: dict[str, dict[Named, None]] = {}
    for record in records:
        for term, value in _examined(record):
            facts.setdefault(term, {})[value] = None
    for term, values in facts.items():  # a name that some stage could fingerprint needs no second line without
        known = {value.text for value in values if value.sha}
        facts[term] = {value: None for value in values if value.sha or value.text not in known}
    times = sorted(str(r.manifest[key]) for r in records for key in ("started", "finished") if r.manifest.get(key))
    if times:
        facts["Measured"] = {Named(_period(times[0], times[-1])): None}
    for record in records:
        machine = record.manifest.get("machine")
        if isinstance(machine, Mapping):
            cores = f", {machine['cores']} cores" if machine.get("cores") else ""
            facts.setdefault("Machine", {})[Named(f"{machine.get('system', 'unknown')}{cores}")] = None
            names = {"python": "Python"} | {key: key for key in machine if key not in ("system", "cores", "python")}
            software = [f"glassworks {record.manifest.get('version', '')}".strip()]
            software += [f"{name} {machine[key]}" for key, name in names.items() if machine.get(key)]
            facts.setdefault("Software", {})[Named(", ".join(software))] = None
    order = [*(term for term, _ in _EXAMINED.values()), "Measured", "Machine", "Software"]
    return [Fact(term, list(facts[term])) for term in order if term in facts]


def _examined(record: StageRecord) -> Iterator[tuple[str, Named]]:
    claimed: set[str] = set()
    for option, (term, fingerprint) in _EXAMINED.items():
        name = record.config.get(option)
        shas = dict.fromkeys(getattr(item, fingerprint) for item in record.evidence) if fingerprint else {}
        shas.pop("", None)
        if isinstance(name, str) and name:
            # Evidence names one data fingerprint: where a stage has several inputs, it belongs to none for certain.
            sure = fingerprint == "model_sha" or not (record.config.get("data") and record.config.get("questions"))
            yield term, Named(name, ", ".join(sha[:16] for sha in shas) if sure else "")
            claimed |= set(shas) if sure else set()
    for term, fingerprint in (("Model", "model_sha"), ("Data", "data_sha")):
        for sha in dict.fromkeys(getattr(item, fingerprint) for item in record.evidence):
            if sha and sha not in claimed:
                yield term, Named("fingerprint", sha[:16])


def _stages(records: Sequence[StageRecord]) -> list[Stage]:
    longest = max(record.seconds for record in records) or 1.0
    return [
        Stage(
            name=record.name,
            verb=f"glassworks {record.verb}" if record.verb else "",
            status=record.status,
            finished=record.status == "finished",
            took=_duration(record.seconds) if record.manifest.get("seconds") is not None else "time not recorded",
            share=round(100 * record.seconds / longest, 2),
            command=shlex.join(["glassworks", *record.verb.split(), "--config", str(record.folder / CONFIG)]),
            config=record.config_text.strip(),
            how=[
                (term, str(record.manifest[key]))
                for term, key in (("Started", "started"), ("Finished", "finished"), ("Version", "version"))
                if record.manifest.get(key)
            ],
        )
        for record in records
    ]


def _notes(evidence: Sequence[Evidence], sections: Sequence[Section]) -> list[str]:
    compared = sum(item.interval is not None and item.baseline is not None for item in evidence)
    bare, uncounted = (sum(getattr(item, name) is None for item in evidence) for name in ("interval", "n"))
    missing = f"{bare} of {len(evidence)} figures have no interval and {uncounted} no n, because the stage that "
    missing += "measured them recorded none. They are shown as they are, and nothing is concluded from them."
    notes = [
        "An interval is the range of values that the measurement supports, at 95 % confidence unless a claim's details "
        "name another level. n is how many items were measured.",
        "A value is called higher or lower than its baseline only where its interval excludes the baseline. The "
        "baseline counts as exactly known there; if it was measured on few items itself, the comparison is less sure "
        "than it looks. “No difference shown” does not mean equal: it may mean that n is small.",
    ]
    if compared > 1:
        notes.append(
            f"{compared} comparisons are made on this page, without a correction for their number. If none of them "
            f"were real, about {number(0.05 * compared, 1)} would still exclude its baseline by chance at 95 %."
        )
    if bare or uncounted:
        notes.append(missing)
    notes.append(
        "Bars of the same metric in one section share one scale, so their lengths compare. The dark tick is the "
        "baseline. The key figures on top are each system's first compared claim, not its best."
    )
    if any(section.samples for section in sections):
        notes.append("Sample answers are shown in the order of the file. They illustrate; the figures measure.")
    notes.append(
        "Grey codes are content fingerprints (SHA-256, shortened): the same code means the same bytes. Every stage can "
        "be repeated with its command and its config.yaml. This page holds no script and loads nothing."
    )
    return notes


def _colophon(folder: Path, records: Sequence[StageRecord], evidence: Sequence[Evidence]) -> str:
    files = sum(bool(record.evidence) for record in records)
    times = sorted(str(record.manifest["finished"]) for record in records if record.manifest.get("finished"))
    ended = f" The last stage finished on {_moment(times[-1])}." if times else ""
    where = f"{_count(len(evidence), 'claim')} in {_count(files, 'evidence file')} of {folder.resolve().name}"
    return f"Made by glassworks {version('glassworks')} from {where}.{ended}"


def _unfinished_text(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"{', '.join(names)} stopped or is still running; its figures are missing or may change."


def _moment(text: str) -> str:
    """An ISO 8601 time as "24 November 2026, 13:42 UTC"; as it stands where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = moment.strftime("%Z") or "no time zone"
    return f"{moment.day} {moment.strftime('%B %Y, %H:%M')} {zone}"


def _period(start: str, end: str) -> str:
    """Two times as one phrase; what they share is said once."""
    if start == end:
        return _moment(start)
    (day, _, first), (last_day, _, last) = (_moment(text).rpartition(", ") for text in (start, end))
    if day != last_day or not day:
        return f"{_moment(start)} to {_moment(end)}"
    zone = first.partition(" ")[2]
    return f"{day}, {first.removesuffix(zone).strip() if last.endswith(zone) else first} to {last}"


def _duration(seconds: float) -> str:
    """Seconds as "0.8 s", "42 s", "3 min 05 s" or "2 h 10 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _count(count: int, what: str) -> str:
    return f"{number(count, 0)} {what}{'' if count == 1 else 's'}"
