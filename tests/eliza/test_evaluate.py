"""The verbs `eliza evaluate` and `eliza counterfactual`: compiled models score 100 %, and 100 % one way each."""

from pathlib import Path

import pytest
from cases.eliza_data import compiled_folder, data_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from glassworks.eliza.compile_verb import tokenizer_of
from glassworks.eliza.dataset import Example, read_split
from glassworks.eliza.evaluate import eliza_counterfactual, eliza_evaluate, turn_scores
from glassworks.eliza.train import VOCABULARY, Shape, without_positions
from glassworks.errors import OptionError


def test_a_compiled_model_is_right_everywhere(tmp_path: Path) -> None:
    run = eliza_evaluate(compiled_folder("count"), data_folder(), str(tmp_path / "run"), limit=12, free_running=2)
    figures = {item.metric: item for item in run.evidence}
    losses = {item.metric for item in run.evidence if item.metric.startswith("loss_")}
    assert losses
    assert all(figures[name].value < 1e-3 for name in losses)
    assert all(item.value == 1 for item in run.evidence if item.metric not in losses)
    assert (figures["turn_accuracy_all"].n or 0) > 20
    assert (figures["free_turn_accuracy"].n or 0) >= 4
    assert figures["turn_accuracy_all"].interval is not None


def test_a_wrong_reply_is_seen() -> None:
    model = AutoModelForCausalLM.from_pretrained(compiled_folder("count"))
    tokenizer = AutoTokenizer.from_pretrained(compiled_folder("count"))
    example = next(e for e in read_split(data_folder(), "test") if len(e.kinds) > 1)
    end = example.tokens.index(".", example.tokens.index("E"))
    broken = (*example.tokens[:end], "q", *example.tokens[end:])
    scores = list(turn_scores(model, tokenizer, Example(broken, example.kinds)))
    assert scores[0].loss > 1
    assert not scores[0].right
    assert scores[0].prefix


@pytest.mark.parametrize(("mechanism", "edit", "metric"), [
    ("count", "cycling", "cycling_same"), ("count", "memory_queue", "memory_queue_same"),
    ("trace", "cycling", "cycling_increment"), ("trace", "memory_queue", "memory_queue_decrement"),
])  # fmt: skip
def test_positive_controls(mechanism: str, edit: str, metric: str, tmp_path: Path) -> None:
    run = eliza_counterfactual(compiled_folder(mechanism), data_folder(), str(tmp_path / "run"), edit, limit=24)  # type: ignore[arg-type]
    figures = {item.metric: item for item in run.evidence}
    assert {name: item.value for name, item in figures.items()} == {name: float(name == metric) for name in figures}
    assert all("the compiled model" in item.claim for item in run.evidence)
    assert (figures[metric].n or 0) >= 3


def test_a_conversation_longer_than_the_model_reads_is_refused() -> None:
    model, tokenizer = without_positions(Shape(1, 1, 8), 4), tokenizer_of(VOCABULARY)
    example = Example(("$", "U", "a", ".", "E", "b", "."), ("first_turn",))
    with pytest.raises(OptionError, match="a conversation of 7 tokens, the model reads 4"):
        list(turn_scores(model, tokenizer, example))
