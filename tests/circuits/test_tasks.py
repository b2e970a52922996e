"""Generators repeat themselves and align; files are read with their rows named."""

import json
from pathlib import Path

import pytest
from cases.tokenizers import chat_tokenizer

from glassworks.circuits.pairs import tokenise
from glassworks.circuits.tasks import TASKS, as_json, generate, load_task, read_csv, read_pairs
from glassworks.circuits.toy_model import word_tokenizer
from glassworks.errors import MalformedRecord, OptionError, UnknownName


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_rows(task: str) -> None:
    rows = generate(task, 20, seed=1)
    assert rows == generate(task, 20, seed=1)
    assert rows != generate(task, 20, seed=2)
    assert all(row.clean != row.corrupted for row in rows)
    words = [(len(row.clean.split()), len(row.corrupted.split())) for row in rows]
    assert all(a == b for a, b in words)


def test_rows_survive_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = generate("ioi", 4)
    file.write_text("".join(as_json(row) + "\n" for row in rows))
    found = list(read_pairs(str(file)))
    assert [(row.clean, row.corrupted, row.answer, row.distractor) for row in found] == [
        (row.clean, row.corrupted, row.answer, row.distractor) for row in rows
    ]
    assert found[2].place == f"{file}:3"


def test_split_of_a_file_is_kept_and_without_one_it_serves_both(tmp_path: Path) -> None:
    tokenizer, file = word_tokenizer(("a", "b", "c")), tmp_path / "pairs.jsonl"
    lines = [
        {"clean": f"{one} <predict>c</predict>", "corrupted": "c <predict>a</predict>", "split": split}
        for one, split in (("a", "train"), ("b", "validation"))
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    training, test = load_task(str(file), tokenizer, 10)
    assert [len(training), len(test)] == [1, 1]
    assert training.pairs != test.pairs
    file.write_text(json.dumps({k: v for k, v in lines[0].items() if k != "split"}) + "\n")
    training, test = load_task(str(file), tokenizer, 10)
    assert training.pairs == test.pairs


def test_csv_gives_answers_by_token_id(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("clean,corrupted,correct_idx,incorrect_idx\na b,b a,3,2\n")
    (pair,) = tokenise(read_csv(str(file)), word_tokenizer(("a", "b", "c")), name="x").pairs
    assert pair.targets == (3,)
    assert pair.distractors == (2,)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="ioi"):
        load_task("oio", word_tokenizer(("a",)), 4)
    with pytest.raises(OptionError, match="whole"):
        generate("ioi", 4, tokenizer=chat_tokenizer("chatml"))
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"clean": "a", "corrupted": "b"}\n')
    with pytest.raises(MalformedRecord, match=r"pairs.jsonl:1: 'clean' marks no answer"):
        list(read_pairs(str(file)))
    table = tmp_path / "pairs.csv"
    table.write_text("clean,corrupted,correct_idx\na b,b a,x\n")
    with pytest.raises(MalformedRecord, match=r"pairs.csv, row 1: correct_idx is 'x'"):
        list(read_csv(str(table)))
