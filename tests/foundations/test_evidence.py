"""Evidence lines: what is written is read back; broken lines are named by file and line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.foundations.evidence import Evidence, read_evidence

SAMPLE = Evidence("retrieval", "Gold passage in the top 10", "recall@10", 0.884, interval=(0.79, 0.94), n=69)


@given(
    st.builds(
        Evidence,
        system=st.text(),
        claim=st.text(),
        metric=st.text(),
        value=st.floats(allow_nan=False, allow_infinity=False),
        n=st.none() | st.integers(0),
        interval=st.none() | st.just((0.0, 1.0)),
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, item: Evidence) -> None:
    file = tmp_path_factory.mktemp("evidence") / "evidence.jsonl"
    file.write_text(item.to_json() + "\n", encoding="utf-8")
    assert read_evidence(file) == [item]


def test_a_folder_is_searched_in_path_order(tmp_path: Path) -> None:
    for name, value in (("b", 2.0), ("a", 1.0)):
        (tmp_path / name).mkdir()
        line = Evidence("s", "c", "m", value).to_json()
        (tmp_path / name / "evidence.jsonl").write_text(line + "\n")
    assert [item.value for item in read_evidence(tmp_path)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"system": "s"}', "not a complete evidence record"),
        ('{"sytem": "s"}', "unknown evidence field 'sytem'"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": NaN}', "only finite figures count"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": 1, "interval": [2, 1]}', "reversed"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": 1, "interval": [0, 1, 2]}', "not two finite numbers"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": 1, "interval": ["0", "1"]}', "not two finite numbers"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": 1, "n": "12"}', "not a whole number"),
        ('{"system": "s", "claim": "c", "metric": "m", "value": 1, "baseline": "x"}', "only finite"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "evidence.jsonl"
    file.write_text(SAMPLE.to_json() + "\n" + line + "\n")
    with pytest.raises(MalformedRecord, match=rf"evidence\.jsonl:2: .*{message}"):
        read_evidence(file)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such file or folder"):
        read_evidence(tmp_path / "gone")


def test_key_names_what_was_measured_not_what_came_out() -> None:
    other = Evidence(SAMPLE.system, SAMPLE.claim, SAMPLE.metric, 0.5)
    assert other.key == SAMPLE.key
    assert Evidence(SAMPLE.system, SAMPLE.claim, "recall@5", 0.5).key != SAMPLE.key
