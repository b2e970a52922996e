"""Cases from a file, from the generator, and as batches: labels, padding, counterparts and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from glassworks.circuits.sentence_pairs import (
    Case,
    Example,
    check_labels,
    counterparts,
    encode,
    read_cases,
    read_examples,
)
from glassworks.circuits.toy_inference import toy_evaluation_rows, toy_tokenizer
from glassworks.errors import DataError, DataNotFound, MalformedRecord, OptionError

PAIRS = [Example("doctor helped baker", "baker helped doctor", 1), Example("nurse near judge saw poet", "nurse saw", 0)]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_become_cases_in_order(tmp_path: Path) -> None:
    source = write(tmp_path / "cases.jsonl", toy_evaluation_rows(in_domain=5, a_kind=3))
    cases = read_cases(source)
    assert [case.name for case in cases][:3] == ["validation", "swap_hard", "swap_entailed"]
    assert [len(case.examples) for case in cases] == [5] + [3] * 8
    assert (cases[0].domain, cases[1].domain) == ("in", "out")
    assert [case.name for case in counterparts(cases[1], cases)] == ["swap_entailed"]
    assert counterparts(cases[0], cases) == []
    assert len(read_cases(source, limit=2)[0].examples) == 2
    assert len(read_examples(source)) == 29


def test_generated_and_several_sources(tmp_path: Path) -> None:
    source = write(tmp_path / "cases.jsonl", [{"text": "x", "label": 0}])
    cases = read_cases(f"{source}, hans:2")
    assert len(cases) == 31
    assert cases[0] == Case("validation", (Example("x", None, 0),))
    hard = next(case for case in cases if case.name == "ln_preposition")
    assert hard.binary
    assert [case.name[:3] for case in counterparts(hard, cases)] == ["le_"] * 5


def test_batches_are_padded_and_cover_everything_once() -> None:
    data = encode(PAIRS, toy_tokenizer())
    batch = data.batch([0, 1])
    assert {name: value.shape for name, value in batch.items()} == dict.fromkeys(
        ("input_ids", "token_type_ids", "attention_mask"), torch.Size([2, 10])
    )
    assert batch["attention_mask"].sum(1).tolist() == [9, 10]
    assert batch["token_type_ids"][0].tolist() == [0] * 5 + [1] * 4 + [0]
    assert sorted(i for part in data.buckets(1) for i in part) == [0, 1]
    assert data.sha != encode(PAIRS[:1], toy_tokenizer()).sha


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no example"):
        encode([], toy_tokenizer())
    with pytest.raises(DataError, match="others have none"):
        encode([*PAIRS, Example("x", None, 0)], toy_tokenizer())
    with pytest.raises(OptionError, match="a label is 2, but labels of the model with 2 classes are 0 to 1"):
        check_labels(torch.tensor([0, 2]), 2, "case 'x'")
    with pytest.raises(OptionError, match="binary case"):
        check_labels(torch.tensor([0, 2]), 3, "case 'x'", binary=True)
    with pytest.raises(MalformedRecord, match="domain is 'inside'"):
        read_cases(write(tmp_path / "a.jsonl", [{"text": "x", "label": 0, "domain": "inside"}]))
    with pytest.raises(MalformedRecord, match="several values of binary"):
        read_cases(write(tmp_path / "b.jsonl", [{"text": "x", "label": 0, "binary": b} for b in (True, False)]))
    with pytest.raises(DataNotFound):
        read_cases(write(tmp_path / "c.jsonl", []))
