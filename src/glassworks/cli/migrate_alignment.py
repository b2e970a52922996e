"""Preference-training configurations of four tools as options of `align`.

alignment-handbook (with the official SimPO scripts), TRL's DPO, CPO and ORPO trainers, LLaMA-Factory's dpo stage and
axolotl's rl. Each tool's own default is written out where it differs from ours, since the tool's user relied on it; a
default that surprises (TRL trains SimPO with an SFT term of weight 1) becomes a note. Tables of (key, option, change)
carry what has one meaning in both; what has none is named in a note. Knows the tools' keys and `align`'s option names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassworks.cli.foreign import Foreign, Rule
from glassworks.errors import OptionError

# transformers.TrainingArguments, which three of the tools pass through
TRAINING: tuple[Rule, ...] = (
    ("num_train_epochs", "optimisation.epochs", float),
    ("weight_decay", "optimisation.weight_decay", float),
    ("max_grad_norm", "optimisation.max_grad_norm", float),
    ("bf16", "optimisation.bf16", lambda value: value is True or value == "auto"),
    ("gradient_checkpointing", "optimisation.gradient_checkpointing", bool),
    ("seed", "seed", int),
)
LORA: tuple[Rule, ...] = (
    ("lora_r", "adapter.rank", int),
    ("lora_rank", "adapter.rank", int),
    ("lora_alpha", "adapter.alpha", float),
)
SCHEDULES = ("cosine", "linear", "constant")
HARDWARE = (
    "fp16", "tf32", "torch_dtype", "dtype", "attn_implementation", "gradient_checkpointing_kwargs", "deepspeed",
    "fsdp", "fsdp_config", "ddp_timeout", "dataloader_num_workers", "preprocessing_num_workers",
    "flash_attention", "low_cpu_mem_usage", "use_flash_attention_2",
)  # fmt: skip
BOOKKEEPING = (
    "do_eval", "do_train", "eval_steps", "logging_steps", "logging_first_step", "log_level",
    "save_strategy", "save_total_limit", "report_to", "push_to_hub", "hub_model_id", "hub_model_revision", "run_name",
    "overwrite_output_dir", "remove_unused_columns", "per_device_eval_batch_size", "plot_loss", "overwrite_cache",
    "wandb_project", "wandb_name", "exp_prefix", "val_set_size", "evals_per_epoch", "saves_per_epoch",
    "dataset_prepared_path", "disable_dropout", "optim", "optimizer", "eval_strategy", "load_best_model_at_end",
)  # fmt: skip
KEEP = {"keep_end": "end", "keep_start": "start"}


def from_alignment_handbook(foreign: Foreign, devices: int) -> None:
    """alignment-handbook's YAML: dataset_mixer, official SimPO names, header in the response."""
    method = "simpo" if "gamma_beta_ratio" in foreign else foreign.take("trainer_type")
    if method is None:
        method = "dpo"
        foreign.note("No gamma_beta_ratio: taken for DPO. Set method where it is another.")
    foreign.take("trainer_type")
    known = {"simpo": _official_simpo, "dpo": _dpo, "cpo": _cpo, "orpo": _orpo}
    if method not in known:
        raise OptionError(f"cannot carry trainer_type '{method}'", place=foreign.place,
                          remedy="Write an align configuration by hand.")  # fmt: skip
    known[method](foreign)
    _mixer(foreign)
    foreign.set("pairs.header_in_response", True)
    foreign.note("pairs.header_in_response is true: the official scripts train on the tokens that open the answer.")
    if "auto_insert_empty_system_msg" in foreign:
        foreign.set("pairs.auto_insert_empty_system_msg", bool(foreign.take("auto_insert_empty_system_msg")))
    else:
        foreign.note(
            "alignment-handbook puts an empty system message first where the template knows one; the SimPO scripts do "
            "not. For the former set pairs.auto_insert_empty_system_msg: true."
        )
    _lengths(foreign)
    _training(foreign, devices)


