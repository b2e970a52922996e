"""Reference sums: equal to full logits, computed once, completed by row, and refused where they are another's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases.preference_pairs import padded_log_probs, token_pairs
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer

from glassworks.errors import RunMismatch
from glassworks.preference.pairs import PairFormat
from glassworks.preference.reference import ReferenceKey, read_sums, reference_key, reference_sums, with_reference
from glassworks.preference.trainer import mismatched_pairs

KEY = ReferenceKey("model", "tokenizer", "template", "pairs")


def test_sums_are_those_of_full_logits() -> None:
    model, pairs = tiny_model("llama"), token_pairs(5)
    others = mismatched_pairs(pairs)
    sums = reference_sums(pairs, others, model)
    swapped = [pair._replace(chosen_ids=other) for pair, other in zip(pairs, others, strict=True)]
    expected = [
        padded_log_probs(model, pairs, 1),
        padded_log_probs(model, pairs, 2),
        padded_log_probs(model, swapped, 1),
    ]
    torch.testing.assert_close(sums, torch.stack(expected, 1).float(), rtol=1e-5, atol=1e-5)
    assert others[-1] == pairs[0].chosen_ids


def test_a_second_call_reads_and_a_new_row_is_added(tmp_path: Path) -> None:
    cache, pairs = tmp_path / "sums.safetensors", token_pairs(6)
    first = with_reference(pairs[:4], tiny_model("llama"), KEY, cache)
    other = tiny_model("llama", seed=9)  # would give other sums: what is there must not be computed again
    again = with_reference(pairs, other, KEY, cache)
    assert [e.reference_chosen for e in again[:4]] == [e.reference_chosen for e in first]
    fresh = with_reference(pairs[4:], other, KEY, tmp_path / "other.safetensors")
    assert again[5].reference_rejected == pytest.approx(fresh[1].reference_rejected, rel=1e-5)
    assert len(read_sums(cache, KEY)) == 6


@pytest.mark.parametrize("part", ["model", "tokenizer", "template", "pairs"])
def test_sums_of_another_key_are_refused(part: str, tmp_path: Path) -> None:
    cache, pairs = tmp_path / "sums.safetensors", token_pairs(2)
    with_reference(pairs, tiny_model("llama"), KEY, cache)
    with pytest.raises(RunMismatch, match=f"another {part}"):
        with_reference(pairs, tiny_model("llama"), replace(KEY, **{part: "changed"}), cache)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sums.safetensors").write_text("no tensors")
    with pytest.raises(RunMismatch, match="no file of reference"):
        read_sums(tmp_path / "sums.safetensors", KEY)


def test_the_key_follows_template_and_format() -> None:
    tokenizer = chat_tokenizer("zephyr")
    key = reference_key("sha", tokenizer, PairFormat())
    assert key == reference_key("sha", chat_tokenizer("zephyr"), PairFormat())
    assert key.pairs != reference_key("sha", tokenizer, PairFormat(max_length=99, max_prompt_length=9)).pairs
    tokenizer.chat_template = tokenizer.chat_template + " "
    assert key.template != reference_key("sha", tokenizer, PairFormat()).template
