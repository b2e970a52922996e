"""The known circuit: non-edges do nothing bit for bit, edges are needed where they are used, files round-trip."""

from pathlib import Path

import pytest
import torch
from cases.eliza import CONVERSATION, SMALL

from glassworks.circuits.agreement import recovery
from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.evaluate import judging_problem, open_circuit
from glassworks.circuits.find import GraphOptions, PairOptions
from glassworks.circuits.methods import find
from glassworks.eliza.compile_verb import eliza_compile
from glassworks.eliza.compiling import Compiled, compile_script
from glassworks.eliza.ground_truth import (
    edge_nodes,
    interchange_circuit,
    necessary_circuit,
    non_edges_do_nothing,
    replies,
    run_without,
    true_circuit,
)
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.opening import open_script
from glassworks.eliza.prompt_pairs import prompt_pairs
from glassworks.eliza.random_scripts import random_script, random_sentences
from glassworks.foundations.circuit_files import read_circuit, write_circuit

TOKENS = transcript(converse(SMALL, [sentence.split() for sentence, _ in CONVERSATION]))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_script(SMALL, Options(max_len=128, max_count=8))


def test_the_pass_is_the_models_own(compiled: Compiled) -> None:
    ids = torch.tensor([compiled.encode(TOKENS)])
    assert torch.allclose(run_without(compiled.model, ids).logits, compiled.model(ids).logits, atol=1e-4)


def test_non_edges_do_nothing_bit_for_bit(compiled: Compiled) -> None:
    assert non_edges_do_nothing(compiled, TOKENS)
    script = random_script(7)
    other = compile_script(script, Options("trace", "trace", max_len=512, max_count=16))
    assert non_edges_do_nothing(other, transcript(converse(script, random_sentences(script, 12, 7))))


def test_the_edge_from_aim_to_copy_breaks_copying_turns_only(compiled: Compiled) -> None:
    circuit = true_circuit(compiled.program)
    last = circuit.graph.layers - 1
    writer = circuit.graph.writers[circuit.graph.writer_index(f"m{last - 1}")]
    reader = circuit.graph.readers[circuit.graph.reader_index(f"a{last}.h0.q")]
    for sentence, _ in CONVERSATION[:3]:
        turn = converse(SMALL, [sentence.split()])[0]
        tokens = transcript([turn])
        ids, at = torch.tensor([compiled.encode(tokens)]), replies(tokens)
        cuts = ((), [(writer, reader)])
        before, after = (run_without(compiled.model, ids, cut).logits[0, at].argmax(-1) for cut in cuts)
        assert torch.equal(before, after) is not any(turn.copied)


def test_the_necessary_edges_are_true_ones_and_suffice_is_not_all(compiled: Compiled, tmp_path: Path) -> None:
    circuit = true_circuit(compiled.program)
    needed = necessary_circuit(compiled, [TOKENS])
    assert 0 < needed.n_edges < circuit.n_edges
    assert not bool((needed.kept & ~circuit.kept).any())
    single = necessary_circuit(compiled, [TOKENS[:18]])
    assert single.n_edges < needed.n_edges, "a turn without memory needs no queue"
    write_circuit(tmp_path / "circuit.json", circuit)
    assert read_circuit(tmp_path / "circuit.json").same_edges(circuit)


def test_the_edges_that_pairs_need_suffice_for_them() -> None:
    """With every other edge carrying the corrupted prompt's activations at once, each reply stays as it was."""
    tiny = compile_script(open_script("packaged:tiny"), Options(max_len=32, max_count=3))  # type: ignore[arg-type]
    pairs = prompt_pairs(open_script("packaged:tiny"), 48, max_len=32)  # type: ignore[arg-type]
    needed, circuit = interchange_circuit(tiny, pairs), true_circuit(tiny.program)
    assert 10 < needed.n_edges < circuit.n_edges
    assert not bool((needed.kept & ~circuit.kept).any())
    others = edge_nodes(needed.graph, needed.graph.exists & ~needed.kept)
    for pair in pairs:
        clean, corrupted = (torch.tensor([tiny.encode(list(tokens[:-1]))]) for tokens in pair[:2])
        cut = run_without(tiny.model, clean, others, None, run_without(tiny.model, corrupted))
        assert tiny.decode(cut.logits[0, pair.start - 1 :].argmax(-1).tolist()) == list(pair.clean[pair.start :])


def test_edge_pruning_finds_the_edges_that_pairs_need(tmp_path: Path) -> None:
    """Of a script with soft attention, through which gradients pass; benchmarks/eliza_recovery.py has more seeds."""
    options = Options(max_len=48, max_count=8, attention="soft")
    run = eliza_compile("packaged:tiny", str(tmp_path / "tiny"), options, conversations=1)
    model, pairs = str(run.path / "model"), str(run.path / "pairs.jsonl")
    problem = judging_problem(model, pairs, "interchange", GraphOptions(), PairOptions(), 0, "cpu")
    truth = open_circuit(str(run.path / "truth.json"), problem.graph)
    at_once = {"warmup_steps": 1, "lr_warmup_steps": 1, "linear_term": False, "mask_weight_decay": 0.0}
    rates = {"initial": 5.0, "alpha_lr": 0.024, "lambda_lr": 0.1}
    settings = EdgePruning(350, 0.978, batch_size=12, penalty="expected", **at_once, **rates)  # type: ignore[arg-type]
    found = find(problem, "edge-pruning", truth.edge_sparsity, pruning=settings, seed=2).circuit
    assert recovery(found, truth).f1 >= 0.9
