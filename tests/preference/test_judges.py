"""Judges: a tiny local model, a real HTTP server on this machine, and recorded judgments, behind one protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.judge_server import Handler
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.ledger import Ledger
from glassworks.preference.judges import (
    JudgeOptions,
    ModelJudge,
    RecordedJudge,
    fill_template,
    label_probability,
    open_judge,
    read_template,
)

PROMPTS = [[{"role": "user", "content": f"judge {n}"}] for n in (1, 2, 1)]


def test_a_server_judges_each_prompt_once_and_its_record_judges_again(server: str, tmp_path: Path) -> None:
    ledger = tmp_path / "judgments.jsonl"
    judge = open_judge(JudgeOptions(server), ledger)
    texts = judge.write(PROMPTS, Sampling(max_new_tokens=9))
    assert texts == ["verdict on: judge 1", "verdict on: judge 2", "verdict on: judge 1"]
    assert len(Handler.requests) == 2
    again = open_judge(JudgeOptions(server), ledger)
    assert again.write(PROMPTS, Sampling(max_new_tokens=9)) == texts
    assert len(Handler.requests) == 2
    top = again.top_tokens(PROMPTS[:1])[0]
    assert label_probability(top, "m", "M") == pytest.approx(0.75)
    recorded = open_judge(JudgeOptions(f"recorded:{ledger}"), tmp_path / "other.jsonl")
    assert recorded.write(PROMPTS, Sampling()) == texts
    assert recorded.top_tokens(PROMPTS[:1]) == [top]
    assert not (tmp_path / "other.jsonl").exists()
    with pytest.raises(DataNotFound, match="holds no judgment of prompt 0"):
        RecordedJudge(str(ledger)).write([[{"role": "user", "content": "other"}]], Sampling())


@pytest.mark.parametrize("chat", [True, False])
def test_a_local_model_judges(tmp_path: Path, chat: bool) -> None:
    model = LocalModel(
        tiny_model("llama", vocab_size=BYTE_VOCABULARY, max_position_embeddings=200), byte_tokenizer(chat=chat)
    )
    judge = ModelJudge(model, Ledger(tmp_path / "ledger.jsonl"))
    assert (
        judge.write(PROMPTS, Sampling(max_new_tokens=3))[0] == judge.write(PROMPTS[:1], Sampling(max_new_tokens=3))[0]
    )
    asked = PROMPTS[0] if chat else "judge 1\n"
    assert judge.top_tokens(PROMPTS[:1])[0] == pytest.approx(model.top_next_tokens([asked], 5)[0])


def test_label_probability() -> None:
    assert label_probability({"m": -1.0, "x": -2.0}, "m", "M") == 0.0
    assert label_probability({"M": -1.0}, "m", "M") == 1.0
    assert label_probability({"x": -0.1}, "m", "M") is None


def test_templates_keep_other_braces_and_values_with_braces(tmp_path: Path) -> None:
    text = '<|im_start|>system\nBe fair.<|im_end|>\n<|im_start|>user\n{{"a": {output_1}}} {other}<|im_end|>'
    filled = fill_template(text, {"output_1": "{output_2}", "output_2": "no"})
    assert filled == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": '{{"a": {output_2}}} {other}'},
    ]
    assert fill_template("plain {x}", {"x": "y"}) == [{"role": "user", "content": "plain y"}]
    file = tmp_path / "judge.txt"
    file.write_text("only {instruction}")
    assert read_template(None, "default", ("a",)) == "default"
    with pytest.raises(OptionError, match="no place for {output_1}"):
        read_template(str(file), "", ("instruction", "output_1"))


def test_no_judge() -> None:
    with pytest.raises(OptionError, match="judge.model: outputs need a judge"):
        open_judge(JudgeOptions(), Path("x"))
