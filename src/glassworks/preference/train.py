"""Verb `align`: train a chat model on preferences by any of ten methods, and measure what it changed.

Question: does this model, trained on these pairs, prefer and answer better where it was not trained? Input: a
checkpoint, preference data in the field's columns. Output: a run folder with the trained model (standard checkpoint,
its chat template inside), metrics, evidence, figures, samples. Under `accelerate launch` every process runs it;
the first writes. Meng et al. 2024; what a method computes is in `losses`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import peft
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from glassworks.errors import OptionError
from glassworks.foundations.data import data_sha
from glassworks.foundations.files import atomic_write
from glassworks.foundations.models import load_model, load_tokenizer, model_sha, pick_device, resolve_model
from glassworks.foundations.rows import split_rows
from glassworks.foundations.runs import Run, is_first_process
from glassworks.foundations.training import training_arguments
from glassworks.preference.losses import PairLogProbs, method_of, settings_of, simpo_gamma
from glassworks.preference.pairs import (
    Pair,
    PairFormat,
    Preparation,
    TokenizedPair,
    check_template,
    read_pairs,
    tokenize_pairs,
)
from glassworks.preference.reference import reference_key, with_reference
from glassworks.preference.rewards import held_out_log_probs, margin_figure, reward_evidence, rewards_of
from glassworks.preference.trainer import Example, PreferenceTrainer
from glassworks.preference.trial import Trial, answer_prompts, record_trial, trial_prompts
from glassworks.report.figures import FIGURES_FOLDER, save_figure

log = logging.getLogger(__name__)

MODEL, CHECKPOINTS, REFERENCE = "model", "checkpoints", "reference.safetensors"
Setting = float | bool | str | None


@dataclass(frozen=True)
class Optimisation:
    """How the policy is optimised: AdamW; weights are kept in float32.

    learning_rate: above 0; 3e-7 to 1e-6 for whole 7B models, 1e-5 to 1e-4 for adapters. epochs: passes over the data.
    max_steps: stop after so many steps; 0 = after `epochs`. batch_size: pairs a step, over all processes.
    micro_batch_size: pairs computed at once by a process. warmup_ratio: share of steps, [0, 1). weight_decay,
    max_grad_norm: as in transformers; 0 norm = no clipping. gradient_checkpointing: recompute activations.
    bf16: compute in bfloat16 under autocast. save_steps: steps between checkpoints; 0 = none.
    fsdp: shard weights over the processes that `accelerate launch` started (FSDP2).
    """

    learning_rate: float = 1e-6
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 128
    micro_batch_size: int = 4
    warmup_ratio: float = 0.1
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    bf16: bool = False
    save_steps: int = 100
    fsdp: bool = False

    def check(self, processes: int) -> None:
        """Raises OptionError for values out of range or a batch that does not divide."""
        bounds = {
            "learning_rate": ("above 0", self.learning_rate > 0),
            "epochs": ("above 0", self.epochs > 0),
            "max_steps": ("at least 0", self.max_steps >= 0),
            "micro_batch_size": ("at least 1", self.micro_batch_size >= 1),
            "warmup_ratio": ("in [0, 1)", 0 <= self.warmup_ratio < 1),
            "save_steps": ("at least 0", self.save_steps >= 0),
            "batch_size": (
                f"a multiple of micro_batch_size x processes = {self.micro_batch_size} x {processes}",
                self.batch_size >= 1 and self.batch_size % (self.micro_batch_size * processes) == 0,
            ),
        }
        for name, (expected, holds) in bounds.items():
            if not holds:
                value = getattr(self, name)
                raise OptionError(f"expected {expected}, received {value}", place=f"--optimisation.{name}")


@dataclass(frozen=True)
class Adapter:
    """Low-rank adapters (LoRA) instead of all weights. rank: 0 = train all weights. alpha: scale; 0 = twice the rank.

    target_modules: names of linear layers, comma-separated, or all-linear.
    """

    rank: int = 0
    alpha: float = 0.0
    target_modules: str = "all-linear"

    def check(self, fsdp: bool) -> None:
        """Raises OptionError for values out of range, or for an adapter where weights are sharded."""
        if self.rank < 0 or self.alpha < 0:
            raise OptionError(
                f"expected rank and alpha of at least 0, received {self.rank} and {self.alpha:g}", place="--adapter"
            )
        if self.rank and fsdp:
            raise OptionError(
                "adapters are merged at the end, which sharded weights do not allow",
                place="--optimisation.fsdp",
                remedy="An adapter needs little memory: launch without fsdp.",
            )

    def config(self) -> peft.LoraConfig:
        """peft's configuration; without dropout, which shared prompts rule out."""
        names = [name.strip() for name in self.target_modules.split(",")]
        return peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha or 2 * self.rank,  # type: ignore[arg-type]
            target_modules=names[0] if names == ["all-linear"] else names,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )


