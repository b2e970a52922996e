"""Means under padding and batching, their file, and refusal of another model's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases.tiny_models import random_tokens, tiny_model

from glassworks.circuits.unit_means import collect_means, load_means, save_means, weights_sha, zero_means
from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.parts import Anatomy

LENGTHS = (5, 9, 3, 7)


@pytest.fixture(scope="module", params=["bert_classifier", "llama"])
def parts(request: pytest.FixtureRequest) -> Anatomy:
    return anatomy(tiny_model(request.param), check=False)


def padded(extra: int = 0) -> dict[str, torch.Tensor]:
    ids = random_tokens(4, 9 + extra)
    mask = torch.tensor([[1] * n + [0] * (9 + extra - n) for n in LENGTHS])
    return {"input_ids": ids[:, : 9 + extra] * mask, "attention_mask": mask}


def alone() -> list[dict[str, torch.Tensor]]:
    ids = padded()["input_ids"]
    return [{"input_ids": row[None, :n], "attention_mask": torch.ones(1, n).long()}
            for row, n in zip(ids, LENGTHS, strict=True)]  # fmt: skip


def test_padding_and_batch_size_do_not_move_the_means(parts: Anatomy) -> None:
    together, apart = collect_means(parts, [padded()]), collect_means(parts, alone())
    torch.testing.assert_close(together.heads, apart.heads, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.mlps, apart.mlps, atol=1e-6, rtol=0)
    assert together.tokens == apart.tokens == sum(LENGTHS)
    wider = {name: torch.cat([value, value.new_zeros(4, 6)], 1) for name, value in padded().items()}
    torch.testing.assert_close(collect_means(parts, [wider]).heads, together.heads, atol=1e-6, rtol=0)


def test_they_are_the_means_of_what_the_heads_wrote(parts: Anatomy) -> None:
    seen = []
    handle = parts.attention_output(1).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ids = random_tokens(3, 6)
    with torch.no_grad():
        parts.model(ids)
    handle.remove()
    means = collect_means(parts, [{"input_ids": ids}])
    torch.testing.assert_close(means.heads[1].flatten(), seen[0].flatten(0, 1).mean(0))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in parts.model.modules())


def test_file_round_trip_and_fingerprints(parts: Anatomy, tmp_path: Path) -> None:
    means = collect_means(parts, [padded()], data_sha="abc")
    save_means(tmp_path / "means.safetensors", means)
    again = load_means(tmp_path / "means.safetensors")
    assert torch.equal(again.heads, means.heads)
    assert torch.equal(again.mlps, means.mlps)
    assert (again.tokens, again.model_sha, again.data_sha) == (24, weights_sha(parts.model), "abc")
    again.check(parts)


def test_means_of_another_model_are_refused(parts: Anatomy, tmp_path: Path) -> None:
    means = collect_means(parts, [padded()])
    with pytest.raises(OptionError, match="the means were taken with weights 0000"):
        replace(means, model_sha="0000").check(parts)
    with pytest.raises(OptionError, match="means have shapes"):
        replace(means, heads=means.heads[:2]).check(parts)
    with pytest.raises(OptionError, match="no example"):
        collect_means(parts, [])
    with pytest.raises(DataNotFound):
        load_means(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(MalformedRecord, match="no file of means"):
        load_means(tmp_path / "bad.safetensors")


def test_zero_means_are_zero_and_fit(parts: Anatomy) -> None:
    means = zero_means(parts.model, parts)
    means.check(parts)
    assert not means.heads.any()
    assert not means.mlps.any()
