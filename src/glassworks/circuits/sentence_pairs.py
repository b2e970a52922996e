"""Labelled texts or pairs of texts, in and out of domain, as token batches of equal length.

Rows: {text, text_pair?, label, case?, domain?: "in" or "out", binary?, counterpart?}. `case` names an evaluation
split; `binary` says that labels are 0 = entailment and 1 = not, for a model with more classes, whose class 0 is then
entailment; `counterpart` names the case, or the beginning of cases' names, that holds the same kind of text with the
other label (for AUC). Hub data sets of the paper (MNLI, QQP, PAWS) come in by id, HANS from our own generator as
"hans", or "hans:200" for 200 pairs a case. Knows neither gates nor models' parts.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glassworks.circuits.hans import hans_pairs_a_case, hans_rows
from glassworks.errors import DataError, MalformedRecord, OptionError, check_at_least
from glassworks.foundations.rows import load_rows

Domain = Literal["in", "out"]
Batch = dict[str, Tensor]


class HubTask(NamedTuple):
    """Where a data set of the paper lies on the hub, and which of its columns are which."""

    path: str
    subset: str | None
    columns: tuple[str, str]
    splits: tuple[str, ...]


HUB: Mapping[str, HubTask] = {
    "nyu-mll/glue:mnli": HubTask(
        "nyu-mll/glue", "mnli", ("premise", "hypothesis"), ("validation_matched", "validation_mismatched")
    ),
    "nyu-mll/glue:qqp": HubTask("nyu-mll/glue", "qqp", ("question1", "question2"), ("validation",)),
    "google-research-datasets/paws:labeled_final": HubTask(
        "google-research-datasets/paws", "labeled_final", ("sentence1", "sentence2"), ("test",)
    ),
}


class Example(NamedTuple):
    """One text or pair with its label."""

    text: str
    text_pair: str | None
    label: int


@dataclass(frozen=True)
class Case:
    """A named split: its examples and how they are to be read."""

    name: str
    examples: tuple[Example, ...]
    domain: Domain = "in"
    binary: bool = False
    counterpart: str = ""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Examples as token ids, unpadded. columns: name -> one list an example; labels: int64 [examples]."""

    columns: dict[str, list[list[int]]]
    labels: Tensor
    padding: dict[str, int] = field(default_factory=dict)
    sha: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The chosen examples, padded on the right to the longest of them: each tensor [batch, seq], on a device."""
        width = max(len(self.columns["input_ids"][index]) for index in indices)
        rows = {}
        for name, values in self.columns.items():
            fill = self.padding.get(name, 0)
            padded = [values[i] + [fill] * (width - len(values[i])) for i in indices]
            rows[name] = torch.tensor(padded, device=device)
        return rows

    def buckets(self, batch_size: int) -> Iterator[list[int]]:
        """All examples once, those of equal length together, so that little is padded."""
        order = sorted(range(len(self)), key=lambda index: len(self.columns["input_ids"][index]))
        for stretch in stretches(0, len(order), batch_size):
            yield [order[place] for place in stretch]


def stretches(start: int, end: int, size: int) -> list[range]:
    """start to end in ranges of `size`; a lone last one joins its neighbour, since resampling needs two rows."""
    starts = list(range(start, end, size))
    if size > 1 and len(starts) > 1 and end - starts[-1] == 1:
        starts.pop()
    return [range(one, other) for one, other in itertools.pairwise([*starts, end])]


def read_cases(source: str, *, limit: int | None = None) -> list[Case]:
    """The cases of a file or hub id, in the order of their first rows.

    source: several are separated by commas. limit: examples a case at most. Raises DataNotFound, MalformedRecord,
    OptionError.
    """
    check_at_least(1, limit=limit)
    if "," in source:
        return [case for one in source.split(",") for case in read_cases(one.strip(), limit=limit)]
    if source.partition(":")[0] == "hans":
        return _grouped(hans_rows(hans_pairs_a_case(source)), source, limit)
    if source in HUB:
        return [_hub_case(source, split, limit) for split in HUB[source].splits]
    types = {"text": str, "text_pair": str, "label": int, "case": str, "domain": str, "counterpart": str}
    return _grouped(load_rows(source, ("text", "label"), types=types), source, limit)


def _grouped(rows: Iterable[dict[str, Any]], source: str, limit: int | None) -> list[Case]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=1):
        if row.get("domain") not in (None, "in", "out"):
            raise MalformedRecord(f"domain is '{row['domain']}', expected in or out", place=f"{source}, row {number}")
        groups.setdefault(row.get("case") or "validation", []).append(row)
    return [_case(name, rows[:limit], source) for name, rows in groups.items()]


def read_examples(source: str, *, limit: int | None = None) -> tuple[Example, ...]:
    """The training examples of a file or hub id, whatever their case. Raises as `read_cases`."""
    check_at_least(1, limit=limit)
    if source in HUB:
        return _hub_case(source, "train", limit).examples
    rows = load_rows(source, ("text", "label"), types={"text": str, "text_pair": str, "label": int})
    return tuple(Example(row["text"], row.get("text_pair"), row["label"]) for row in rows)[:limit]


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, max_length: int = 128) -> Encoded:
    """Tokenise; texts beyond `max_length` tokens are cut, as the paper's are. Raises DataError for no example."""
    if not examples:
        raise DataError("there is no example", place="data", remedy="Give a file with at least one row.")
    first = [example.text for example in examples]
    paired = [example.text_pair for example in examples if example.text_pair is not None]
    if len(paired) not in (0, len(examples)):
        raise DataError("some rows have a text_pair and others have none", place="data")
    found = tokenizer(first, paired or None, truncation=True, max_length=max_length)
    names = [name for name in tokenizer.model_input_names if name in found]
    columns = {name: [list(row) for row in found[name]] for name in names}
    labels = torch.tensor([example.label for example in examples])
    digest = hashlib.sha256(repr((columns["input_ids"], labels.tolist())).encode()).hexdigest()[:16]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return Encoded(columns, labels, {"input_ids": int(pad)}, digest)


