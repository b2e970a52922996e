"""The small models: one answers by construction, the other learns."""

import torch
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.pairs import tokenise
from glassworks.circuits.toy_model import indirect_object_rows, train_indirect_object, word_tokenizer


def test_written_model_answers_right_and_its_circuit_is_enough_and_minimal() -> None:
    problem = written_problem(64)
    batch = problem.prepare(range(64)).batch
    assert torch.equal(problem.masked.plain_logits(batch.clean, batch.at).argmax(-1), batch.targets)
    gates = truth().kept.float()
    assert problem.mean_loss(gates) < 1e-6
    for row, column in truth().kept.nonzero().tolist():
        fewer = gates.clone()
        fewer[row, column] = 0
        assert problem.mean_loss(fewer) > 1


def test_parts_that_are_not_in_the_circuit_are_busy() -> None:
    problem = written_problem(8)
    prepared = problem.prepare(range(8))
    assert prepared.stand_ins is not None
    difference = problem.masked.writers(prepared.batch.clean) - prepared.stand_ins
    assert bool((difference.abs().amax(dim=(1, 2, 3)) > 0.1).all())


def test_training_lowers_the_loss_and_repeats_itself() -> None:
    lines: list[dict[str, float]] = []
    first, _ = train_indirect_object(3, steps=101, log=lines.append)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    second, _ = train_indirect_object(3, steps=101)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_rows_have_eight_tokens_and_fresh_names() -> None:
    tokenizer = word_tokenizer(("and", "went", "gave", "to", *sorted({w for r in indirect_object_rows(300, 0)
                                for w in r.clean.split() if w[0].isupper()})))  # fmt: skip
    pairs = tokenise(indirect_object_rows(50, 0), tokenizer, name="toy").pairs
    assert {len(pair.clean) for pair in pairs} == {8}
    assert all(pair.targets[0] not in pair.corrupted for pair in pairs)
