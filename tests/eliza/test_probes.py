"""The verb `eliza probe`: copy steps by hand, pools by hand, and a compiled model that copies by position."""

from pathlib import Path

import torch
from cases.eliza import SMALL
from cases.eliza_data import compiled_folder, data_folder

from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.probes import Pools, copy_steps, eliza_probe, scores


def test_copy_steps() -> None:
    turns = converse(SMALL, [s.split() for s in ("U d a e a f b .", "U c g .", "U z .")])
    tokens, steps = transcript(turns), copy_steps(SMALL, turns)
    assert [tokens[target] for _, target in steps] == ["e", "a", "f"], "remembered inputs are left out"
    assert all(tokens[at + 1] == tokens[target] for at, target in steps)


def test_scores_of_pools() -> None:
    ones = torch.ones(1, 1, 1)
    before = torch.tensor([[7], [7], [8]])
    keys, places = torch.tensor([[[1.0]], [[2.0]], [[5.0]]]), torch.tensor([3, 4, 3])
    pools = Pools(ones, torch.tensor([3]), torch.tensor([[7]]), keys, places, before)
    content, position = scores(pools, 0, 0)
    assert (content.tolist(), position.tolist()) == ([2.0], [5.0])
    alone = Pools(ones, torch.tensor([9]), torch.tensor([[7]]), keys, places, before)
    assert len(scores(alone, 0, 0)[0]) == 0


def test_a_compiled_model_copies_by_position(tmp_path: Path) -> None:
    run = eliza_probe(compiled_folder("count"), data_folder(), str(tmp_path / "run"), limit=20)
    assert all(item.value == 1 for item in run.evidence)
    assert (run.evidence[0].n or 0) > 30
