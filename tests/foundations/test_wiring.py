"""A block's wiring is told from its tensors alone, in every form and order, or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from glassworks.foundations.dataflow import Call, Unexplained
from glassworks.foundations.wiring import BlockTensors, Wiring, wire

_FIRST, _SECOND = nn.LayerNorm(8, dtype=torch.float64), nn.LayerNorm(8, dtype=torch.float64)
for _norm in (_FIRST, _SECOND):
    nn.init.normal_(_norm.weight)


def random(seed: int) -> Tensor:
    """A random tensor [2, 6, 8]."""
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def called(norm: nn.Module, x: Tensor) -> Call:
    """The call of `norm` on x [2, 6, 8]."""
    return Call(type(norm).__name__, norm, {}, x, norm(x).detach(), False)


H, A, M = random(0), random(1), random(2)


def test_norms_before_each_sub_layer() -> None:
    first, second = called(_FIRST, H), called(_SECOND, H + A)
    tensors = BlockTensors(H, H + A + M, first.output, A, second.output, M)
    assert wire(tensors, [first, second], []) == Wiring({"pre_attention_norm": _FIRST, "pre_mlp_norm": _SECOND})


def test_multipliers() -> None:
    first, second = called(_FIRST, H), called(_SECOND, H + 0.3 * A)
    tensors = BlockTensors(H, H + 0.3 * A + 0.7 * M, first.output, A, second.output, M)
    found = wire(tensors, [first, second], [0.3, 0.7])
    assert (found.attention_multiplier, found.mlp_multiplier, found.parallel) == (0.3, 0.7, False)


def test_norms_after_each_sub_layer() -> None:
    first, second = called(_FIRST, A), called(_SECOND, M)
    middle = H + first.output
    tensors = BlockTensors(H, middle + second.output, H, A, middle, M)
    assert wire(tensors, [first, second], []) == Wiring({"post_attention_norm": _FIRST, "post_mlp_norm": _SECOND})


def test_one_norm_for_both_sub_layers_side_by_side() -> None:
    norm = called(_FIRST, H)
    tensors = BlockTensors(H, H + A + M, norm.output, A, norm.output, M)
    found = wire(tensors, [norm], [])
    assert found == Wiring({"pre_attention_norm": _FIRST, "pre_mlp_norm": _FIRST}, parallel=True)


def test_norms_of_sums() -> None:
    first = called(_FIRST, H + A)
    second = called(_SECOND, first.output + M)
    tensors = BlockTensors(H, second.output, H, A, first.output, M)
    assert wire(tensors, [first, second], []) == Wiring({"attention_sum_norm": _FIRST, "mlp_sum_norm": _SECOND})


def test_what_fits_no_form_is_refused_with_the_reason() -> None:
    first, second = called(_FIRST, H), called(_SECOND, H + A)
    norms = [first, second]
    with pytest.raises(Unexplained, match="output is not the stream"):
        wire(BlockTensors(H, random(9), first.output, A, second.output, M), norms, [])
    with pytest.raises(Unexplained, match="times 0.5, not once"):
        halved = called(_SECOND, 0.5 * H + A)
        wire(BlockTensors(H, halved.read + M, first.output, A, halved.output, M), [first, halved], [])
    with pytest.raises(Unexplained, match="neither attention nor MLP"):
        wire(BlockTensors(H, H + A + M, H, A, H + A, M), [called(_FIRST, random(7))], [])
    with pytest.raises(Unexplained, match="does not read the block's input"):
        wire(BlockTensors(H, H + A + M, random(8), A, second.output, M), [second], [])


def test_attention_that_writes_nothing_is_no_sign_of_a_parallel_block() -> None:
    tensors = BlockTensors(H, H + M, H, torch.zeros_like(A), H, M)
    assert wire(tensors, [], []) == Wiring({})