def from_trl(foreign: Foreign, devices: int) -> None:
    """TRL's configurations: CPO's loss_type simpo, simpo_gamma and cpo_alpha; DPO's loss types; ORPO by its name."""
    loss = str(foreign.take("loss_type", "sigmoid"))
    is_cpo = "cpo_alpha" in foreign or "simpo_gamma" in foreign or loss == "simpo"
    if is_cpo and loss == "simpo":
        _trl_simpo(foreign)
    elif is_cpo and loss == "sigmoid":
        _cpo(foreign)
    elif is_cpo and loss == "hinge":
        _trl_hinge(foreign)
    elif loss in ("sigmoid", "ipo") and not is_cpo:
        _dpo(foreign) if loss == "sigmoid" else _ipo(foreign)
        foreign.note("Taken for TRL's DPOTrainer; its CPO and ORPO trainers have other methods here: cpo, orpo.")
    else:
        raise OptionError(f"cannot carry loss_type '{loss}'", place=foreign.place,
                          remedy="Carried are simpo, sigmoid, ipo and CPO's hinge.")  # fmt: skip
    foreign.set("model", foreign.take("model_name_or_path"))
    _single_dataset(foreign, foreign.take("dataset_name"), foreign.take("dataset_train_split"))
    if test := foreign.take("dataset_test_split"):
        foreign.set("pairs.test_split", str(test))
    foreign.ignore(("dataset_config", "dataset_config_name"), "give the file of pairs instead")
    _lengths(foreign, max_length=1024, max_prompt_length=512)
    if foreign.take("use_peft", False) is False:
        foreign.ignore(("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"), "use_peft is false")
    _training(foreign, devices, learning_rate=1e-6)


def from_llama_factory(foreign: Foreign, devices: int) -> None:
    """LLaMA-Factory's dpo stage: pref_loss, pref_beta, pref_ftx, simpo_gamma."""
    stage = foreign.take("stage", "dpo")
    if stage != "dpo":
        raise OptionError(f"the stage is '{stage}'", place=foreign.place, remedy="Carried is the stage dpo.")
    loss = foreign.choice("pref_loss", {name: name for name in ("simpo", "sigmoid", "ipo", "orpo")}, "sigmoid")
    beta, weight = foreign.number("pref_beta", 0.1), foreign.number("pref_ftx", 0.0)
    method = {"sigmoid": "dpo"}.get(loss, loss)
    foreign.set("method", method)
    if method == "simpo":
        _settings(foreign, beta=beta, gamma=foreign.number("simpo_gamma", 0.5), sft_weight=weight)
    else:
        foreign.ignore(("simpo_gamma",), f"it belongs to simpo, not to {method}")
        _settings(foreign, **{{"dpo": "beta", "ipo": "tau", "orpo": "odds_weight"}[method]: beta})
        if weight:
            foreign.note(f"pref_ftx {weight} is not carried: {method} has no SFT term here.")
    foreign.carry([("model_name_or_path", "model", str)])
    name = foreign.take("dataset")
    _single_dataset(foreign, name, None)
    foreign.note(
        f"data: '{name}' is a name in LLaMA-Factory's dataset_info.json; give the file or hub id it stands for."
    )
    foreign.ignore(("dataset_dir", "template", "max_samples"), "prompts are rendered by the tokenizer's own template")
    if "cutoff_len" in foreign:
        _max_length(foreign, int(foreign.number("cutoff_len")))
    if foreign.take("finetuning_type", "lora") != "lora":
        foreign.ignore(("lora_rank", "lora_alpha", "lora_dropout", "lora_target"), "the fine-tuning is full")
    else:
        foreign.set("adapter.rank", int(foreign.number("lora_rank", 8)))
    _training(foreign, devices, learning_rate=5e-5)


def from_axolotl(foreign: Foreign, devices: int) -> None:
    """axolotl's rl: simpo, dpo, ipo and orpo, with rl_beta."""
    method = foreign.choice("rl", {name: name for name in ("simpo", "dpo", "ipo", "orpo")}, "dpo")
    beta = foreign.number("rl_beta", 0.1)
    foreign.set("method", method)
    if method == "simpo":
        _settings(foreign, beta=beta, gamma=foreign.number("simpo_gamma", 0.5), sft_weight=_cpo_alpha(foreign))
    else:
        _settings(foreign, **{{"dpo": "beta", "ipo": "tau", "orpo": "odds_weight"}[method]: beta})
    foreign.set("model", foreign.take("base_model"))
    datasets = foreign.take("datasets", [])
    if not isinstance(datasets, list) or not datasets or not isinstance(datasets[0], Mapping):
        raise OptionError("'datasets' should be a list of mappings with a path", place=foreign.place)
    _single_dataset(foreign, datasets[0].get("path"), datasets[0].get("split"))
    if len(datasets) > 1:
        foreign.note(f"Only the first of {len(datasets)} datasets is carried; join them in one file.")
    if kind := datasets[0].get("type"):
        foreign.note(f"The dataset's type '{kind}' is not carried: columns must be prompt, chosen, rejected.")
    if "sequence_len" in foreign:
        _max_length(foreign, int(foreign.number("sequence_len")))
    if foreign.take("adapter") is None:
        foreign.ignore(("lora_r", "lora_alpha", "lora_dropout", "lora_target_linear"), "there is no adapter")
    foreign.carry([("num_epochs", "optimisation.epochs", float)])
    _training(foreign, devices, learning_rate=2e-4, schedule="lr_scheduler", each="micro_batch_size", default=1)


