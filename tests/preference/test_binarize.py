"""Pairs of scored answers: never a tie, never equal texts, the gap kept, the split by prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.preference.binarize import Pair, Strategy, choose_pairs, prefs_binarize, split_by_prompt
from glassworks.preference.pairs import read_pairs

ANSWERS = ["a", "b", "c", "d", "a"]


def test_strategies_by_hand() -> None:
    scores = [3.0, 1.0, 2.0, None, 0.0]
    everyone = [0, 1, 2, 3]
    assert choose_pairs(ANSWERS, scores, everyone) == [Pair(0, 1)]
    assert choose_pairs(ANSWERS, scores, everyone, min_gap=2.5) == []
    assert choose_pairs(ANSWERS, scores, everyone, strategy="all") == [Pair(0, 2), Pair(0, 1), Pair(2, 1)]
    assert choose_pairs(ANSWERS, scores, everyone, strategy="all", min_gap=2) == [Pair(0, 1)]
    drawn = {choose_pairs(ANSWERS, scores, everyone, strategy="best-random", seed=n)[0] for n in range(20)}
    assert drawn == {Pair(0, 1), Pair(0, 2)}
    assert choose_pairs(ANSWERS, scores, [0, 4]) == []  # equal texts
    assert choose_pairs(ANSWERS, [1.0] * 5, range(5)) == []  # the official argmax = argmin = 0


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 4).map(float)), min_size=5, max_size=5),
    st.sampled_from(["best-worst", "best-random", "all"]),
    st.floats(0, 3),
)
def test_a_pair_is_never_a_tie(scores: list[float | None], strategy: Strategy, gap: float) -> None:
    for chosen, rejected in choose_pairs(ANSWERS, scores, range(5), strategy=strategy, min_gap=gap):
        better, worse = scores[chosen], scores[rejected]
        assert better is not None
        assert worse is not None
        assert better > worse
        assert better - worse >= gap
        assert ANSWERS[chosen] != ANSWERS[rejected]


def row(prompt: Any, scores: list[float | None], **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "all_generated_responses": ANSWERS[: len(scores)], "all_rm_scores": scores, **more}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_verb_writes_both_files_with_official_columns(tmp_path: Path) -> None:
    rows = [row(f"p{n}", [2.0, 1.0, 3.0]) for n in range(20)]
    rows += [row("tie", [1.0, 1.0]), row("none", [None, 1.0])]
    source = written(tmp_path / "s.jsonl", rows)
    before = Path(source).read_bytes()
    run = prefs_binarize(source, str(tmp_path / "run"), held_out=0.2)
    train, test = read(run.path / "train.jsonl"), read(run.path / "test.jsonl")
    assert (len(train), len(test)) == (16, 4)
    assert Path(source).read_bytes() == before
    first = train[0]
    assert list(first)[:5] == ["prompt", "all_generated_responses", "all_rm_scores", "chosen", "rejected"]
    assert first["chosen"] == [
        {"role": "user", "content": first["prompt"]}, {"role": "assistant", "content": "c"},
    ]  # fmt: skip
    assert first["rejected"][-1]["content"] == "b"
    by = {item.metric: item for item in run.evidence}
    assert (by["pairs"].value, by["pairs"].n, by["pair_gap"].value) == (20, 22, 2)
    assert "2 no pair" in by["pairs"].setting
    assert (run.path / "figures" / "scores.svg").exists()


def test_truncated_and_empty_answers_are_dropped_unless_kept(tmp_path: Path) -> None:
    rows = [row("p", [2.0, 1.0, 3.0], all_finish_reasons=["stop", "stop", "length"])]
    source = written(tmp_path / "s.jsonl", rows)
    kept = prefs_binarize(source, str(tmp_path / "a"), keep_truncated=True)
    assert read(kept.path / "train.jsonl")[0]["chosen"][-1]["content"] == "c"
    dropped = prefs_binarize(source, str(tmp_path / "b"))
    assert read(dropped.path / "train.jsonl")[0]["chosen"][-1]["content"] == "a"
    assert "1 truncated answers" in dropped.evidence[0].setting
    empty = [{"prompt": "p", "all_generated_responses": ["", "b"], "all_rm_scores": [2.0, 1.0]}]
    with pytest.raises(DataNotFound, match="no pair can be made"):
        prefs_binarize(written(tmp_path / "e.jsonl", empty), str(tmp_path / "c"))


def test_all_pairs_of_a_prompt_are_on_one_side_whatever_the_order() -> None:
    rows = [{"prompt": f"p{n // 3}", "n": n} for n in range(60)]
    train, test = split_by_prompt(rows, 0.3, 0)
    assert not {one["prompt"] for one in train} & {one["prompt"] for one in test}
    assert len({one["prompt"] for one in test}) == 6
    _, turned = split_by_prompt(rows[::-1], 0.3, 0)
    assert {one["n"] for one in turned} == {one["n"] for one in test}
    assert split_by_prompt(rows, 0, 0) == (rows, [])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("p", [1.0, 2.0]) | {"all_rm_scores": [1.0]}], "s.jsonl, row 1: 2 answers have 1 scores"),
        ([row("p", [1.0, "x"])], "a score is neither"),  # type: ignore[list-item]
        ([{"prompt": "p", "all_generated_responses": ["a"]}], "field 'all_rm_scores' is missing"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(MalformedRecord, match=words):
        prefs_binarize(written(tmp_path / "s.jsonl", rows), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_wrong_options(tmp_path: Path) -> None:
    source = written(tmp_path / "s.jsonl", [row("p", [1.0, 2.0])])
    with pytest.raises(OptionError, match="held_out: 1.0 is out of range"):
        prefs_binarize(source, str(tmp_path / "run"), held_out=1.0)
    with pytest.raises(OptionError, match="min_gap: -1"):
        prefs_binarize(source, str(tmp_path / "run"), min_gap=-1)


@pytest.mark.parametrize("prompt", ["why?", [{"role": "system", "content": "s"}, {"role": "user", "content": "why?"}]])
def test_training_reads_the_pairs(tmp_path: Path, prompt: Any) -> None:
    run = prefs_binarize(written(tmp_path / "s.jsonl", [row(prompt, [2.0, 1.0])]), str(tmp_path / "run"), held_out=0)
    (pair,), _ = read_pairs(str(run.path / "train.jsonl"))
    turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    assert (pair.prompt, pair.chosen, pair.rejected) == (turns, "a", "b")
