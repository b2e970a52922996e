"""Is every part of this model known, and does its chat template keep training and generation apart?

The verb `check-model`: loads a model, finds its anatomy, proves it on random input and examines the chat template.
Inputs: anything `models.load_model` loads, with a language-model, masked-language-model or classification head.
Outputs: `anatomy.json` and `anatomy.txt`, `template.json`, and evidence. Knows no system that uses the parts.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from glassworks.errors import TemplateError
from glassworks.foundations.anatomy import PROBE_LENGTH, anatomy
from glassworks.foundations.check_template import TemplateReport, check_template_of
from glassworks.foundations.checkpoints import read_config
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json, write_text
from glassworks.foundations.models import Task, load_model, load_tokenizer, model_sha, resolve_model
from glassworks.foundations.parts import Anatomy
from glassworks.foundations.runs import Run

log = logging.getLogger(__name__)

HEADS: dict[str, Task] = {
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "ForSequenceClassification": "sequence_classification",
}
"""How the name of a checkpoint's class ends -> the task to load it for; a language model otherwise."""


def check_model(
    model: str,
    out: str = "runs/check-model",
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> Run:
    """Find the parts of a model, prove that they are all of it, and examine its chat template.

    Raises UnsupportedArchitecture where parts are not found or the model's output cannot be recomposed from them,
    and the errors of loading.

    Args:
        model: Hugging Face id, folder, .gguf file or packaged:NAME.
        out: the run folder; holds anatomy.json, anatomy.txt and template.json.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto (as stored), float32, bfloat16 or float16; float32 proves most sharply.
        trust_remote_code: allow Python code from the checkpoint to run.
    """
    arguments = dict(locals())
    with Run.start(out, check_model, arguments) as run:
        task = _task(model, trust_remote_code)  # first, since it refuses what is no checkpoint as such
        tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
        loaded = load_model(
            model,
            task=task,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
        )
        found = anatomy(loaded)
        report, note = _template(tokenizer, model)
        write_json(run.path / "anatomy.json", found.as_dict())
        write_text(run.path / "anatomy.txt", found.describe() + "\n")
        write_json(run.path / "template.json", dataclasses.asdict(report) if report else {"note": note})
        run.record(*_evidence(found, report, model_sha(model)))
    return run


def _task(model: str, trust_remote_code: bool) -> Task:
    """What the checkpoint was saved for, by the name of its class."""
    path = resolve_model(model, trust_remote_code=trust_remote_code)
    if not isinstance(path, Path) or not path.is_dir():
        return "causal_lm"
    names = read_config(path).get("architectures") or [""]
    return next((task for ending, task in HEADS.items() if names[0].endswith(ending)), "causal_lm")


def _template(tokenizer: PreTrainedTokenizerBase, model: str) -> tuple[TemplateReport | None, str]:
    """The report on the chat template, or a note why there is none: a base model needs no template."""
    try:
        return check_template_of(tokenizer, name=model), ""
    except TemplateError as refusal:
        log.warning("%s", refusal)
        return None, str(refusal)


def _evidence(found: Anatomy, report: TemplateReport | None, sha: str) -> list[Evidence]:
    precision = str(found.model.dtype).removeprefix("torch.")
    kind = f"{type(found.model).__name__}, {found.num_layers} layers, {found.num_heads} heads"
    assert found.difference is not None  # anatomy() was called with its check
    measured = [
        Evidence(
            system="foundations",
            claim="Largest difference between the model's logits and those recomposed from its parts",
            metric="recomposition_difference",
            value=found.difference,
            better="lower",
            n=PROBE_LENGTH,
            setting=f"{kind}; {PROBE_LENGTH} random tokens, {precision}",
            seed=0,
            model_sha=sha,
            artefact="anatomy.json",
        )
    ]
    counts = [("parameters", "Parameters of the model", found.model.num_parameters(), "anatomy.json")]
    if report is not None:
        counts += [
            ("start_tokens", "Start tokens at the front of a rendered conversation", report.bos_count, "template.json"),
            ("template_problems", "Problems found in the chat template", len(report.problems), "template.json"),
        ]
    for metric, claim, count, artefact in counts:
        better: Literal["lower", "none"] = "lower" if metric == "template_problems" else "none"
        item = Evidence("foundations", claim, metric, float(count), better=better, setting=kind)
        measured.append(dataclasses.replace(item, model_sha=sha, artefact=artefact))
    return measured