def _official_simpo(foreign: Foreign) -> None:
    foreign.set("method", "simpo")
    loss = foreign.choice("loss_type", {"sigmoid": "sigmoid", "hinge": "hinge"}, "sigmoid")
    if "simpo_gamma" in foreign or "gamma" in foreign:
        raise OptionError("both gamma_beta_ratio and an absolute gamma are given", place=foreign.place,
                          remedy="Keep one of them.")  # fmt: skip
    _settings(
        foreign, beta=foreign.number("beta", 2.0), gamma_beta_ratio=foreign.number("gamma_beta_ratio", 0.25),
        label_smoothing=foreign.number("label_smoothing", 0.0), sft_weight=foreign.number("sft_weight", 0.0),
        loss_type=loss,
    )  # fmt: skip


def _trl_simpo(foreign: Foreign) -> None:
    foreign.set("method", "simpo")
    weight = _cpo_alpha(foreign)
    _settings(
        foreign, beta=foreign.number("beta", 0.1), gamma=foreign.number("simpo_gamma", 0.5), sft_weight=weight,
        label_smoothing=foreign.number("label_smoothing", 0.0),
    )  # fmt: skip


def _trl_hinge(foreign: Foreign) -> None:
    """CPO's hinge max(0, 1 - beta (S_w - S_l)) + alpha NLL, which is beta times SLiC-HF's with delta 1 / beta."""
    beta, alpha = foreign.number("beta", 0.1), foreign.number("cpo_alpha", 1.0)
    foreign.set("method", "slic")
    _settings(foreign, delta=1 / beta, nll_weight=alpha / beta)
    foreign.note(
        f"CPO's hinge is SLiC-HF with delta 1 / beta; the loss is TRL's divided by {beta:g}. AdamW takes the same "
        "steps, but max_grad_norm clips gradients of another size."
    )
    foreign.ignore(("simpo_gamma",), "it belongs to simpo")


def _cpo_alpha(foreign: Foreign) -> Any:
    given = "cpo_alpha" in foreign
    weight = foreign.number("cpo_alpha", 1.0)
    if not given:
        foreign.note(
            "cpo_alpha is not given and TRL's default is 1.0, so an SFT term of weight 1 was trained beside SimPO. "
            "It is kept; pure SimPO has sft_weight 0."
        )
    elif weight:
        foreign.note(f"cpo_alpha {weight} became sft_weight {weight}: this is SimPO with an SFT term, not pure SimPO.")
    return weight


def _dpo(foreign: Foreign) -> None:
    foreign.set("method", "dpo")
    _settings(foreign, beta=foreign.number("beta", 0.1), label_smoothing=foreign.number("label_smoothing", 0.0))


def _ipo(foreign: Foreign) -> None:
    foreign.set("method", "ipo")
    _settings(foreign, tau=foreign.number("beta", 0.1), ipo_normalize=True)
    foreign.note("TRL divides IPO's log-ratios by length; ipo_normalize is true for that.")


def _cpo(foreign: Foreign) -> None:
    foreign.set("method", "cpo")
    _settings(foreign, beta=foreign.number("beta", 0.1), nll_weight=foreign.number("cpo_alpha", 1.0))


def _orpo(foreign: Foreign) -> None:
    foreign.set("method", "orpo")
    _settings(foreign, odds_weight=foreign.number("beta", 0.1))


def _settings(foreign: Foreign, **settings: Any) -> None:
    for name, value in settings.items():
        foreign.set(f"settings.{name}", value)