class Data(NamedTuple):
    """Pairs as written and as tokens, split by prompt; report: what preparing did."""

    train: list[TokenizedPair]
    held_out: list[TokenizedPair]
    held_out_pairs: list[Pair]
    report: Preparation


def align(
    model: str,
    data: str,
    out: str = "runs/align",
    method: str = "simpo",
    settings: dict[str, Setting] = {},  # noqa: B006 - the command line shows it; it is copied, never changed
    pairs: PairFormat = PairFormat(),
    optimisation: Optimisation = Optimisation(),
    adapter: Adapter = Adapter(),
    trial: Trial = Trial(),
    held_out: float = 0.1,
    seed: int = 42,
    device: str = "auto",
) -> Run:
    """Train a chat model on preference pairs, without a reference model where the method needs none.

    Shell: glassworks align packaged:smollm2 pairs.jsonl --method simpo --settings.beta 2.5 --adapter.rank 16

    Args:
        model: Hugging Face id, folder or packaged:NAME of a chat model.
        data: JSONL, Parquet, folder, packaged:NAME or hub id with chosen, rejected and, where they are replies, prompt.
        out: The run folder; the trained model is in its folder model.
        method: simpo, dpo, dpo-norm, ipo, cpo, kto, orpo, rdpo, rrhf or slic.
        settings: The method's own, such as settings.beta; docs/align.md lists them with their defaults.
        pairs: Lengths, truncation and template rules.
        optimisation: Learning rate, batch and schedule.
        adapter: Low-rank adapters instead of all weights.
        trial: Answers to held-out prompts before and after, judged by a reward function.
        held_out: Share of prompts that is measured on and not trained on, in (0, 1), without --pairs.test_split.
        seed: Draws the split, the order of pairs and the adapters' start.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, align, arguments) as run:
        chosen = settings_of(method, settings)
        optimisation.check(PartialState().num_processes)
        trial.check()
        adapter.check(optimisation.fsdp)
        pick_device(device)
        resolve_model(model)
        tokenizer = load_tokenizer(model)
        prepared = _prepare(data, tokenizer, pairs, held_out, seed)
        set_seed(seed)
        policy = load_model(model, device=device, dtype="float32")
        before = held_out_log_probs(policy, prepared.held_out)
        prompts = trial_prompts(prepared.held_out_pairs, trial) if trial.reward else []
        answers = answer_prompts(policy, tokenizer, prompts, trial) if prompts else None
        weights = model_sha(model)
        examples = _examples(prepared.train, policy, weights, tokenizer, pairs, method, run)
        trained = _train(run, policy, tokenizer, examples, method, chosen, optimisation, adapter, seed, device)
        common = {"model_sha": weights, "data_sha": data_sha(data)}
        _record(run, before, trained, prepared, method, chosen, {**common, "artefact": MODEL})
        if answers is not None and is_first_process():
            now = answer_prompts(trained, tokenizer, prompts, trial)
            record_trial(run, prompts, answers, now, trial, **common)
        if is_first_process():
            shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
    return run


def _prepare(data: str, tokenizer: PreTrainedTokenizerBase, form: PairFormat, held_out: float, seed: int) -> Data:
    form.check()
    pairs, read = read_pairs(data, on_invalid=form.on_invalid, split=form.split or None)
    check_template(pairs, tokenizer)
    tokenized, report = tokenize_pairs(pairs, tokenizer, form, read)
    if form.test_split:
        unseen, also = read_pairs(data, on_invalid=form.on_invalid, split=form.test_split)
        measured, _ = tokenize_pairs(unseen, tokenizer, form, also)
        return Data(tokenized, measured, _written(unseen, measured), report)
    rows = Dataset.from_dict({"at": list(range(len(tokenized))), "prompt": [pair.prompt_ids for pair in tokenized]})
    train, test = split_rows(rows, held_out, key=["prompt"], seed=seed)
    measured = [tokenized[at] for at in test["at"]]
    return Data([tokenized[at] for at in train["at"]], measured, _written(pairs, measured), report)


def _written(pairs: Sequence[Pair], tokenized: Sequence[TokenizedPair]) -> list[Pair]:
    by_name = {pair.name: pair for pair in pairs}
    return [by_name[pair.name] for pair in tokenized]


def _examples(
    pairs: Sequence[TokenizedPair],
    policy: PreTrainedModel,
    weights: str,
    tokenizer: PreTrainedTokenizerBase,
    form: PairFormat,
    method: str,
    run: Run,
) -> list[Example]:
    """Training examples, with what the start model says of them where the method asks for it."""
    chosen = method_of(method)
    if not chosen.needs_reference:
        return [Example(pair) for pair in pairs]
    key = reference_key(weights, tokenizer, form)
    with PartialState().main_process_first():  # the others read what the first has written
        return with_reference(pairs, policy, key, run.path / REFERENCE, mismatched=chosen.needs_mismatch)


def _arguments(run: Run, optimisation: Optimisation, pairs: int, seed: int, device: str) -> TrainingArguments:
    steps = optimisation.max_steps or max(1, round(pairs * optimisation.epochs / optimisation.batch_size))
    processes = PartialState().num_processes
    saving: dict[str, Any] = {"save_strategy": "no"}
    if optimisation.save_steps:
        saving = {"save_strategy": "steps", "save_steps": optimisation.save_steps, "save_total_limit": 2}
    sharding: dict[str, Any] = {"fsdp": True, "fsdp_config": {"version": 2}} if optimisation.fsdp else {}
    return training_arguments(
        run.path / CHECKPOINTS,
        device=device,
        learning_rate=optimisation.learning_rate,
        max_steps=steps,
        per_device_train_batch_size=optimisation.micro_batch_size,
        gradient_accumulation_steps=optimisation.batch_size // (optimisation.micro_batch_size * processes),
        warmup_steps=round(optimisation.warmup_ratio * steps),
        lr_scheduler_type=optimisation.lr_scheduler,
        weight_decay=optimisation.weight_decay,
        max_grad_norm=optimisation.max_grad_norm,
        bf16=optimisation.bf16,
        logging_steps=1,
        seed=seed,
        **({"activation_checkpointing": True} if optimisation.gradient_checkpointing else {}),
        **saving,
        **sharding,
    )


def _train(
    run: Run,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    method: str,
    settings: dict[str, Any],
    optimisation: Optimisation,
    adapter: Adapter,
    seed: int,
    device: str,
) -> PreTrainedModel:
    """Train, from the last whole checkpoint if there is one; the policy with adapters merged in."""
    model: Any = peft.get_peft_model(policy, adapter.config()) if adapter.rank else policy
    trainer = PreferenceTrainer(
        model,
        _arguments(run, optimisation, len(examples), seed, device),
        method=method,
        settings=settings,
        pad_token_id=tokenizer.pad_token_id or 0,
        train_dataset=examples,
        run=run,
    )
    trainer.train(resume_from_checkpoint=True)
    unwrapped: Any = trainer.accelerator.unwrap_model(trainer.model)
    merged: PreTrainedModel = unwrapped.merge_and_unload() if adapter.rank else unwrapped
    weights = merged.state_dict() if adapter.rank else trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        _save(run, merged, weights, tokenizer)
    merged.eval()
    return merged


def _save(run: Run, trained: PreTrainedModel, weights: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """A standard checkpoint with the template it was trained with; the folder appears whole."""
    with atomic_write(run.path / MODEL) as folder:
        trained.save_pretrained(folder, state_dict=weights)
        tokenizer.save_pretrained(folder)


def _record(
    run: Run,
    start: PairLogProbs,
    trained: PreTrainedModel,
    data: Data,
    method: str,
    settings: dict[str, Any],
    common: dict[str, str],
) -> None:
    """Evidence and the margin figure, on held-out pairs."""
    before = rewards_of(start, method, settings)
    after = rewards_of(held_out_log_probs(trained, data.held_out, start), method, settings)
    named = ", ".join(f"{key} = {value}" for key, value in settings.items() if value is not None)
    setting = f"{method}, {named}; trained on {len(data.train)} pairs; {data.report.sentence()}"
    run.record(*reward_evidence(before, after, setting, **common))
    if not is_first_process():
        return
    target = None
    if method == "simpo":
        target = simpo_gamma(settings["beta"], settings["gamma"], settings["gamma_beta_ratio"])
    save_figure(
        margin_figure(before, after, target),
        run.path / FIGURES_FOLDER / "reward_margins.svg",
        caption=f"Implicit reward margins of {len(after.margins)} held-out pairs before and after {method}.",
        alt=f"Two outlines; the mean margin goes from {before.margins.mean():.3g} to {after.margins.mean():.3g}.",
    )
