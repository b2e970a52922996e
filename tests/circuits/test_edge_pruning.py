"""Edge Pruning recovers a known circuit, leaves weights alone, and resumes as if it had not been stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cases.circuit_problems import random_problem, truth, written_problem
from cases.tiny_models import tiny_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from glassworks.circuits.attribution import Attribution, eap_ig
from glassworks.circuits.edge_pruning import EdgePruning, Trained, circuit_of, tensor_groups, train
from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.problem import Problem
from glassworks.errors import NonFiniteLoss, OptionError
from glassworks.foundations.frozen import weight_hashes
from glassworks.foundations.graph import Graph

HALVES = EdgePruning(steps=6, lr_warmup_steps=2, batch_size=4, initial=2.0, node_loss=True)
SHORT = EdgePruning(steps=12, lr_warmup_steps=2, batch_size=4, initial=2.0, node_loss=True)


def test_known_circuit_is_found_exactly() -> None:
    problem = written_problem(32)
    before = weight_hashes(problem.masked.model)
    settings = EdgePruning(steps=300, lr_warmup_steps=30, batch_size=8, penalty="expected")
    trained = train(problem, settings, target=1 - 3 / 46, seed=1)
    assert circuit_of(trained, 1 - 3 / 46).same_edges(truth())
    assert trained.sparsity == pytest.approx(1 - 3 / 46, abs=0.01)
    assert weight_hashes(problem.masked.model) == before


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = train(random_problem(), SHORT, target=0.5, seed=3)
    file = tmp_path / "mask.safetensors"
    train(random_problem(), SHORT, target=0.5, seed=3, checkpoint=file, save_every=5, stop_after=7)
    lines: list[dict[str, float]] = []
    resumed = train(random_problem(), SHORT, target=0.5, seed=3, checkpoint=file, save_every=1, log=lines.append)
    assert [line["step"] for line in lines] == list(range(5, 12))
    assert torch.equal(whole.edges, resumed.edges)
    assert torch.equal(whole.nodes, resumed.nodes)


def test_step_of_the_multipliers_goes_the_published_way() -> None:
    lines: list[dict[str, float]] = []
    train(
        random_problem(),
        EdgePruning(steps=6, lr_warmup_steps=1, batch_size=4),
        target=0.9,
        log=lines.append,
        save_every=1,
    )
    assert lines[0]["edge_sparsity"] == pytest.approx(0, abs=0.01)
    assert lines[-1]["lambda1"] < 0 < lines[-1]["lambda2"]


def test_cut_is_exact_and_ties_go_by_index() -> None:
    graph = Graph(1, 1, 1)
    alpha = torch.zeros(graph.exists.shape)
    alpha[~graph.exists] = 50.0  # entries that are no edge are not ranked
    circuit = circuit_of(Trained(graph, alpha, torch.full((graph.n_writers,), 10.0)), 0.5)
    assert circuit.n_edges == 4
    order = circuit.graph.exists.nonzero().tolist()
    assert circuit.kept.nonzero().tolist() == order[:4]


def test_edges_of_a_closed_writer_come_last() -> None:
    graph = Graph(1, 1, 1)
    nodes = torch.tensor([10.0, -10.0, 10.0])
    circuit = circuit_of(Trained(graph, torch.full(graph.exists.shape, 5.0), nodes), 0.25)
    assert not bool(circuit.kept[1].any())


def test_parameter_tensors_are_q_k_v_and_mlp_of_a_layer() -> None:
    groups = tensor_groups(Graph(2, 4, 2))
    assert groups.unique().tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 11]
    assert groups.shape == Graph(2, 4, 2).exists.shape


def test_nan_stops_with_the_step_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    problem, file = random_problem(), tmp_path / "mask.safetensors"
    train(problem, SHORT, target=0.5, checkpoint=file, save_every=2, stop_after=4)
    saved = file.read_bytes()
    problem.masked.parts.head.final_norm.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="step 4"):
        train(problem, SHORT, target=0.5, checkpoint=file, save_every=2)
    assert file.read_bytes() == saved


def test_a_logarithmic_schedule_to_1_is_refused() -> None:
    with pytest.raises(OptionError, match="logarithmic"):
        train(random_problem(), EdgePruning(steps=5, schedule="logarithmic", target=1.0), target=0.9)


def _half(rank: int, folder: str, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    settings = replace(HALVES, batch_size=size)
    torch.save(train(random_problem(n=4), settings, target=0.5, seed=3).edges, f"{folder}/edges-{rank}.pt")
    dist.destroy_process_group()


def _forked(work: Callable[..., None], *args: object) -> None:
    # Forked, not spawned: a new interpreter would take far longer to import its libraries than to train.
    mp.start_processes(work, args=args, nprocs=2, start_method="fork")


def test_two_processes_with_half_a_batch_each_equal_one(tmp_path: Path) -> None:
    whole = train(random_problem(n=4), HALVES, target=0.5, seed=3)
    _forked(_half, str(tmp_path), 4)
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"edges-{rank}.pt"), whole.edges, atol=1e-5, rtol=0)


def test_a_batch_that_two_processes_cannot_share_equally_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mp.ProcessRaisedException, match="3 pairs of a step"):
        _forked(_half, str(tmp_path), 3)


def _with_half_the_weights(rank: int, folder: str, cases: list[tuple[str, bool, bool]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for at, (family, root, checkpointing) in enumerate(cases):
        model = tiny_model(family)
        blocks = model.transformer.h if family == "gpt2" else model.model.layers
        for module in (*blocks, *([model] if root else [])):
            fully_shard(module, mesh=mesh)
        pairs = random_problem(n=7).pairs
        problem = Problem(MaskedModel(model, checkpointing=checkpointing), pairs)
        found = train(problem, HALVES, target=0.5, seed=3).edges
        scores = eap_ig(problem, Attribution(batch_size=4, steps=2))
        held = sum(parameter.to_local().numel() for block in blocks for parameter in block.parameters())
        torch.save((found, scores, held), f"{folder}/{at}-{rank}.pt")
    dist.destroy_process_group()


def test_a_model_sharded_over_two_processes_gives_the_gates_of_a_whole_one(tmp_path: Path) -> None:
    cases = [("gpt2", True, False), ("gpt2", False, False), ("gemma2", True, True)]
    _forked(_with_half_the_weights, str(tmp_path), cases)
    for at, (family, _, _) in enumerate(cases):
        whole = Problem(MaskedModel(tiny_model(family)), random_problem(n=7).pairs)
        edges, scores = (
            train(whole, HALVES, target=0.5, seed=3).edges,
            eap_ig(whole, Attribution(batch_size=4, steps=2)),
        )
        blocks = sum(p.numel() for layer in whole.masked.parts.layers for p in layer.block.parameters())
        for rank in (0, 1):
            found, attributed, held = torch.load(tmp_path / f"{at}-{rank}.pt")
            assert held <= 0.51 * blocks
            assert torch.allclose(found, edges, atol=1e-5, rtol=0)
            assert torch.allclose(attributed, scores, atol=1e-5, rtol=0)
