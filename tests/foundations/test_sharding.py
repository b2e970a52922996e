"""Weights sharded by FSDP2: parts run on their own, hashes do not depend on what is gathered, others are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist
from cases.tiny_models import random_tokens, tiny_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.frozen import weight_hashes
from glassworks.foundations.sharding import Shards


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("root", [True, False], ids=["blocks and root", "blocks alone"])
def test_parts_of_a_sharded_model_recompose_it(root: bool) -> None:
    model = tiny_model("gpt2")
    for module in (*model.transformer.h, *([model] if root else [])):
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    found = anatomy(model.requires_grad_(False))
    assert found.difference is not None
    assert found.difference < 1e-6
    block, shards = found.layers[0].block, Shards(model)
    before = weight_hashes(model)
    with shards.gathered(block):
        assert not any(isinstance(p, DTensor) for p in block.parameters())
    assert all(isinstance(p, DTensor) for p in block.parameters())
    shards.open(block)
    model(input_ids=random_tokens(1, 4, seed=0))  # leaves its root gathered
    assert weight_hashes(model) == before


@pytest.mark.usefixtures("one_process")
def test_weights_split_by_other_means_are_refused_by_name() -> None:
    model = tiny_model("llama")
    head, mesh = model.lm_head, init_device_mesh("cpu", (1,))
    head.weight = nn.Parameter(distribute_tensor(head.weight.detach(), mesh, [Replicate()]), requires_grad=False)
    with pytest.raises(UnsupportedArchitecture, match="lm_head.*fully_shard"):
        anatomy(model)


def test_a_whole_model_has_no_shards() -> None:
    shards = Shards(tiny_model("gpt2"))
    assert not shards
    assert shards.anywhere(True)
    assert not shards.anywhere(False)
