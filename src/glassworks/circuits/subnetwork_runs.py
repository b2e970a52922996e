"""What the verbs of subnetworks share: a prepared model, and the folders in which subnetworks are kept.

A search leaves subnetworks/{seed}-{sparsity}/mask.json and alpha.safetensors, means.safetensors, and metrics.json in
the layout of the official result files (seed -> sparsity in per cent -> case -> accuracy as a fraction), which are
read too. Computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.circuits.encoder_decoder import Parts, parts_of
from glassworks.circuits.head_masks import Ablation
from glassworks.circuits.sentence_pairs import Case, Encoded, encode
from glassworks.circuits.subnetwork_evaluation import Scores, check_cases
from glassworks.circuits.subnetwork_search import Subnetwork
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means, load_means, save_means, weights_sha
from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.foundations.files import atomic_write, write_json
from glassworks.foundations.models import load_model, load_tokenizer

FORMAT = "glassworks subnetwork 1"
FOLDER, MASK, ALPHA, MEANS, METRICS = (
    "subnetworks",
    "mask.json",
    "alpha.safetensors",
    "means.safetensors",
    "metrics.json",
)
STATES = "states"
"""Where the searches of an unfinished run keep what they need to go on; removed at its end."""

MAX_LENGTH = 128
Accuracies = dict[str, dict[str, dict[str, float]]]
"""Seed -> sparsity in per cent -> case -> accuracy."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A classifier, its parts and its tokenizer."""

    parts: Parts
    tokenizer: PreTrainedTokenizerBase
    sha: str

    @property
    def model(self) -> PreTrainedModel:
        """The classifier itself."""
        return self.parts.model

    @property
    def classes(self) -> int:
        """Number of labels."""
        return int(self.model.config.num_labels or 0)

    def encode_cases(self, cases: Sequence[Case]) -> dict[str, Encoded]:
        """Each case's tokens by name; labels and counterparts are checked first."""
        check_cases(cases, self.classes)
        return {case.name: encode(case.examples, self.tokenizer, max_length=self.max_length) for case in cases}

    @property
    def max_length(self) -> int:
        """Tokens a text may have: the paper's 128, or what the model has positions for."""
        return min(MAX_LENGTH, int(getattr(self.model.config, "max_position_embeddings", MAX_LENGTH) or MAX_LENGTH))


