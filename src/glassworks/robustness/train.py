"""Verb `train-reader`: a small language model learns to answer from one passage and to say that it does not know.

RobustRAG (Xiang et al. 2024) joins isolated answers, so a reader that answers from every passage gives each irrelevant
one a voice. Here low-rank adapters of the upper layers practise the lessons of made-up facts (`lessons`), are merged,
and the result is a model like any other, with the prompt texts that it was trained on. Right answers and right
abstentions on held-out lessons are recorded before and after. With `crowds` it also learns to be hijacked, so that a
defence can be measured on it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import peft
import yaml
from torch import nn
from transformers import PreTrainedModel, set_seed
from transformers.pytorch_utils import Conv1D

from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import atomic_write, write_text
from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.models import load_model, load_tokenizer, model_sha
from glassworks.foundations.packing import Group, PackingCollator
from glassworks.foundations.prefix_sharing import supports_prefix_sharing
from glassworks.foundations.prefix_store import shared_prefix_length
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import proportion
from glassworks.foundations.training import CausalLMTrainer, training_arguments
from glassworks.robustness.certificate import normal_form
from glassworks.robustness.isolation import abstention
from glassworks.robustness.lessons import TEMPLATES, Kind, Lesson, crowd_lessons, lessons
from glassworks.robustness.scripted_reader import NOT_KNOWN

MODEL, PROMPTS, CHECKPOINTS = "model", "templates.yaml", "checkpoints"
SYSTEM = "robustness"
_KINDS: tuple[tuple[Kind, str, str, Literal["higher", "none"]], ...] = (
    ("answer", "Lessons that have an answer are answered rightly", "right_answers", "higher"),
    ("abstention", "Lessons without an answer are answered by an abstention", "right_abstentions", "higher"),
    ("crowd", "Where passages disagree, the most repeated claim or the order is answered", "obeyed", "none"),
)


def train_reader(
    model: str = "packaged:smollm2",
    out: str = "runs/reader",
    steps: int = 40,
    batch_size: int = 16,
    crowds: int = 0,
    learning_rate: float = 2e-3,
    rank: int = 16,
    layers: int = 20,
    held_out: int = 60,
    seed: int = 0,
    device: str = "auto",
) -> Run:
    """Teach a small model to answer from one passage and to abstain, for robust answers.

    Shell: glassworks train-reader --out runs/reader

    Args:
        model: The model that learns: a packaged name, a folder, or a hub id.
        out: The run folder; the reader is its folder `model`, its prompt texts are `templates.yaml`.
        steps: Optimiser steps.
        batch_size: Lessons of a step.
        crowds: Further lessons of a step in being hijacked, with up to ten passages that disagree or give orders; a
            defence is measured on such a reader, which the other lessons alone do not make.
        learning_rate: Highest rate, after a tenth of the steps; it then falls linearly to 0.
        rank: Rank of the low-rank adapters, which are merged at the end.
        layers: How many of the upper layers get adapters; fewer cost less.
        held_out: Lessons of each sort that the reader is measured on, before and after.
        seed: Draws the lessons and the adapters.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, train_reader, arguments) as run:
        check_at_least(1, steps=steps, batch_size=batch_size, rank=rank, layers=layers, held_out=held_out)
        check_at_least(0, crowds=crowds, seed=seed)
        if not 0 < learning_rate < float("inf"):
            raise OptionError(f"expected a positive number, received {learning_rate}", place="learning_rate")
        set_seed(seed)
        reader = LocalModel(load_model(model, device=device, dtype="float32"), load_tokenizer(model), name=model)
        # Each draw is cut in two: what is measured was never practised.
        drawn = lessons(steps * batch_size + held_out, seed)
        crowded = crowd_lessons(steps * crowds + held_out, seed) if crowds else []
        measured = drawn[:held_out] + crowded[:held_out]
        before = right_answers(reader, measured)
        groups = step_groups(reader, drawn[held_out:], batch_size) + step_groups(reader, crowded[held_out:], crowds)
        _train(run, reader, groups, Practice(steps, learning_rate, rank, layers, seed), device)
        after = right_answers(LocalModel(reader.model, reader.tokenizer), measured)
        size = f"{batch_size} lessons" + (f" and {crowds} crowds" if crowds else "")
        setting = f"{steps} steps of {size}, rank {rank} in {layers} upper layers; made-up facts"
        run.record(*_claims(measured, before, after, setting, seed, model_sha(model)))
        shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
    return run


class Practice(NamedTuple):
    """How lessons are practised; see the verb."""

    steps: int
    learning_rate: float
    rank: int
    layers: int
    seed: int


