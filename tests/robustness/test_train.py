"""The verb `train-reader`: files, what is trained and predicted, equality after an interruption, refusals."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer

from glassworks.errors import OptionError
from glassworks.foundations.generation import LocalModel
from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.robustness.lessons import TEMPLATES, Lesson, lessons
from glassworks.robustness.prompts import open_templates
from glassworks.robustness.train import adapter, right_answers, step_group, step_groups, train_reader


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = chat_tokenizer("chatml")
    model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=3, vocab_size=len(tokenizer),
                       max_position_embeddings=1024)  # fmt: skip
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_reader_is_a_model_with_its_prompts(checkpoint: str, tmp_path: Path) -> None:
    run = train_reader(
        checkpoint, str(tmp_path / "run"), steps=24, batch_size=6, learning_rate=1e-2, rank=4, layers=2, held_out=10
    )
    start, trained = (load_model(name, device="cpu") for name in (checkpoint, str(run.path / "model")))
    changed = {name for name, weight in trained.state_dict().items() if not weight.equal(start.state_dict()[name])}
    assert {int(name.split(".")[2]) for name in changed} == {1, 2}  # the upper two of three layers
    assert {name.split(".")[-2] for name in changed} >= {"q_proj", "down_proj"}
    assert load_tokenizer(str(run.path / "model")).chat_template
    assert open_templates("short", str(run.path / "templates.yaml")) == TEMPLATES
    assert yaml.safe_load((run.path / "templates.yaml").read_text())["demonstrations"] == []
    assert [(item.metric, item.n) for item in run.evidence] == [("right_answers", 6), ("right_abstentions", 4)]
    losses = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = [line["loss"] for line in losses if "loss" in line]
    assert len(steps) == 24
    assert sum(steps[-4:]) < sum(steps[:4])
    assert not (run.path / "checkpoints").exists()


def test_crowds_are_practised_beside_the_lessons_and_measured_apart(checkpoint: str, tmp_path: Path) -> None:
    run = train_reader(
        checkpoint, str(tmp_path / "run"), steps=2, batch_size=3, crowds=2, rank=2, layers=1, held_out=10
    )
    measured = {item.metric: (item.n, item.better) for item in run.evidence}
    assert measured == {"right_answers": (6, "higher"), "right_abstentions": (4, "higher"), "obeyed": (10, "none")}
    assert "2 steps of 3 lessons and 2 crowds" in run.evidence[0].setting
    losses = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in losses if "loss" in line]) == 2


def test_groups_of_a_step(checkpoint: str) -> None:
    reader = LocalModel(load_model(checkpoint, device="cpu"), load_tokenizer(checkpoint))
    assert [len(group.continuations) for group in step_groups(reader, lessons(8), 4)] == [4, 4]
    assert step_groups(reader, [], 0) == []


def test_only_answers_and_ends_are_predicted(checkpoint: str) -> None:
    reader = LocalModel(load_model(checkpoint, device="cpu"), load_tokenizer(checkpoint))
    practised = lessons(10)
    group = step_group(reader, practised)
    assert group.labels is not None
    for lesson, tokens, labels in zip(practised, group.continuations, group.labels, strict=True):
        predicted = [label for label in labels if label != IGNORED]
        assert list(tokens)[-len(predicted) :] == predicted
        assert predicted[-1] == reader.tokenizer.eos_token_id
        assert reader.decode(predicted) == lesson.answer
        whole = reader.encode(lesson.prompt(TEMPLATES, chat=True))
        assert [*group.prefix, *tokens][: len(whole)] == whole
    assert len(group.prefix) > 10


def test_adapters_stand_in_the_upper_layers_and_not_in_the_head(checkpoint: str) -> None:
    config = adapter(load_model(checkpoint, device="cpu"), 4, 99)
    assert config.layers_to_transform == [0, 1, 2]
    assert "lm_head" not in config.target_modules  # type: ignore[operator]


def test_right_answers_and_right_abstentions(checkpoint: str) -> None:
    reader = LocalModel(load_model(checkpoint, device="cpu"), load_tokenizer(checkpoint))
    assert right_answers(reader, [Lesson("Who?", "Quirlomorphosis", ("Nobody.",))]) == [False]


@pytest.mark.parametrize("name", ["steps", "batch_size", "rank", "layers", "held_out"])
def test_refusals_leave_nothing_behind(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=name):
        train_reader("nobody/nothing", str(tmp_path / "run"), **{name: 0})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["crowds", "seed"])
def test_negative_numbers_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=name):
        train_reader("nobody/nothing", str(tmp_path / "run"), **{name: -1})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
