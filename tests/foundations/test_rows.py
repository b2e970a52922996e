"""Tables of every format: the same rows whatever the format, faults by row, a split that leaks nothing."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import DataNotFound, MalformedRecord, OptionError, UnknownName
from glassworks.foundations.rows import load_rows, split_rows

ROWS = [{"question": f"q{i}", "answer": "a" * i, "score": i} for i in range(1, 6)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def write(rows: list[dict], folder: Path, kind: str) -> str:
    path, table = folder / f"rows.{kind}", Dataset.from_list(rows)
    match kind:
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps(rows))
        case "csv":
            table.to_csv(path)
        case "tsv":
            table.to_csv(path, sep="\t")
        case "parquet":
            table.to_parquet(path)
        case "saved":
            table.save_to_disk(path)
        case "folder":
            path.mkdir()
            table.to_parquet(path / "part.parquet")
    return str(path)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "saved", "folder"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    table = load_rows(write(ROWS, tmp_path, kind), ["question", "score"], types={"score": int, "question": str})
    assert table.to_list() == ROWS


def test_a_field_that_only_later_rows_have_is_kept(tmp_path: Path) -> None:
    source = write([{"a": 1}], tmp_path, "jsonl")
    Path(source).write_text('{"a": 1}\n{"a": 2, "b": "late"}\n')
    assert load_rows(source).to_list() == [{"a": 1, "b": None}, {"a": 2, "b": "late"}]


def test_jsonl_faults_name_the_line(tmp_path: Path) -> None:
    source = write([*ROWS, {"question": "q", "answer": None, "score": 1}], tmp_path, "jsonl")
    with pytest.raises(MalformedRecord, match=r"rows\.jsonl:6: field 'answer' is null"):
        load_rows(source, ["answer"])


def test_mixed_types_in_jsonl_name_the_field(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": "one"}\n')
    with pytest.raises(MalformedRecord, match="field 'a' has values of different types"):
        load_rows(str(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_table_faults_name_column_or_row(tmp_path: Path, kind: str) -> None:
    source = write([*ROWS, {"question": None, "answer": "a", "score": 1}], tmp_path, kind)
    with pytest.raises(
        MalformedRecord, match=rf"rows\.{kind}: column 'prompt' is missing \(there are: question, answer"
    ):
        load_rows(source, ["prompt"])
    with pytest.raises(MalformedRecord, match=rf"rows\.{kind}, row 6: column 'question' is null"):
        load_rows(source, ["question"])
    with pytest.raises(MalformedRecord, match="field 'score' should be text, not a whole number"):
        load_rows(source, types={"score": str})


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    source = write(ROWS, tmp_path, "parquet")
    assert len(load_rows(source)) == 5
    write(ROWS[:2], tmp_path, "parquet")
    assert len(load_rows(source)) == 2


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("x.parquet", b"not parquet at all", MalformedRecord, "cannot be read as parquet"),
        ("x.json", b'{"a": ', MalformedRecord, "cannot be read as json"),
        ("x.xlsx", b"PK", DataNotFound, r"'\.xlsx' is not a format for rows"),
        ("x.jsonl", b"\n\n", DataNotFound, "holds no rows"),
    ],
)
def test_unreadable_files_are_refused(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        load_rows(str(tmp_path / name))


def test_folder_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.xyz").touch()
    with pytest.raises(DataNotFound, match=r"holds no rows that can be read \(a\.xyz\)"):
        load_rows(str(tmp_path / "docs"))


@pytest.mark.parametrize("source", ["no_such_org/no_such_data", "nodata"])
def test_hub_name_that_is_not_cached_is_refused_offline(source: str) -> None:
    with pytest.raises(DataNotFound, match="no such file or folder here, and no such hub dataset"):
        load_rows(source)


def test_missing_path_is_not_taken_for_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="does not exist either"):
        load_rows(str(tmp_path / "a" / "b"))


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    table = Dataset.from_list(ROWS)
    DatasetDict(train=table, test=table.select([0])).save_to_disk(tmp_path / "both")
    DatasetDict(validation=table).save_to_disk(tmp_path / "one")
    DatasetDict(a=table, b=table).save_to_disk(tmp_path / "neither")
    assert len(load_rows(str(tmp_path / "both"))) == 5
    assert len(load_rows(str(tmp_path / "both"), split="test")) == 1
    assert len(load_rows(str(tmp_path / "one"))) == 5
    with pytest.raises(UnknownName, match="unknown split 'tset'. Did you mean test"):
        load_rows(str(tmp_path / "both"), split="tset")
    with pytest.raises(UnknownName, match="unknown split 'train'. Known: a, b"):
        load_rows(str(tmp_path / "neither"))


@settings(deadline=None, max_examples=20)
@given(
    keys=st.lists(st.integers(0, 9), min_size=2, max_size=30).filter(lambda keys: len(set(keys)) > 1),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_split_parts_keys_and_ignores_order(keys: list[int], share: float, seed: int, data: st.DataObject) -> None:
    rows = [{"key": key, "row": row} for row, key in enumerate(keys)]
    shuffled = data.draw(st.permutations(rows))
    train, held = split_rows(Dataset.from_list(rows), share, key=["key"], seed=seed)
    assert not set(train["key"]) & set(held["key"])
    assert sorted([*train["row"], *held["row"]]) == list(range(len(rows)))
    assert min(len(train), len(held)) > 0
    assert abs(len(set(held["key"])) - share * len(set(keys))) <= 1
    again = split_rows(Dataset.from_list(shuffled), share, key=["key"], seed=seed)[1]
    assert set(again["row"]) == set(held["row"])


def test_seed_changes_the_split_and_impossible_splits_are_refused() -> None:
    table = Dataset.from_list([{"a": i} for i in range(40)])
    assert split_rows(table, 0.5)[1]["a"] != split_rows(table, 0.5, seed=1)[1]["a"]
    with pytest.raises(OptionError, match="between 0 and 1"):
        split_rows(table, 1.0)
    with pytest.raises(OptionError, match="2 rows with 1 distinct keys cannot be split"):
        split_rows(Dataset.from_list([{"a": 1}, {"a": 1}]), 0.5)


@pytest.mark.real_data
def test_packaged_questions_load_as_rows() -> None:
    assert len(load_rows("packaged:fanoutqa", ["question", "answers"], types={"answers": list})) == 336
