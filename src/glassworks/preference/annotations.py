"""The public files of AlpacaEval, Arena-Hard and MT-Bench: rows in, and the same formats out.

Read: model_outputs.json and annotations.json (a JSON list or JSONL), judgment, answer and question JSONL files. Every
field is checked before any work and an error names file and row. Written whole or not at all. Knows no judge and no
statistics. Official repositories: alpaca_eval, arena-hard-auto (v0.1 and v2.0), FastChat's llm_judge.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.data import Types, check_fields, iterate_jsonl, local_file
from glassworks.foundations.files import write_json, write_text
from glassworks.preference.alpaca_eval import Floats, GamedRows
from glassworks.preference.arena_hard import Style, style_of

Row = dict[str, Any]
COMPARISON: Types = {"preference": (int, float), "output_1": str, "output_2": str}


def read_list(path: str, required: Sequence[str]) -> list[Row]:
    """The objects of a JSON list or JSONL file, each with the `required` fields. Raises DataError, naming the row."""
    file = local_file(path)
    text = file.read_text(encoding="utf-8").lstrip("\ufeff \n\r\t")
    if not text.startswith("["):
        rows = list(iterate_jsonl(path, required))
    else:
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise MalformedRecord(f"not valid JSON ({error.msg})", place=f"{path}:{error.lineno}") from None
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise MalformedRecord("expected an object", place=f"{path}, row {number}")
            check_fields(row, required, f"{path}, row {number}")
    if not rows:
        raise DataNotFound("holds no rows", place=path)
    return rows


def first_row(path: str) -> Row:
    """The first row of a file, or of the first JSONL file in a folder: it shows what kind of file this is."""
    if not (files := _files(path)):
        raise DataNotFound("holds no JSONL file", place=path)
    return read_list(files[0], ())[0]


def is_annotated(path: str) -> bool:
    """Whether an AlpacaEval file holds judged comparisons rather than one model's outputs."""
    return "output_2" in read_list(path, ())[0]


def read_alpaca_annotations(path: str) -> list[Row]:
    """Judged comparisons: output_1 (baseline), output_2 (model), preference (a number, or null)."""
    rows = read_list(path, ("output_1", "output_2"))
    generators = {row.get("generator_2") for row in rows}
    if len(generators) > 1:
        raise MalformedRecord(
            f"compares several models ({', '.join(map(str, sorted(generators, key=str)))})", place=path
        )
    for number, row in enumerate(rows):
        check_fields(row, (), f"{path}, row {number}", types=COMPARISON)
    return rows


def pair_outputs(model: str, baseline: str) -> list[Row]:
    """Comparisons without a preference, from two model_outputs.json files that answer the same instructions."""
    ours, theirs = (read_list(path, ("instruction", "output")) for path in (model, baseline))
    known = {row["instruction"]: row for row in theirs}
    rows = []
    for number, row in enumerate(ours):
        if row["instruction"] not in known:
            raise MalformedRecord(f"its instruction is not in {baseline}", place=f"{model}, row {number}")
        other = known[row["instruction"]]
        rows.append({
            "index": row.get("index", number), "instruction": row["instruction"], "dataset": row.get("dataset"),
            "output_1": other["output"], "generator_1": other.get("generator", "baseline"),
            "output_2": row["output"], "generator_2": row.get("generator", "model"),
        })  # fmt: skip
    return rows


def read_difficulty(path: str, rows: Sequence[Row]) -> tuple[Floats, GamedRows | None]:
    """The difficulty of each row's instruction [rows], and the gamed baselines' rows where the file has them.

    path: instruction_difficulty.csv (index, difficulty) or df_gamed.csv (preference, index, std_delta_len,
    instruction_difficulty). Rows refer to it by `index`, or by their position.
    """
    with local_file(path).open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    if not table:
        raise DataNotFound("holds no rows", place=path)
    names = list(table[0])
    index = "index" if "index" in names else names[0]
    value = "instruction_difficulty" if "instruction_difficulty" in names else names[-1]
    try:
        known: dict[int, float] = {}
        for entry in table:
            known.setdefault(int(entry[index]), float(entry[value]))
        found = np.array([known[int(row.get("index", number))] for number, row in enumerate(rows)])
        if not {"preference", "std_delta_len"} <= set(names):
            return found, None
        columns = ([float(entry[name]) for entry in table] for name in ("preference", "std_delta_len", value))
        return found, GamedRows(*(np.array(column) for column in columns))
    except KeyError as error:
        raise MalformedRecord(f"has no difficulty for instruction {error.args[0]}", place=path) from None
    except (TypeError, ValueError) as error:
        raise MalformedRecord(f"holds something that is no number ({error})", place=path) from None


