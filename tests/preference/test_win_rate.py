"""The three win-rate verbs on recorded annotations and on a judge that replays: figures, files, refusals, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases.win_rate_oracles import DIFFICULTY, GAMES, LENGTH_1, LENGTH_2, P

from glassworks.cli.main import main
from glassworks.errors import MalformedRecord, OptionError
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.runs import Run, is_intact
from glassworks.preference.judges import JudgeOptions
from glassworks.preference.win_rate import ArenaScoring, winrate_alpaca, winrate_arena, winrate_mt_bench


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def metrics(run: Run) -> dict[str, Evidence]:
    return {item.metric: item for item in run.evidence}


def annotations(path: Path) -> str:
    rows = [
        {"instruction": f"i{n}", "output_1": "a" * int(one), "output_2": "b" * int(two), "generator_1": "base",
         "generator_2": "mine", "annotator": "gpt", "preference": float(1 + p), "index": n}
        for n, (one, two, p) in enumerate(zip(LENGTH_1, LENGTH_2, P, strict=True))
    ]  # fmt: skip
    return lines(path, rows)


def test_recorded_annotations_give_the_oracle(tmp_path: Path) -> None:
    table = "index,instruction_difficulty\n" + "\n".join(f"{n},{d}" for n, d in enumerate(DIFFICULTY))
    (tmp_path / "d.csv").write_text(table)
    run = winrate_alpaca(
        annotations(tmp_path / "a.jsonl"),
        str(tmp_path / "run"),
        length_control="mle",
        difficulty=str(tmp_path / "d.csv"),
    )
    found = metrics(run)
    assert found["win_rate"].value == pytest.approx(58.75)
    assert found["length_controlled_win_rate"].value == pytest.approx(42.9055, abs=1e-4)
    assert {item.n for item in found.values()} == {12}
    assert all(item.interval and item.interval[0] <= item.value <= item.interval[1] for item in found.values())
    assert (run.path / "figures" / "win_rate.svg").exists()
    assert is_intact(run.path)
    assert len((run.path / "samples.jsonl").read_text().splitlines()) == 12


def test_outputs_are_judged_by_a_server_and_by_its_record(tmp_path: Path, server: str) -> None:
    ours, theirs = (
        lines(tmp_path / f"{name}.json", [
            {"instruction": f"i{n}", "output": f"{name} {n}", "generator": name} for n in range(12)
        ])
        for name in ("mine", "base")
    )  # fmt: skip
    run = winrate_alpaca(ours, str(tmp_path / "run"), theirs, JudgeOptions(server))
    rows = json.loads((run.path / "annotations.json").read_text())
    # The server prefers what is shown second by 3 to 1, whoever wrote it.
    assert [row["preference"] for row in rows] == pytest.approx(
        [1.25 if r["is_switched_outputs"] else 1.75 for r in rows]
    )
    again = winrate_alpaca(
        ours, str(tmp_path / "again"), theirs, JudgeOptions(f"recorded:{run.path / 'judgments.jsonl'}")
    )
    assert metrics(again)["win_rate"].value == metrics(run)["win_rate"].value
    offline = winrate_alpaca(str(run.path / "annotations.json"), str(tmp_path / "offline"))
    assert metrics(offline)["win_rate"].value == pytest.approx(metrics(run)["win_rate"].value)


def test_outputs_without_baseline_or_judge_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    source = lines(tmp_path / "mine.json", [{"instruction": "i", "output": "o"}])
    with pytest.raises(OptionError, match="baseline: these outputs are not judged yet"):
        winrate_alpaca(source, str(tmp_path / "run"))
    with pytest.raises(OptionError, match=r"judge.model: outputs need a judge"):
        winrate_alpaca(source, str(tmp_path / "run"), source)
    with pytest.raises(OptionError, match="needs the difficulty"):
        winrate_alpaca(annotations(tmp_path / "a"), str(tmp_path / "run"), length_control="v1")
    assert not (tmp_path / "run").exists()


def judgments(path: Path, model: str = "mine") -> str:
    rows = [
        {"question_id": str(n), "model": model, "judge": "gpt", "games": [{"score": one}, {"score": two}]}
        for n, (one, two) in enumerate(GAMES)
    ]
    return lines(path, rows)


@pytest.mark.parametrize(("version", "rate", "games"), [("v0.1", 10 / 19, 11), ("v2.0", 0.5, 10)])
def test_arena_judgments_are_scored(tmp_path: Path, version: Any, rate: float, games: int) -> None:
    run = winrate_arena(judgments(tmp_path / "j.jsonl"), str(tmp_path / "run"), scoring=ArenaScoring(version))
    found = metrics(run)
    assert found["arena_win_rate"].value == pytest.approx(100 * rate)
    assert found["arena_win_rate"].n == games
    assert found["arena_rating"].value == pytest.approx(1000 + 400 * np.log10(rate / (1 - rate)))
    assert ("95%" in found["arena_win_rate"].setting) == (version == "v0.1")


def test_arena_style_control_reads_the_answers(tmp_path: Path) -> None:
    def answers(name: str, words: int) -> str:
        rows = [
            {"question_id": str(n), "model_id": name, "choices": [{"turns": ["word " * (words + n % 3 * words)]}]}
            for n in range(6)
        ]
        return lines(tmp_path / f"{name}.jsonl", rows)

    run = winrate_arena(
        judgments(tmp_path / "j.jsonl"), str(tmp_path / "run"), baseline=answers("base", 5),
        scoring=ArenaScoring(style=("length",)), answers=(answers("mine", 9),),
    )  # fmt: skip
    assert {"style_controlled_arena_win_rate", "arena_win_rate"} <= set(metrics(run))
    assert "style_weight_length" in (run.path / "metrics.jsonl").read_text()
    with pytest.raises(OptionError, match="baseline: style control reads"):
        winrate_arena(judgments(tmp_path / "j.jsonl"), str(tmp_path / "n"), scoring=ArenaScoring(style=("length",)))
    with pytest.raises(MalformedRecord, match="no answer of other to question 0"):
        winrate_arena(
            judgments(tmp_path / "k.jsonl", "other"), str(tmp_path / "o"), baseline=answers("base", 5),
            scoring=ArenaScoring(style=("length",)), answers=(answers("mine", 9),),
        )  # fmt: skip


def test_arena_answers_are_judged(tmp_path: Path, server: str) -> None:
    rows = [{"uid": "u", "model": "mine", "messages": [{"role": "assistant", "content": "[[B>A]] x"}]}]
    source = lines(tmp_path / "a.jsonl", rows)
    base = lines(
        tmp_path / "b.jsonl", [{**rows[0], "model": "base", "messages": [{"role": "assistant", "content": "y"}]}]
    )
    questions = lines(tmp_path / "q.jsonl", [{"uid": "u", "prompt": "[[A>>B]] why?", "category": "hard"}])
    with pytest.raises(OptionError, match="questions: answers are judged"):
        winrate_arena(source, str(tmp_path / "run"), base, judge=JudgeOptions(server))
    template = tmp_path / "t.txt"
    template.write_text("{question} {answer_a}")  # game 1 shows [[A>>B]] alone; game 2 two different verdicts
    run = winrate_arena(
        source, str(tmp_path / "run"), base, questions, JudgeOptions(server, str(template)), ArenaScoring("v0.1")
    )
    judged = json.loads((run.path / "judgment.jsonl").read_text())
    assert [game["score"] for game in judged["games"]] == ["A>>B", None]
    assert metrics(run)["arena_win_rate"].value == 0
    assert "arena_rating" not in metrics(run)


def test_mt_bench_grades_by_turn_and_category(tmp_path: Path) -> None:
    rows = [
        {"question_id": q, "model": "mine", "judge": ["gpt", "single"], "turn": t, "score": s}
        for q, t, s in ((81, 1, 8), (81, 2, 6), (82, 1, 10), (82, 2, -1))
    ]
    questions = [{"question_id": q, "category": c, "turns": ["a", "b"]} for q, c in ((81, "writing"), (82, "math"))]
    run = winrate_mt_bench(lines(tmp_path / "j", rows), str(tmp_path / "run"), lines(tmp_path / "q", questions))
    values = {name: (item.value, item.n) for name, item in metrics(run).items()}
    assert values == {
        "mt_bench_grade": (8, 3), "mt_bench_grade_turn_1": (9, 2), "mt_bench_grade_turn_2": (6, 1),
        "mt_bench_grade_writing": (7, 2), "mt_bench_grade_math": (10, 1),
    }  # fmt: skip


def test_mt_bench_answers_are_graded(tmp_path: Path, server: str) -> None:
    answers = [{"question_id": 81, "model_id": "mine", "choices": [{"turns": ["[[7]]", "x"]}]}]
    questions = [{"question_id": 81, "category": "writing", "turns": ["a", "b"]}]
    template = tmp_path / "t.txt"
    template.write_text("{conversation}")
    run = winrate_mt_bench(
        lines(tmp_path / "a", answers), str(tmp_path / "run"), lines(tmp_path / "q", questions),
        judge=JudgeOptions(server, str(template)),
    )  # fmt: skip
    assert metrics(run)["mt_bench_grade"].value == 7
    with pytest.raises(MalformedRecord, match="question 81 has 1 turns, but 2 answers"):
        winrate_mt_bench(
            lines(tmp_path / "a", answers), str(tmp_path / "bad"),
            lines(tmp_path / "q", [{**questions[0], "turns": ["a"]}]), judge=JudgeOptions(server),
        )  # fmt: skip


def test_the_command_line_takes_every_group_of_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = [{"question_id": str(n), "choices": [{"turns": ["word " * (n + 2)]}], "model_id": "base"} for n in range(6)]
    mine = [{**row, "model_id": "mine", "choices": [{"turns": ["# word " * (9 - n)]}]} for n, row in enumerate(base)]
    command = (
        f"winrate arena {judgments(tmp_path / 'j.jsonl')} --baseline {lines(tmp_path / 'b.jsonl', base)} "
        f"--answers [{lines(tmp_path / 'a.jsonl', mine)}] --scoring.version v0.1 --scoring.style [length,header] "
        f"--scoring.resample prompts --out {tmp_path / 'run'}"
    )
    assert main(command.split()) == 0
    said = capsys.readouterr().out
    assert "Games that mine wins against the baseline at equal style" in said
    assert "n = 11" in said
    assert main(["winrate", "arena", "--config", str(tmp_path / "run" / "config.yaml")]) == 0
    assert main(["winrate", "alpaca", str(tmp_path / "none.json"), "--out", str(tmp_path / "no")]) == 2
