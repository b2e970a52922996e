"""Answers drawn from a tiny random model: one start token, seeds that differ, a resume that changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.errors import MalformedRecord, OptionError, PromptTooLong
from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.ledger import Ledger
from glassworks.foundations.runs import is_intact
from glassworks.preference.sampling import (
    CALL_PROMPTS,
    check_room,
    conversation,
    prefs_sample,
    prompt_text,
    read_prompts,
    sample_all,
)

OPTIONS = Sampling(max_new_tokens=3, temperature=1.0)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(tiny_model("llama", vocab_size=BYTE_VOCABULARY, max_position_embeddings=64), byte_tokenizer())


@pytest.fixture(scope="module")
def folder(model: LocalModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model")
    model.model.float().save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    model.model.double()
    return str(path)


def prompts_file(path: Path, prompts: list[object]) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


def test_a_rendered_prompt_has_one_start_token(model: LocalModel) -> None:
    ids = model.encode(conversation("hello"))
    assert ids.count(model.tokenizer.bos_token_id) == 1
    assert ids[0] == model.tokenizer.bos_token_id


def test_prompts_are_distinct_and_in_order(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]
    assert read_prompts(prompts_file(tmp_path / "p.jsonl", ["z", "a", "z"])) == ["z", "a"]
    assert read_prompts(prompts_file(tmp_path / "q.jsonl", [talk])) == [talk]
    assert prompt_text(talk) == "d"
    with pytest.raises(OptionError, match="row 1 has no text"):
        read_prompts(prompts_file(tmp_path / "r.jsonl", [" "]))
    with pytest.raises(MalformedRecord, match="row 1: the last message is the assistant's"):
        read_prompts(prompts_file(tmp_path / "s.jsonl", [talk[:2]]))


def test_a_killed_run_draws_what_the_whole_run_would_have(model: LocalModel, tmp_path: Path) -> None:
    prompts = [conversation(f"{n}") for n in range(CALL_PROMPTS + 3)]
    whole = sample_all(model, prompts, 13, OPTIONS, Ledger(tmp_path / "a"), fingerprint="m")
    ledger = Ledger(tmp_path / "b")
    sample_all(model, prompts, 13, OPTIONS, ledger, fingerprint="m")
    text = (tmp_path / "b").read_text().splitlines(keepends=True)
    (tmp_path / "b").write_text("".join(text[: CALL_PROMPTS + 1]))
    resumed = sample_all(model, prompts, 13, OPTIONS, Ledger(tmp_path / "b"), fingerprint="m")
    assert [one["text"] for one in resumed] == [one["text"] for one in whole]
    other = sample_all(model, prompts, 21, OPTIONS, Ledger(tmp_path / "a"), fingerprint="m")
    assert [one["text"] for one in other] != [one["text"] for one in whole]


def test_the_verb_writes_official_columns(folder: str, tmp_path: Path) -> None:
    source = prompts_file(tmp_path / "p.jsonl", ["one", "two", "three"])
    run = prefs_sample(folder, source, str(tmp_path / "run"), seeds=(1, 2), temperature=1.0, max_new_tokens=4, limit=2)
    rows = [json.loads(line) for line in (run.path / "responses.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["one", "two"]
    assert {len(row["all_generated_responses"]) for row in rows} == {2}
    assert rows[0]["all_seeds"] == [1, 2]
    assert {reason for row in rows for reason in row["all_finish_reasons"]} <= {"stop", "length"}
    by = {item.metric: item for item in run.evidence}
    assert by["truncated_share"].n == 4
    assert is_intact(run.path)
    before = (run.path / "generations.jsonl").read_bytes()
    prefs_sample(folder, source, str(tmp_path / "run"), seeds=(1, 2), temperature=1.0, max_new_tokens=4, limit=2)
    assert (run.path / "generations.jsonl").read_bytes() == before


def test_refusals(folder: str, model: LocalModel, tmp_path: Path) -> None:
    source = prompts_file(tmp_path / "p.jsonl", ["one"])
    for options, words in (
        ({"seeds": (1, 1)}, "seeds: expected distinct"),
        ({"temperature": 0.0}, "temperature: 0 gives the same answer"),
        ({"limit": 0}, "limit: expected at least 1"),
        ({"top_p": 0.0}, "top_p"),
    ):
        with pytest.raises(OptionError, match=words):
            prefs_sample(folder, source, str(tmp_path / "run"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    with pytest.raises(PromptTooLong, match="prompt 1"):
        check_room(model, [conversation("a"), conversation("b" * 80)])
