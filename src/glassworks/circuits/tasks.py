"""Where prompt pairs come from: generators of the field's tasks, JSONL with <predict> marks, and MIB / EAP CSV.

Tasks of Edge Pruning (2024, section 4.1) in wording of our own, drawn by seed: indirect objects (many frames or
one), greater-than, gendered pronouns, Boolean expressions. A row is a `TextPair`; `load_task` tokenises them for a
model's tokenizer, dropping what a tokenizer cannot split as the task needs. Knows no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from glassworks.circuits.pairs import OnMisaligned, PairSet, TextPair, tokenise
from glassworks.circuits.wording import boolean, gendered_pronoun, greater_than, indirect_object
from glassworks.errors import MalformedRecord, OptionError, UnknownName, check_at_least
from glassworks.foundations.data import iterate_jsonl
from glassworks.foundations.rows import load_rows

Corruption = Literal["abc", "swap", "random"]
TASKS = ("ioi", "ioi-t1", "gt", "gp", "bool")
_PREDICT = re.compile(r"^(.*?)<predict>(.*?)</predict>", re.S)


def load_task(
    data: str,
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    *,
    seed: int = 0,
    corruption: Corruption = "abc",
    on_misaligned: OnMisaligned = "stop",
) -> tuple[PairSet, PairSet]:
    """Pairs to search on and pairs to judge by, at most `n` in all from a generator, all of a file.

    data: a name of TASKS, a .jsonl or a .csv file. A file with `split` fields is split by them; without, the whole
    file serves as both, as in the official code. Raises UnknownName, MalformedRecord, DataNotFound, OptionError.
    """
    if data in TASKS:
        rows = generate(data, n, seed=seed, corruption=corruption, tokenizer=tokenizer)
        choices = _numbers(tokenizer) if data == "gt" else None
        found = tokenise(rows, tokenizer, name=data, choices=choices, on_misaligned=on_misaligned)
        return found, found
    if not data.endswith((".jsonl", ".csv")):
        raise UnknownName("task", data, [*TASKS, "FILE.jsonl", "FILE.csv"], place="data")
    rows = list(read_csv(data) if data.endswith(".csv") else read_pairs(data))
    name = Path(data).stem
    validation = [row for row in rows if row.split in ("validation", "test")]
    training = [row for row in rows if row.split not in ("validation", "test")] if validation else rows
    both = (
        tokenise(part, tokenizer, name=name, on_misaligned=on_misaligned)
        for part in (training or rows, validation or rows)
    )
    first, second = both
    return first, second


def generate(
    task: str,
    n: int,
    *,
    seed: int = 0,
    corruption: Corruption = "abc",
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[TextPair]:
    """`n` rows of a task of TASKS, the same for the same seed.

    tokenizer: names, years and expressions are limited to those that it splits as the task needs. Raises
    OptionError where too few are left.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS, place="data")
    check_at_least(1, n=n)
    if task in ("ioi", "ioi-t1"):
        return indirect_object(n, seed, corruption, _single(tokenizer), one_frame=task == "ioi-t1")
    if task == "gp":
        return gendered_pronoun(n, seed, _single(tokenizer))
    if task == "gt":
        return greater_than(n, seed, _year_splits(tokenizer), _single(tokenizer))
    return boolean(n, seed)


def read_pairs(path: str) -> Iterator[TextPair]:
    """Rows of the official custom JSONL: clean and corrupted, each with its answer in <predict>...</predict>.

    distractor and split ("train" or "validation") are optional. Raises MalformedRecord with file:line.
    """
    for number, row in enumerate(iterate_jsonl(path, ("clean", "corrupted")), start=1):
        place = f"{path}:{number}"
        sides = [_marked(row, side, place) for side in ("clean", "corrupted")]
        (clean, answer), (corrupted, other) = sides
        wrong = str(row.get("distractor") or "")
        yield TextPair(clean, corrupted, answer, other, wrong, str(row.get("split") or ""), place)


def read_csv(path: str) -> Iterator[TextPair]:
    """Rows of MIB / EAP CSV: clean, corrupted, correct_idx, incorrect_idx, the last two being token ids.

    Answers that are ids become text by the tokenizer later: they are given as <id:N>. Raises MalformedRecord.
    """
    for number, row in enumerate(load_rows(path, ("clean", "corrupted")), start=1):
        place = f"{path}, row {number}"
        right, wrong = (_token_id(row, name, place) for name in ("correct_idx", "incorrect_idx"))
        if right is None:
            raise MalformedRecord("the column correct_idx is missing", place=place)
        yield TextPair(
            str(row["clean"]),
            str(row["corrupted"]),
            f"<id:{right}>",
            f"<id:{right if wrong is None else wrong}>",
            "" if wrong is None else f"<id:{wrong}>",
            place=place,
        )


def as_json(row: TextPair) -> str:
    """A row as a line of the official JSONL."""
    content: dict[str, Any] = {
        "clean": f"{row.clean}<predict>{row.answer}</predict>",
        "corrupted": f"{row.corrupted}<predict>{row.corrupted_answer or row.answer}</predict>",
    }
    content |= {"distractor": row.distractor} if row.distractor else {}
    content |= {"split": row.split} if row.split else {}
    return json.dumps(content, ensure_ascii=False)


def _token_id(row: dict[str, Any], name: str, place: str) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise MalformedRecord(f"{name} is {value!r}, expected the id of a token", place=place) from None


def _marked(row: dict[str, Any], side: str, place: str) -> tuple[str, str]:
    found = _PREDICT.match(str(row[side]))
    if not found or not found[2].strip():
        raise MalformedRecord(
            f"'{side}' marks no answer", place=place, remedy="Write it as: 1 + 2 = <predict>3</predict>."
        )
    return found[1], found[2]


def _single(tokenizer: PreTrainedTokenizerBase | None) -> Any:
    """Whether a word with a leading space is one token; all are where no tokenizer is given."""

    def single(word: str) -> bool:
        return tokenizer is None or len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1

    return single


def _year_splits(tokenizer: PreTrainedTokenizerBase | None) -> Any:
    def splits(year: str) -> bool:
        if tokenizer is None:
            return True
        ids = tokenizer(f" {year}", add_special_tokens=False)["input_ids"]
        return len(ids) == 2 and tokenizer.decode(ids[1:]) == year[2:]

    return splits


def _numbers(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of 00 to 99 behind a century."""
    ids = [tokenizer(f" 17{number:02}", add_special_tokens=False)["input_ids"] for number in range(100)]
    alone = [tokenizer.convert_tokens_to_ids(f"{number:02}") for number in range(100)]
    found = [of[-1] if len(of) == 2 else one for of, one in zip(ids, alone, strict=True)]
    tokens = [int(token) for token in found if isinstance(token, int)]
    if len(set(tokens)) < 100:
        raise OptionError(
            "this tokenizer does not write two-digit numbers as single tokens",
            place="data",
            remedy="Greater-Than needs one that does, as GPT-2's.",
        )
    return tokens