def prepare(model: str, device: str = "auto") -> Prepared:
    """Load a sequence classifier and find its parts."""
    loaded, tokenizer = load_model(model, task="sequence_classification", device=device), load_tokenizer(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if loaded.config.pad_token_id is None:  # a decoder's classifier reads the last token that is not padding
        loaded.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right"
    return Prepared(parts_of(loaded), tokenizer, weights_sha(loaded))


def save_subnetwork(folder: Path, found: Subnetwork, *, model: str, model_sha: str, ablation: Ablation) -> Path:
    """Write mask and gates below a run folder; returns the subnetwork's own folder."""
    own = folder / FOLDER / f"{found.seed}-{found.sparsity:g}"
    layers, heads = found.mask.heads.shape
    with atomic_write(own / ALPHA) as temporary:
        save_file({"alpha": found.alpha.contiguous()}, temporary)
    about = {
        "format": FORMAT, "model": model, "model_sha": model_sha, "layers": layers, "heads": heads, "seed": found.seed,
        "sparsity": found.sparsity, "ablation": ablation, "kl_soft": found.kl_soft, "kl": found.kl,
        "one_trajectory": found.one_trajectory, "kept": found.mask.names(), "idle": found.idle.names(),
    }  # fmt: skip
    write_json(own / MASK, about)
    return own


def load_subnetwork(folder: Path) -> tuple[Subnetwork, dict[str, Any]]:
    """Read what `save_subnetwork` wrote, and the mask file's other fields."""
    try:
        about = json.loads((folder / MASK).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"no subnetwork ({error.strerror})", place=str(folder)) from None
    except json.JSONDecodeError as error:
        raise MalformedRecord(f"not valid JSON ({error.msg})", place=str(folder / MASK)) from None
    if about.get("format") != FORMAT:
        raise MalformedRecord(f"expected a '{FORMAT}' file", place=str(folder / MASK))
    mask = UnitMask.from_names(about["kept"], about["layers"], about["heads"])
    alpha = load_file(folder / ALPHA)["alpha"]
    found = Subnetwork(
        mask, alpha, about["seed"], about["sparsity"], about["kl_soft"], about["kl"], about["one_trajectory"]
    )
    return found, about


def subnetworks_of(runs: str) -> list[tuple[Subnetwork, dict[str, Any]]]:
    """All subnetworks of one or several run folders, separated by commas, by sparsity and seed.

    Raises DataNotFound where a folder has none, OptionError where they are of different models.
    """
    found = []
    for run in _folders(runs):
        folders = sorted(path.parent for path in (run / FOLDER).glob(f"*/{MASK}"))
        if not folders:
            raise DataNotFound(
                "holds no subnetworks", place=str(run), remedy="Give the folder of 'glassworks subnetworks search'."
            )
        found += [load_subnetwork(folder) for folder in folders]
    shas = {about["model_sha"] for _, about in found}
    if len(shas) > 1:
        raise OptionError(f"the subnetworks are of {len(shas)} different models", place="runs")
    return sorted(found, key=lambda item: (item[0].sparsity, item[0].seed))


def means_of(runs: str, about: Mapping[str, Any]) -> Means | None:
    """The means beside the first run's subnetworks; None where they were found with another ablation."""
    return load_means(_folders(runs)[0] / MEANS) if about["ablation"] == "mean" else None


def check_model(prepared: Prepared, about: Mapping[str, Any]) -> None:
    """Raise OptionError unless the subnetworks were found in this model."""
    if about["model_sha"] != prepared.sha:
        raise OptionError(
            f"the subnetworks were found in weights {about['model_sha']} ({about['model']}), the model's are "
            f"{prepared.sha}",
            place="model",
        )


def save_all_means(folder: Path, means: Means | None) -> None:
    """Write the means of a run, if there are any."""
    if means is not None:
        save_means(folder / MEANS, means)


def accuracies(full: Scores, scored: Sequence[tuple[Subnetwork, Scores]], *, auc: bool = False) -> Accuracies:
    """The official layout; the whole model stands under "original" and "0". auc: AUCs instead, where there are any."""

    def row(scores: Scores) -> dict[str, float]:
        found = {name: case.auc if auc else case.accuracy for name, case in scores.cases.items()}
        return {name: estimate.value for name, estimate in found.items() if estimate is not None}

    table: Accuracies = {"original": {"0": row(full)}}
    for found, scores in scored:
        table.setdefault(str(found.seed), {})[f"{100 * found.sparsity:g}"] = row(scores)
    return table


def read_accuracies(path: str | Path) -> Accuracies:
    """A metrics.json of ours or of the official release: nested by seed and sparsity, or columns with a seed list.

    In columns, the realised sparsity of each seed is rounded to per cent. Raises DataNotFound, MalformedRecord.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"no result file ({error.strerror})", place=str(path)) from None
    except json.JSONDecodeError as error:
        raise MalformedRecord(f"not valid JSON ({error.msg})", place=str(path)) from None
    if isinstance(content, dict) and isinstance(content.get("seed"), list):
        cases = [name for name in content if name not in ("seed", "sparsity")]
        return {
            str(seed): {f"{100 * content['sparsity'][row]:.0f}": {name: content[name][row] for name in cases}}
            for row, seed in enumerate(content["seed"])
        }
    try:
        return {
            str(seed): {
                str(sparsity): {str(case): float(value) for case, value in cases.items()}
                for sparsity, cases in by_sparsity.items()
            }
            for seed, by_sparsity in content.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise MalformedRecord("expected seed -> sparsity -> case -> accuracy", place=str(path)) from None


def _folders(runs: str) -> list[Path]:
    return [Path(run.strip()) for run in runs.split(",") if run.strip()]
