"""The public formats, read as they are published, with the row named where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.preference.annotations import (
    first_row,
    is_annotated,
    pair_outputs,
    read_alpaca_annotations,
    read_answers,
    read_arena_judgments,
    read_difficulty,
    read_grades,
    read_questions,
    style_of_answer,
    verdicts,
    write_alpaca_annotations,
)
from glassworks.preference.arena_hard import Style


def written(path: Path, rows: list[dict[str, Any]], lines: bool = True) -> str:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    path.write_text(text)
    return str(path)


def test_alpaca_files(tmp_path: Path) -> None:
    rows = [{"instruction": f"i{n}", "output": f"o{n}", "generator": "mine"} for n in range(3)]
    ours = written(tmp_path / "ours.json", rows, lines=False)
    theirs = written(tmp_path / "theirs.json", [{**row, "generator": "base"} for row in reversed(rows)], lines=False)
    pairs = pair_outputs(ours, theirs)
    assert [(row["index"], row["output_1"], row["generator_1"], row["generator_2"]) for row in pairs] == [
        (n, f"o{n}", "base", "mine") for n in range(3)
    ]
    assert not is_annotated(ours)
    judged = [{**row, "preference": None if row["index"] == 1 else 1.5} for row in pairs]
    write_alpaca_annotations(tmp_path / "annotations.json", judged)
    assert read_alpaca_annotations(str(tmp_path / "annotations.json")) == judged
    with pytest.raises(MalformedRecord, match=r"ours.json, row 0: its instruction is not in"):
        pair_outputs(ours, written(tmp_path / "other.json", [{"instruction": "x", "output": "y"}]))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"output_1": "a", "output_2": 3, "preference": 1}], "row 0: field 'output_2' should be text"),
        ([{"output_1": "a", "output_2": "b", "preference": "m"}], "row 0: field 'preference' should be"),
        (
            [{"output_1": "a", "output_2": "b", "generator_2": name} for name in "xy"],
            "compares several models",
        ),
        ([{"output_1": "a"}], "field 'output_2' is missing"),
    ],
)
def test_wrong_annotations_name_the_row(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        read_alpaca_annotations(written(tmp_path / "a.json", rows, lines=False))


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"x": 1},\n{"x" 2}]')
    with pytest.raises(MalformedRecord, match=r"a.json:3"):
        first_row(str(tmp_path / "a.json"))
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(DataNotFound, match="no rows"):
        first_row(str(tmp_path / "empty.json"))


def test_difficulty_and_gamed_rows(tmp_path: Path) -> None:
    rows = [{"index": 1}, {"index": 0}]
    (tmp_path / "instruction_difficulty.csv").write_text("index,instruction_difficulty\n0,0.5\n1,-1\n")
    found, gamed = read_difficulty(str(tmp_path / "instruction_difficulty.csv"), rows)
    assert (found.tolist(), gamed) == ([-1, 0.5], None)
    (tmp_path / "df_gamed.csv").write_text(
        "preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n"
        "0.25,0,1.5,0.5,False,a\n0.5,1,-1,2,False,a\n0.75,0,0,0.5,False,b\n"
    )
    found, gamed = read_difficulty(str(tmp_path / "df_gamed.csv"), rows)
    assert found.tolist() == [2, 0.5]
    assert gamed is not None
    assert gamed.preference.tolist() == [0.25, 0.5, 0.75]
    assert gamed.difficulty.tolist() == [0.5, 2, 0.5]
    with pytest.raises(MalformedRecord, match="no difficulty for instruction 7"):
        read_difficulty(str(tmp_path / "df_gamed.csv"), [{"index": 7}])


def test_arena_files_of_both_versions(tmp_path: Path) -> None:
    old = {"question_id": "q", "model": "m", "judge": "j", "games": [{"score": "A>B"}, {"score": None}]}
    new = {"uid": "u", "model": "m", "category": "hard", "games": [None, {"score": "B>A"}]}
    assert [verdicts(row) for row in read_arena_judgments(written(tmp_path / "j.jsonl", [old, new]))] == [
        ("A>B", None), (None, "B>A"),
    ]  # fmt: skip
    assert len(read_arena_judgments(str(tmp_path))) == 2
    with pytest.raises(MalformedRecord, match="question q has no two games"):
        read_arena_judgments(written(tmp_path / "k.jsonl", [{**old, "games": []}]))
    v1 = {"question_id": 5, "model_id": "m", "choices": [{"index": 0, "turns": [{"content": "a"}, "b"]}]}
    meta = {"token_len": 10, "header_count": {"h1": 1, "h2": 2}, "list_count": {"ordered": 4}, "bold_count": {"**": 1}}
    v2 = {"uid": "u", "model": "m", "metadata": meta, "messages": [
        {"role": "user", "content": "?"}, {"role": "assistant", "content": {"answer": "c"}}]}  # fmt: skip
    answers = read_answers(written(tmp_path / "a.jsonl", [v1, v2]))
    assert {key: row["texts"] for key, row in answers.items()} == {"5": ["a", "b"], "u": ["c"]}
    assert style_of_answer(answers["u"]) == Style(10, 3, 4, 1)
    assert style_of_answer(answers["5"]).length == 2
    questions = read_questions(
        written(
            tmp_path / "q.jsonl", [{"uid": "u", "prompt": "p"}, {"question_id": 5, "turns": [{"content": "x"}, "y"]}]
        )
    )
    assert {key: row["turns"] for key, row in questions.items()} == {"u": ["p"], "5": ["x", "y"]}


def test_grades(tmp_path: Path) -> None:
    row = {"question_id": 81, "model": "m", "turn": 1, "score": -1}
    assert read_grades(written(tmp_path / "g.jsonl", [row])) == [row]
    with pytest.raises(MalformedRecord, match="field 'turn' should be a whole number"):
        read_grades(written(tmp_path / "g.jsonl", [{**row, "turn": "one"}]))