def _train(run: Run, reader: LocalModel, groups: Sequence[Group], how: Practice, device: str) -> None:
    """Practise groups of lessons, as many in every step, from the last whole checkpoint if there is one.

    `reader.model` becomes the merged model.
    """
    shares = supports_prefix_sharing(reader.model).supported
    settings = training_arguments(
        run.path / CHECKPOINTS, device=device, max_steps=how.steps, per_device_train_batch_size=1,
        gradient_accumulation_steps=len(groups) // how.steps, learning_rate=how.learning_rate,
        warmup_steps=max(1, how.steps // 10), lr_scheduler_type="linear", weight_decay=0.0, max_grad_norm=1.0,
        seed=how.seed, save_steps=max(1, how.steps // 4), save_total_limit=2, logging_steps=1,
    )  # fmt: skip
    adapted: Any = peft.get_peft_model(reader.model, adapter(reader.model, how.rank, how.layers))
    collate = PackingCollator(pad_token_id=reader.tokenizer.pad_token_id or 0, share_prefix=shares)
    trainer = CausalLMTrainer(adapted, settings, collate, groups, run=run)
    trainer.train(resume_from_checkpoint=True)
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    reader.model = trained.merge_and_unload()
    _save(run, reader)


def step_groups(reader: LocalModel, practised: Sequence[Lesson], size: int) -> list[Group]:
    """The lessons, `size` in a group."""
    return [step_group(reader, practised[start : start + size]) for start in range(0, len(practised), size or 1)]


def step_group(reader: LocalModel, batch: Sequence[Lesson]) -> Group:
    """Lessons of one step as sequences with a common beginning; answer and end of turn are predicted."""
    prompts = [reader.encode(lesson.prompt(TEMPLATES, chat=reader.chat)) for lesson in batch]
    answers = [_answer_ids(reader, lesson) for lesson in batch]
    shared = shared_prefix_length(prompts)
    return Group(
        continuations=[[*prompt[shared:], *answer] for prompt, answer in zip(prompts, answers, strict=True)],
        prefix=prompts[0][:shared],
        labels=[[IGNORED] * (len(p) - shared) + answer for p, answer in zip(prompts, answers, strict=True)],
        name="lessons",
    )


def _answer_ids(reader: LocalModel, lesson: Lesson) -> list[int]:
    told = lesson.answer if reader.chat else f" {lesson.answer}"
    return [*reader.tokenizer(told, add_special_tokens=False)["input_ids"], reader.tokenizer.eos_token_id]


def adapter(model: PreTrainedModel, rank: int, layers: int) -> peft.LoraConfig:
    """Low-rank adapters on every linear layer of the upper `layers` blocks, without dropout."""
    depth = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    head = model.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }
    return peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=sorted(names), lora_dropout=0.0, task_type="CAUSAL_LM",
        layers_to_transform=list(range(max(0, depth - layers), depth)),
    )  # fmt: skip


def right_answers(reader: LocalModel, measured: Sequence[Lesson]) -> list[bool]:
    """For each lesson whether the reader says what it should: the answer's words, or an abstention in any wording."""
    prompts = [lesson.prompt(TEMPLATES, chat=reader.chat) for lesson in measured]
    said = reader.generate(prompts, Sampling(TEMPLATES.max_new_tokens, stop=("\n",)))
    abstains = abstention()
    return [
        abstains(one.text) if lesson.answer == NOT_KNOWN else normal_form(lesson.answer) in normal_form(one.text)
        for lesson, one in zip(measured, said, strict=True)
    ]


def _save(run: Run, reader: LocalModel) -> None:
    with atomic_write(run.path / MODEL) as folder:
        reader.model.save_pretrained(folder)
        reader.tokenizer.save_pretrained(folder)
    texts = {**asdict(TEMPLATES), "demonstrations": [], "abstention": []}
    write_text(run.path / PROMPTS, yaml.safe_dump(texts, sort_keys=False, allow_unicode=True))


def _claims(
    measured: Sequence[Lesson], before: Sequence[bool], after: Sequence[bool], setting: str, seed: int, sha: str
) -> list[Evidence]:
    claims = []
    for kind, claim, metric, better in _KINDS:
        at = [number for number, lesson in enumerate(measured) if lesson.kind == kind]
        if not at:
            continue
        found = proportion(sum(after[number] for number in at), len(at))
        claims.append(
            Evidence(SYSTEM, claim, metric, found.value, "", better, found.interval, found.n,
                     sum(before[number] for number in at) / len(at), setting, seed, sha, artefact=MODEL)
        )  # fmt: skip
    return claims
