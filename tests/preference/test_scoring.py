"""The verb that scores: official columns, resume without asking twice, reward models only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases.judge_server import Handler
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.cli.main import main
from glassworks.errors import MalformedRecord, NotAModel
from glassworks.foundations.ledger import Ledger
from glassworks.preference.judges import JudgeOptions
from glassworks.preference.scorers import Scores
from glassworks.preference.scoring import prefs_score, score_all

ROWS: list[dict[str, Any]] = [
    {"prompt": "p", "all_generated_responses": ["a", "bb"], "extra": 1},
    {"prompt": [{"role": "user", "content": "q"}], "all_generated_responses": ["cc", "d"]},
]


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def scored(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scored.jsonl").read_text().splitlines()]


def saved(path: Path, task: str, **overrides: Any) -> str:
    tiny_model("llama", task=task, vocab_size=BYTE_VOCABULARY, **overrides).float().save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return str(path)


def test_a_function_scores_and_keeps_other_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "length_reward.py").write_text("def f(prompts, responses):\n    return [len(r) for r in responses]\n")
    monkeypatch.chdir(tmp_path)
    run = prefs_score(written(tmp_path / "r.jsonl", ROWS), "length_reward:f", str(tmp_path / "run"), "function")
    rows = scored(run.path)
    assert [row["all_rm_scores"] for row in rows] == [[1, 2], [2, 1]]
    assert rows[0]["extra"] == 1
    by = {item.metric: item for item in run.evidence}
    assert (by["scored_share"].value, by["scored_share"].n, by["score_gap"].value) == (1, 4, 1)


def test_a_reward_model_scores(tmp_path: Path) -> None:
    model = saved(tmp_path / "rm", "sequence_classification", num_labels=1)
    run = prefs_score(written(tmp_path / "r.jsonl", ROWS), model, str(tmp_path / "run"))
    values = [value for row in scored(run.path) for value in row["all_rm_scores"]]
    assert len(set(values)) == 4
    assert run.evidence[0].model_sha


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    model = saved(tmp_path / "lm", "causal_lm")
    with pytest.raises(NotAModel, match="is a LlamaForCausalLM, not a reward model"):
        prefs_score(written(tmp_path / "r.jsonl", ROWS), model, str(tmp_path / "run"))


def test_a_server_ranks_and_a_template_lets_it_grade(tmp_path: Path, server: str) -> None:
    source = written(tmp_path / "r.jsonl", ROWS)
    ranked = prefs_score(source, server, str(tmp_path / "pairs"), "pairwise")
    # The server likes what is shown second, so both orders cancel out.
    assert scored(ranked.path)[0]["all_rm_scores"] == pytest.approx([0.5, 0.5])
    template = tmp_path / "t.txt"
    template.write_text("{conversation} [[7]]")
    graded = prefs_score(source, server, str(tmp_path / "grades"), "judge", JudgeOptions(template=str(template)))
    assert [row["all_rm_scores"] for row in scored(graded.path)] == [[7, 7], [7, 7]]
    asked = len(Handler.requests)
    prefs_score(source, server, str(tmp_path / "grades"), "judge", JudgeOptions(template=str(template)))
    assert len(Handler.requests) == asked


class Once:
    """Scores by length and counts the prompts it sees."""

    name, seen = "once", 0

    def score(self, prompts: Any, responses: Any) -> Scores:
        self.seen += len(prompts)
        return [[float(len(one)) for one in few] for few in responses]


def test_what_the_ledger_has_is_not_scored_again(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "all_generated_responses": ["a", "b" * n]} for n in range(5)]
    scorer, ledger = Once(), Ledger(tmp_path / "l")
    score_all(scorer, rows[:3], ledger)
    assert score_all(scorer, [*rows, rows[0]], ledger)[4] == [1, 4]
    assert scorer.seen == 5
    score_all(scorer, rows[:1], ledger, fingerprint="another model")
    assert scorer.seen == 6


def test_rows_without_answers_are_named(tmp_path: Path) -> None:
    source = written(tmp_path / "r.jsonl", [ROWS[0], {"prompt": "p", "all_generated_responses": ["a"]}])
    with pytest.raises(MalformedRecord, match=r"r.jsonl, row 2: expected at least two texts"):
        prefs_score(source, "x:y", str(tmp_path / "run"), "function")
    assert not (tmp_path / "run").exists()


def test_three_commands_make_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path / "lm", "causal_lm", max_position_embeddings=80)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"say {n}"}) + "\n" for n in range(6)))
    (tmp_path / "few_es.py").write_text("def f(prompts, responses):\n    return [-len(set(r)) for r in responses]\n")
    monkeypatch.chdir(tmp_path)
    commands = [
        f"prefs sample {model} prompts.jsonl --out a --seeds [1,2,3] --temperature 1.0 --max_new_tokens 6",
        "prefs score a/responses.jsonl few_es:f --kind function --out b",
        "prefs binarize b/scored.jsonl --out c --held_out 0.3 --keep_truncated",
    ]
    for command in commands:
        assert main(command.split()) == 0, command
    train, test = ((tmp_path / "c" / name).read_text().splitlines() for name in ("train.jsonl", "test.jsonl"))
    assert len(train) + len(test) >= 4
    assert test
    for line in train + test:
        pair = json.loads(line)
        assert pair["score_chosen"] > pair["score_rejected"]
    for command in commands:  # the same commands again find everything done
        assert main(command.split()) == 0, command