def check_labels(labels: Tensor, classes: int, place: str, *, binary: bool = False) -> None:
    """Raise OptionError where a label does not exist in a model of `classes` classes."""
    limit = 2 if binary else classes
    worst = int(labels.max()) if int(labels.min()) >= 0 else int(labels.min())
    if not 0 <= worst < limit:
        raise OptionError(
            f"a label is {worst}, but labels of the {'binary case' if binary else f'model with {classes} classes'} are "
            f"0 to {limit - 1}",
            place=place,
            remedy="Use a model that was trained for these labels, or map them.",
        )


def counterparts(case: Case, cases: Sequence[Case]) -> list[Case]:
    """The cases that hold the other label for `case`: the one of that name, else those whose names begin so."""
    if not case.counterpart:
        return []
    exact = [other for other in cases if other.name == case.counterpart]
    return exact or [other for other in cases if other.name.startswith(case.counterpart)]


def _case(name: str, rows: Sequence[dict[str, Any]], source: str) -> Case:
    about = {key: {row.get(key) for row in rows} for key in ("domain", "binary", "counterpart")}
    for key, values in about.items():
        if len(values) > 1:
            raise MalformedRecord(f"case '{name}' has several values of {key}", place=source)
    domain, binary, counterpart = (next(iter(values)) for values in about.values())
    examples = tuple(Example(row["text"], row.get("text_pair"), row["label"]) for row in rows)
    return Case(name, examples, domain or "in", bool(binary), counterpart or "")


def _hub_case(source: str, split: str, limit: int | None) -> Case:
    task = HUB[source]
    rows = load_rows(task.path, (*task.columns, "label"), split=split, subset=task.subset)
    rows = rows.select(range(min(limit or len(rows), len(rows))))
    one, two = task.columns
    examples = tuple(Example(row[one], row[two], row["label"]) for row in rows)
    return Case(split if split.startswith("validation_") else f"{source.rpartition(':')[2]}", examples)
