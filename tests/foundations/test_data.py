"""JSONL with faults on known lines, field checks, conversations and fingerprints."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.data import check_messages, file_sha, iterate_jsonl, read_jsonl

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_reads_rows_and_skips_blank_lines(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", '\ufeff{"a": 1}', "", '{"a": "é 日本"}', "   ")
    assert read_jsonl(file) == [{"a": 1}, {"a": "é 日本"}]


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5))
def test_any_json_objects_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    file = tmp_path_factory.mktemp("rows") / "x.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert read_jsonl(file) == rows


def test_gzip_reads_the_same(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as file:
        file.write('{"a": 1}\n{"a": 2}\n')
    assert read_jsonl(tmp_path / "x.jsonl.gz") == [{"a": 1}, {"a": 2}]


def test_broken_line_is_named_with_its_column(tmp_path: Path) -> None:
    good = ['{"prompt": "p", "chosen": "c"}'] * 16
    file = write(tmp_path / "x.jsonl", *good, '{"prompt": "a long enough prompt text", "chosen" "b"}')
    with pytest.raises(MalformedRecord) as caught:
        read_jsonl(file)
    assert str(caught.value).startswith(f"{file}:17: not valid JSON (Expecting ':' delimiter, column 50).")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "expected a JSON object, found a list"),
        ('"text"', "expected a JSON object, found text"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1', "not valid JSON (Expecting ',' delimiter, column 8)"),
        ('{"b": 1}', "field 'a' is missing (there are: b)"),
        ("{}", "field 'a' is missing (there are: none)"),
        ('{"a": null}', "field 'a' is null"),
        ('{"a": "1"}', "field 'a' should be a whole number or a number, not text ('1')"),
        ('{"a": true}', "field 'a' should be a whole number or a number, not true or false (True)"),
    ],
)
def test_each_fault_says_line_expected_and_received(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "x.jsonl", '{"a": 1}', line)
    with pytest.raises(MalformedRecord) as caught:
        read_jsonl(file, ["a"], types={"a": (int, float)})
    assert f"{file}:2: " in str(caught.value)
    assert message in str(caught.value)


def test_rows_before_a_broken_line_can_be_had(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", '{"a": 1}', "broken")
    rows = iterate_jsonl(file)
    assert next(rows) == {"a": 1}
    with pytest.raises(MalformedRecord):
        next(rows)


def test_bytes_that_are_not_utf8_are_blamed_on_their_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    with pytest.raises(MalformedRecord, match=r"x\.jsonl:2: not UTF-8 \(byte 0xe9 at position 11"):
        read_jsonl(tmp_path / "x.jsonl")


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 1000)
    (tmp_path / "x.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MalformedRecord, match="broken gzip after line"):
        read_jsonl(tmp_path / "x.jsonl.gz")


def test_missing_file_lists_what_is_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", "{}")
    with pytest.raises(DataNotFound, match=r"no such file\. In .* there is: pairs\.jsonl"):
        read_jsonl(tmp_path / "pears.jsonl")
    with pytest.raises(DataNotFound, match="does not exist either"):
        read_jsonl(tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(DataNotFound, match="expected a file, this is a folder"):
        read_jsonl(tmp_path)


def test_conversation_passes_unchanged() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]
    assert check_messages(turns, "x:1", last="assistant") is turns


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Hi", "x:1: expected a list of messages, found text ('Hi')"),
        ([], "x:1: expected a list of messages"),
        (["Hi"], "x:1, message 1: expected an object"),
        ([{"role": "user"}], "x:1, message 1: field 'content' is missing"),
        ([{"role": "user", "content": 3}], "x:1, message 1: field 'content' should be text, not a whole number (3)"),
        ([{"role": "bot", "content": "Hi"}], "x:1, message 1: role 'bot' is not one of system, user"),
        ([{"role": "user", "content": "Hi"}], "x:1: the last message is the user's, expected the assistant's"),
    ],
)
def test_broken_conversation_names_the_message(value: object, message: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        check_messages(value, "x:1", last="assistant")
    assert message in str(caught.value)


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    """The oracle is SHA-256 of "abc" as published with the standard (FIPS 180-2)."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"abc")
    b.write_bytes(b"abc")
    assert file_sha(a) == file_sha(b) == "ba7816bf8f01cfea"
    b.write_bytes(b"abd")
    os.utime(b, ns=(1, 1))
    assert file_sha(b) != file_sha(a)
    assert file_sha(tmp_path) != file_sha(a)
    with pytest.raises(DataNotFound):
        file_sha(tmp_path / "c")
