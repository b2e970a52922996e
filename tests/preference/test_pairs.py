"""Pairs: four schemas to the same tokens, rules of header, truncation and merges, and every fault by its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases.tokenizers import chat_tokenizer

from glassworks.errors import InvalidPair, MalformedRecord, OptionError
from glassworks.foundations.chat import TurnTokens
from glassworks.preference.pairs import (
    PairFormat,
    Preparation,
    pair_of,
    read_pairs,
    shared_prompt,
    tokenize_pairs,
)

USER = {"role": "user", "content": "What is the capital of France?"}
GOOD = {"role": "assistant", "content": "Paris."}
BAD = {"role": "assistant", "content": "I think it may be in France, thank you."}

SCHEMAS: dict[str, dict[str, Any]] = {
    "ultrafeedback": {"prompt": USER["content"], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "one turn": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "no prompt": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "on-policy": {
        "prompt": USER["content"],
        "all_generated_responses": [GOOD["content"], BAD["content"]],
        "all_rm_scores": [1.0, 0.5],
        "chosen": GOOD["content"],
        "rejected": BAD["content"],
    },
}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_schema_gives_the_same_pair(schema: str) -> None:
    pair = pair_of(SCHEMAS[schema], "row 1")
    assert pair == ([USER], GOOD["content"], BAD["content"], "row 1")


def test_templated_texts_are_taken_as_they_are() -> None:
    tokenizer = chat_tokenizer("llama3")
    text = tokenizer.apply_chat_template([USER], tokenize=False, add_generation_prompt=True)
    row = {"prompt": text, "chosen": "Paris.<|eot_id|>", "rejected": "Good.<|eot_id|>"}
    plain, _ = tokenize_pairs([pair_of(row, "row 1")], tokenizer, PairFormat())
    rendered, _ = tokenize_pairs([pair_of(SCHEMAS["one turn"], "row 1")], tokenizer, PairFormat())
    assert plain[0].prompt_ids == rendered[0].prompt_ids
    assert plain[0].chosen_ids == rendered[0].chosen_ids
    assert plain[0].prompt_ids.count(tokenizer.bos_token_id) == 1


def test_the_header_counts_as_response_on_request() -> None:
    tokenizer = chat_tokenizer("llama3")
    pair = pair_of(SCHEMAS["one turn"], "row 1")
    outside = tokenize_pairs([pair], tokenizer, PairFormat())[0][0]
    inside = tokenize_pairs([pair], tokenizer, PairFormat(header_in_response=True))[0][0]
    assert len(inside.chosen_ids) == len(outside.chosen_ids) + 4
    assert [*inside.prompt_ids, *inside.chosen_ids] == [*outside.prompt_ids, *outside.chosen_ids]


@pytest.mark.parametrize("family", ["chatml", "llama3", "gemma", "zephyr", "mistral"])
def test_responses_end_with_the_end_token_for_every_template(family: str) -> None:
    tokenizer = chat_tokenizer(family)
    pair = tokenize_pairs([pair_of(SCHEMAS["one turn"], "row 1")], tokenizer, PairFormat())[0][0]
    assert pair.chosen_ids[-1] == pair.rejected_ids[-1] == tokenizer.eos_token_id
    assert pair.chosen_ids != pair.rejected_ids


def test_a_merge_on_one_side_only_moves_the_token_on_both() -> None:
    first, second = TurnTokens([1, 2, 3], [7]), TurnTokens([1, 2], [9, 8])
    assert shared_prompt(first, second) == ([1, 2], [3, 7], [9, 8])


def test_truncation_is_counted_and_keeps_the_start_token() -> None:
    tokenizer = chat_tokenizer("llama3")
    pair = pair_of(SCHEMAS["one turn"], "row 1")
    whole = tokenize_pairs([pair], tokenizer, PairFormat())[0][0]
    length = len(whole.rejected_ids) + 6
    kept, report = tokenize_pairs([pair], tokenizer, PairFormat(max_length=length, max_prompt_length=6))
    assert (report.prompts_cut, report.responses_cut) == (1, 0)
    assert kept[0].prompt_ids == [tokenizer.bos_token_id, *whole.prompt_ids[-5:]]
    short, report = tokenize_pairs([pair], tokenizer, PairFormat(max_length=12, max_prompt_length=6))
    assert report.responses_cut == 1
    assert len(short[0].rejected_ids) == 6
    assert short[0].rejected_ids[-1] != tokenizer.eos_token_id
    assert short[0].chosen_ids == whole.chosen_ids


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [GOOD]}, "the same"),
        ({"prompt": [USER], "chosen": [{**GOOD, "content": "  "}], "rejected": [BAD]}, "chosen response is empty"),
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "Why?"}, BAD]}, "prompts of chosen and rejected"),
        ({"prompt": "Why?", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "'prompt' is not among"),
    ],
)
def test_rows_that_are_no_preference_are_refused_or_counted(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [{**SCHEMAS["no prompt"], "prompt": None}, {"prompt": None, **row}])
    with pytest.raises(InvalidPair, match=f"row 2.*{says}"):
        read_pairs(source)
    pairs, report = read_pairs(source, on_invalid="drop")
    assert len(pairs) == 1
    assert sum(report.dropped.values()) == 1
    assert says.strip("'") in report.sentence()


def test_a_conversation_that_does_not_end_with_the_assistant_names_its_row(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [{"chosen": [USER], "rejected": [USER, BAD]}])
    with pytest.raises(MalformedRecord, match="row 1, chosen: .*user"):
        read_pairs(source)


def test_a_missing_column_names_the_line(tmp_path: Path) -> None:
    source = write(tmp_path / "pairs.jsonl", [SCHEMAS["no prompt"], {"chosen": [USER, GOOD]}])
    with pytest.raises(MalformedRecord, match="pairs.jsonl:2"):
        read_pairs(source)


def test_responses_that_are_cut_to_the_same_are_not_trained_on() -> None:
    row = {"prompt": [USER], "chosen": [{**GOOD, "content": "Good. Good. Bad."}], "rejected": [BAD]}
    row["rejected"] = [{**BAD, "content": "Good. Good. Good."}]
    pair = pair_of(row, "row 3")
    whole = tokenize_pairs([pair], chat_tokenizer("zephyr"), PairFormat())[0][0]
    common = next(i for i, (a, b) in enumerate(zip(whole.chosen_ids, whole.rejected_ids, strict=False)) if a != b)
    form = PairFormat(max_length=3 + common, max_prompt_length=3)
    with pytest.raises(InvalidPair, match="row 3: .*same after truncation"):
        tokenize_pairs([pair], chat_tokenizer("zephyr"), form)


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(OptionError, match="max_prompt_length"):
        tokenize_pairs([], chat_tokenizer("zephyr"), PairFormat(max_length=10, max_prompt_length=10))


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InvalidPair, match="no pair is left"):
        tokenize_pairs([], chat_tokenizer("zephyr"), PairFormat(), Preparation())