def write_alpaca_annotations(path: Path, rows: Sequence[Row]) -> None:
    """annotations.json as AlpacaEval reads it."""
    write_json(path, list(rows))


def question_id(row: Row) -> str:
    """A question's id: `uid` in Arena-Hard v2.0, `question_id` elsewhere."""
    value = row.get("uid", row.get("question_id"))
    if value is None:
        raise MalformedRecord("a row has neither 'uid' nor 'question_id'", place="questions")
    return str(value)


def read_arena_judgments(path: str) -> list[Row]:
    """Judgments of one or more models, from a file or folder: model, two games with a `score`, uid or question_id."""
    rows = [row for file in _files(path) for row in read_list(file, ("model", "games"))]
    for row in rows:
        games = row["games"]
        if not isinstance(games, list) or len(games) != 2:
            raise MalformedRecord(f"question {question_id(row)} has no two games", place=path)
    return rows


def verdicts(row: Row) -> tuple[str | None, str | None]:
    """The two verdicts of a judgment; a game that is null or has no score is None."""
    first, second = ((game or {}).get("score") for game in row["games"])
    return first, second


def read_questions(path: str) -> dict[str, Row]:
    """Questions by id; `prompt` (v2.0) or `turns`, whose entries are texts or {content}, become a list of texts."""
    found = {}
    for row in read_list(path, ()):
        turns = [row["prompt"]] if "prompt" in row else row.get("turns", [])
        texts = [turn["content"] if isinstance(turn, dict) else turn for turn in turns]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise MalformedRecord(f"question {question_id(row)} has no text", place=path)
        found[question_id(row)] = {**row, "turns": texts}
    return found


def read_answers(path: str) -> dict[str, Row]:
    """A model's answers by question: `texts`, one a turn, `model`, and `metadata` (style counts) where it is there."""
    found = {}
    for row in read_list(path, ()):
        if "messages" in row:
            turns = [m["content"] for m in row["messages"] if m.get("role") == "assistant"]
        elif row.get("choices"):
            turns = row["choices"][0].get("turns", [])
        else:
            raise MalformedRecord(f"question {question_id(row)} has neither 'messages' nor 'choices'", place=path)
        texts = [_text(turn) for turn in turns]
        name = row.get("model") or row.get("model_id") or Path(path).stem
        found[question_id(row)] = {"texts": texts, "model": name, "metadata": row.get("metadata")}
    return found


def style_of_answer(row: Row) -> Style:
    """Style counts of an answer: its `metadata` (token_len, *_count) where it is there, else counted in its text."""
    counts = row["metadata"]
    if not isinstance(counts, dict) or "token_len" not in counts:
        return style_of("\n\n".join(row["texts"]))
    marks = [counts.get(name, 0) for name in ("header_count", "list_count", "bold_count")]
    header, items, bold = (float(sum(mark.values()) if isinstance(mark, dict) else mark) for mark in marks)
    return Style(float(counts["token_len"]), header, items, bold)


def read_grades(path: str) -> list[Row]:
    """MT-Bench judgments: question_id, model, turn, score (-1: no grade)."""
    rows = read_list(path, ("question_id", "model", "turn", "score"))
    for number, row in enumerate(rows):
        check_fields(row, (), f"{path}, row {number}", types={"score": (int, float), "turn": int})
    return rows


def write_lines(path: Path, rows: Sequence[Row]) -> None:
    """JSONL, one object a row."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _text(turn: object) -> str:
    value = turn.get("content", turn.get("answer")) if isinstance(turn, dict) else turn
    return value if isinstance(value, str) else ""


def _files(path: str) -> list[str]:
    folder = Path(path).expanduser()
    return sorted(map(str, folder.glob("*.jsonl"))) if folder.is_dir() else [path]
