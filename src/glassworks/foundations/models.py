"""Which model is meant, and how is it loaded? Resolve, check, load, fingerprint.

Input: a Hugging Face hub id, a folder of safetensors, a ``.gguf`` file or a folder with one, or
``packaged:NAME``. Everything that can be refused is refused before a weight is read: missing or foreign
folders, pickled weights, remote code, unknown architectures, truncated files. Output: a transformers model in
evaluation mode on its device, its tokenizer, and a fingerprint of the bytes for evidence. Knows no system; the
architectures of glassworks itself are rows of ``OWN_ARCHITECTURES``, imported only when a checkpoint names one.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from glassworks.errors import (
    MissingDependency,
    ModelNotFound,
    NotAModel,
    OptionError,
    UnsafeCheckpoint,
    UnsupportedArchitecture,
)
from glassworks.foundations.checkpoints import (
    check_checkpoint,
    check_weight_names,
    checkpoint_fingerprint,
    missing_path,
    read_config,
)
from glassworks.foundations.data import HUB_ID, first_line
from glassworks.foundations.packaged import is_packaged, packaged, packaged_path

log = logging.getLogger(__name__)

Task = Literal["causal_lm", "masked_lm", "sequence_classification"]
AUTO_CLASSES: dict[str, Any] = {
    "causal_lm": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "sequence_classification": AutoModelForSequenceClassification,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# model_type -> the module that registers it with the Auto classes. Names, not imports: floors above stay above.
OWN_ARCHITECTURES = {
    "lory": "glassworks.pretraining.modeling",
    "cepe": "glassworks.long_context.modeling",
    "compiled_eliza": "glassworks.eliza.modeling",
}


def resolve_model(model: str | Path, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> str | Path:
    """The folder, GGUF file or hub id that `model` stands for, checked without reading a weight.

    model: hub id, folder, ``.gguf`` file or ``packaged:NAME``. A hub id that is cached comes back as its local
    snapshot folder. Raises ModelNotFound, NotAModel, UnsafeCheckpoint (pickled weights without `allow_pickle`)
    and UnsupportedArchitecture.
    """
    name = str(model)
    if is_packaged(name):
        if (row := packaged(name)).kind not in ("language model", "encoder"):
            raise NotAModel(f"holds {row.kind} ({row.what}), not a model", place=name)
        path = packaged_path(name)
    elif Path(name).expanduser().exists() and name:
        path = Path(name).expanduser()
    elif refusal := missing_path(name):
        raise refusal
    elif (found := _hub_snapshot(name, allow_pickle)) is not None:
        path = found
    else:
        return name
    path = check_checkpoint(path, allow_pickle=allow_pickle)
    if path.is_dir():
        _check_architecture(read_config(path), str(path), trust_remote_code)
    return path


def load_model(
    model: str,
    *,
    task: Task = "causal_lm",
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """Load `model` for `task` onto `device`, in evaluation mode, every weight from the checkpoint.

    device: auto (CUDA where there is one), cpu, cuda or cuda:N. dtype: auto (as stored; float16 becomes float32
    on a CPU), float32, bfloat16 or float16 (GPU only). For sequence_classification alone, a missing head is
    made at random, with a warning. Raises the errors of `resolve_model`, and OptionError for an impossible
    device or dtype.
    """
    if task not in AUTO_CLASSES:
        raise OptionError(f"unknown task '{task}'", place="task", remedy=f"Known: {', '.join(AUTO_CLASSES)}.")
    target = pick_device(device)
    wanted = _check_dtype(dtype, target)
    path = resolve_model(model, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"dtype": wanted, "trust_remote_code": trust_remote_code}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if isinstance(path, Path) and path.is_file():
        if wanted == "auto":  # quantised weights have no dtype of their own
            options["dtype"] = torch.float32 if target.type == "cpu" else torch.bfloat16
        options["quantization_config"] = GgufConfig(dequantize=True)
        path = _gguf_options(path, options)
    else:
        options["use_safetensors"] = None if allow_pickle else True
    if target.type != "cpu":
        options["device_map"] = {"": target}
    loaded = _from_pretrained(path, task, str(model), options)
    if target.type == "cpu" and loaded.dtype == torch.float16:
        log.warning("%s is stored in float16, which CPUs compute some six times slower; using float32", model)
        loaded.float()
    loaded.eval()
    return loaded


def load_tokenizer(model: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer that lies beside `model`'s weights. Raises the errors of `resolve_model` and NotAModel."""
    path = resolve_model(model, allow_pickle=True, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if isinstance(path, Path) and path.is_file():
        path = _gguf_options(path, options)
    remedy = "Save the tokenizer into the same folder with save_pretrained."
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NotAModel(f"no usable tokenizer ({first_line(error)})", place=str(model), remedy=remedy) from error
    # Without a file of words transformers makes a tokenizer that knows its special tokens alone.
    if len(tokenizer) <= len(tokenizer.added_tokens_encoder):
        raise NotAModel("has no tokenizer", place=str(model), remedy=remedy)
    return tokenizer


def model_sha(model: str) -> str:
    """16 hexadecimal digits over the bytes of `model`'s weights, configuration and tokenizer, for evidence.

    Any change of a weight changes it; moving or renaming the folder does not.
    """
    path = resolve_model(model, allow_pickle=True, trust_remote_code=True)
    if isinstance(path, str):
        raise ModelNotFound("is not downloaded yet, so its bytes are unknown", place=path, remedy="Load it first.")
    return checkpoint_fingerprint(path)


def pick_device(device: str) -> torch.device:
    """The torch device for auto, cpu, cuda or cuda:N. Raises OptionError when it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise OptionError(f"unknown device '{device}'", place="device", remedy="Use auto, cpu, cuda or cuda:N.")
    number = int(device.partition(":")[2] or 0)
    if device != "cpu" and number >= torch.cuda.device_count():
        problem = f"'{device}' was asked for, but torch sees {torch.cuda.device_count()} CUDA devices"
        raise OptionError(problem, place="device", remedy="Use --device cpu or install a CUDA build of torch.")
    return torch.device(device)


def _check_dtype(dtype: str, device: torch.device) -> torch.dtype | Literal["auto"]:
    if dtype == "auto":
        return "auto"
    if dtype not in DTYPES:
        raise OptionError(f"unknown dtype '{dtype}'", place="dtype", remedy=f"Use auto, {', '.join(DTYPES)}.")
    if dtype == "float16" and device.type == "cpu":
        problem = "float16 runs some six times slower than float32 on a CPU"
        raise OptionError(problem, place="dtype", remedy="Use bfloat16 or float32, or a GPU.")
    return DTYPES[dtype]


def _hub_snapshot(name: str, allow_pickle: bool) -> Path | None:
    """The cached snapshot folder of hub id `name`, or None when it is to be downloaded from a reachable hub."""
    if not HUB_ID.fullmatch(name):
        raise ModelNotFound(f"'{name}' is neither a path that exists nor a hub id", place="model")
    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str) and is_offline_mode():
        return Path(cached).parent
    if is_offline_mode():
        problem = (
            f"there is no folder '{name}' here, and the hub model is not in the local cache (HF_HUB_OFFLINE is set)"
        )
        remedy = "Give a folder or packaged:smollm2, or unset HF_HUB_OFFLINE to download it."
        raise ModelNotFound(problem, place=name, remedy=remedy)
    try:
        listed = HfApi().model_info(name, timeout=30).siblings or []
    except GatedRepoError as error:
        problem, remedy = "is gated and you are not signed in", "Accept its terms on its page, then run: hf auth login."
        raise ModelNotFound(problem, place=name, remedy=remedy) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound("no such folder here and no such model on the hub", place=name) from error
    except Exception as error:  # the hub's client passes on what its HTTP library raises, which differs by version
        if isinstance(cached, str):
            log.warning("the hub cannot be reached; using the cached copy of %s", name)
            return Path(cached).parent
        problem = f"no such folder here, and the hub cannot be reached ({first_line(error)})"
        raise ModelNotFound(problem, place=name, remedy="Give a folder or packaged:smollm2.") from error
    check_weight_names((file.rfilename for file in listed), name, allow_pickle=allow_pickle)
    return None


def _check_architecture(config: dict[str, Any], place: str, trust_remote_code: bool) -> None:
    kind = config["model_type"]
    if kind in OWN_ARCHITECTURES and kind not in CONFIG_MAPPING:
        importlib.import_module(OWN_ARCHITECTURES[kind])
    if kind in CONFIG_MAPPING:
        return
    if "auto_map" in config:
        if trust_remote_code:
            return
        problem, remedy = (
            f"model_type '{kind}' needs Python code from the checkpoint",
            ("Read that code, then set trust_remote_code if you trust it."),
        )
    else:
        near = difflib.get_close_matches(kind, [*CONFIG_MAPPING, *OWN_ARCHITECTURES], n=3)
        problem = f"transformers does not know model_type '{kind}'"
        remedy = f"Did you mean {' or '.join(near)}?" if near else "A newer transformers may know it."
    raise UnsupportedArchitecture(problem, place=place, remedy=remedy)


def _gguf_options(path: Path, options: dict[str, Any]) -> Path:
    if find_spec("gguf") is None:
        raise MissingDependency("gguf", "quickstart")
    options["gguf_file"] = path.name
    return path.parent


def _from_pretrained(path: str | Path, task: str, place: str, options: dict[str, Any]) -> PreTrainedModel:
    loaded: PreTrainedModel
    try:
        loaded, info = AUTO_CLASSES[task].from_pretrained(path, output_loading_info=True, **options)
    except pickle.UnpicklingError as error:  # transformers unpickles tensors only, whatever was allowed
        problem = "the pickled weights hold other objects than tensors, so they were not opened"
        raise UnsafeCheckpoint(problem, place=place, remedy="Ask its maker for safetensors.") from error
    except (SafetensorError, RuntimeError) as error:
        raise NotAModel(f"the weights do not fit the configuration ({first_line(error)})", place=place) from error
    except (ValueError, KeyError, IndexError) as error:
        problem = f"cannot be loaded for {task} ({first_line(error)})"
        raise UnsupportedArchitecture(problem, place=place) from error
    except OSError as error:
        raise ModelNotFound(f"cannot be read ({first_line(error)})", place=place) from error
    _check_nothing_random(loaded, set(info["missing_keys"]), task, place)
    if info["unexpected_keys"]:
        log.info("%s: %d weights are not used for %s", place, len(info["unexpected_keys"]), task)
    return loaded


def _check_nothing_random(model: PreTrainedModel, missing: set[str], task: str, place: str) -> None:
    """Weights that the checkpoint lacks were drawn at random: an error, except for a new classification head."""
    base = f"{model.base_model_prefix}."
    head = {key for key in missing if not key.startswith(base) or "pooler" in key}
    if task == "sequence_classification" and missing == head:
        if missing:
            log.warning("%s: new random classification head (%s)", place, ", ".join(sorted(missing)[:4]))
        return
    if missing:
        problem = (
            f"{len(missing)} weights that {task} needs are not in the checkpoint: {', '.join(sorted(missing)[:3])}"
        )
        raise NotAModel(problem, place=place, remedy="Use a checkpoint that was saved for this task.")