def _mixer(foreign: Foreign) -> None:
    foreign.carry([("model_name_or_path", "model", str)])
    mixer, splits = foreign.take("dataset_mixer", {}), foreign.take("dataset_splits", ["train", "test"])
    if not isinstance(mixer, Mapping) or len(mixer) != 1:
        raise OptionError("'dataset_mixer' should name one dataset", place=foreign.place,
                          remedy="Join several in one file of pairs first.")  # fmt: skip
    name, share = next(iter(mixer.items()))
    if float(share) != 1.0:
        foreign.note(f"dataset_mixer takes {share} of {name}; the whole of it is used here.")
    _single_dataset(foreign, name, splits[0] if splits else None)
    if len(splits) > 1:
        foreign.set("pairs.test_split", str(splits[1]))
    foreign.ignore(("dataset_configs", "text_column"), "give the file of pairs instead")
    if template := foreign.take("chat_template"):
        foreign.note(
            f"chat_template is not carried; save it in a file and give it to align ({str(template)[:40]!r}...)."
        )


def _single_dataset(foreign: Foreign, name: Any, split: Any) -> None:
    if not name:
        raise OptionError("no dataset is named", place=foreign.place, remedy="Add it, or write data by hand.")
    foreign.set("data", str(name))
    if split and split != "train":
        foreign.set("pairs.split", str(split))


def _lengths(foreign: Foreign, max_length: int = 1024, max_prompt_length: int = 512) -> None:
    longest = int(foreign.number("max_length", max_length))
    prompt = int(foreign.number("max_prompt_length", min(max_prompt_length, longest // 2)))
    foreign.set("pairs.max_length", longest)
    foreign.set("pairs.max_prompt_length", prompt)
    foreign.set("pairs.truncation", foreign.choice("truncation_mode", KEEP, "keep_end"))
    foreign.ignore(("max_completion_length",), "each answer is cut by what max_length leaves")


def _max_length(foreign: Foreign, longest: int) -> None:
    foreign.set("pairs.max_length", longest)
    foreign.set("pairs.max_prompt_length", longest // 2)
    foreign.note(f"pairs.max_prompt_length is half of {longest}; the tool has no such option.")


def _training(
    foreign: Foreign,
    devices: int,
    *,
    learning_rate: float = 5e-5,
    schedule: str = "lr_scheduler_type",
    each: str = "per_device_train_batch_size",
    default: int = 8,
) -> None:
    """Arguments of the Trainer. A batch is counted in pairs over all devices and accumulated steps.

    learning_rate, default: the tool's own. schedule, each: the tool's names of the schedule and of a device's batch.
    """
    foreign.set("optimisation.learning_rate", foreign.number("learning_rate", learning_rate))
    foreign.carry(TRAINING)
    micro, steps = int(foreign.number(each, default)), int(foreign.number("gradient_accumulation_steps", 1))
    total = micro * steps * devices
    foreign.set("optimisation.batch_size", total)
    foreign.set("optimisation.micro_batch_size", micro)
    foreign.note(f"A step has {total} pairs: {micro} x {steps} x {devices} devices; --devices gives another number.")
    name = str(foreign.take(schedule, "linear" if schedule == "lr_scheduler_type" else "cosine"))
    if name not in SCHEDULES:
        foreign.note(f"The schedule '{name}' is not known here; cosine is used.")
    foreign.set("optimisation.lr_scheduler", name if name in SCHEDULES else "cosine")
    foreign.set("optimisation.warmup_ratio", foreign.number("warmup_ratio", 0.0))
    foreign.ignore(("warmup_steps",), "give optimisation.warmup_ratio instead")
    for key in ("max_steps", "save_steps"):
        value = foreign.number(key)
        foreign.set(f"optimisation.{key}", int(value) if value is not None and value >= 1 else None)
    if "evaluation_strategy" in foreign:
        foreign.take("evaluation_strategy")
        foreign.note("evaluation_strategy, called eval_strategy since transformers 4.46, is not carried.")
    half = [key for key in ("torch_dtype", "dtype") if str(foreign.take(key, "")) in ("bfloat16", "float16")]
    if half:
        foreign.note(
            "Weights were loaded in half precision. Here they are kept in float32: at these learning rates most "
            "updates of bfloat16 weights round to nothing."
        )
    foreign.carry(LORA)
    if foreign.take("lora_dropout"):
        foreign.note("lora_dropout is not carried: adapters have no dropout, which computing a prompt once rules out.")
    foreign.ignore(("lora_target", "lora_target_modules", "lora_target_linear", "lora_modules_to_save"),
                   "the layers are found by structure")  # fmt: skip
    if folder := foreign.take("output_dir"):
        foreign.set("out", f"runs/{Path(str(folder)).name}")
    foreign.ignore(HARDWARE, "align decides by device, or accelerate launch does")
    foreign.ignore(BOOKKEEPING, "a run folder keeps metrics, checkpoints and evidence by itself")
