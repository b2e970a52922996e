"""Verb `prefs analyze`: what any model, trained by whatever tool, holds of preference pairs.

Question: does it order pairs as people did, by implicit reward and by likelihood, and how much of that is length
(SimPO paper, section 4: reward accuracy, likelihood ranking, length correlation)? Input: a checkpoint, pairs in the
field's columns and, for methods whose reward is relative, the model it started from. Output: evidence, figures of
margins, likelihood and length, and the pairs it orders worst, which are the first to read. Trains nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import numpy as np

from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.data import data_sha
from glassworks.foundations.files import write_text
from glassworks.foundations.models import load_model, load_tokenizer, model_sha, pick_device, resolve_model
from glassworks.foundations.runs import Run
from glassworks.preference.losses import PairLogProbs, method_of, settings_of, simpo_gamma
from glassworks.preference.pairs import Pair, PairFormat, TokenizedPair, check_template, read_pairs, tokenize_pairs
from glassworks.preference.rewards import (
    Rewards,
    held_out_log_probs,
    length_figure,
    likelihood_figure,
    margin_figure,
    reward_evidence,
    rewards_of,
)
from glassworks.report.figures import FIGURES_FOLDER, save_figure

WORST, WORST_PAIRS = "worst_pairs.jsonl", 20


def prefs_analyze(
    model: str,
    data: str,
    reference: str = "",
    out: str = "runs/prefs-analyze",
    method: str = "simpo",
    settings: dict[str, float | bool | str | None] = {},  # noqa: B006 - the command line shows it; never changed
    pairs: PairFormat = PairFormat(),
    limit: int = 500,
    seed: int = 42,
    device: str = "auto",
) -> Run:
    """Measure how a model orders preference pairs: by implicit reward, by likelihood, by length.

    Shell: glassworks prefs analyze runs/align/model pairs.jsonl --reference packaged:smollm2

    Args:
        model: Hugging Face id, folder or packaged:NAME of the model to look at.
        data: Pairs that it was not trained on, in the columns of `align`.
        reference: The model that it was trained from; needed by dpo, dpo-norm, ipo, kto and rdpo.
        out: The run folder.
        method: The method whose implicit reward is meant, as in `align`.
        settings: The method's own, such as settings.beta.
        pairs: Lengths, truncation and template rules.
        limit: At most so many pairs, drawn by seed; 0 = all.
        seed: Draws the pairs.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, prefs_analyze, arguments) as run:
        chosen = settings_of(method, settings)
        _check(method, reference, limit)
        pick_device(device)
        for name in (model, reference):
            if name:
                resolve_model(name)
        tokenizer = load_tokenizer(model)
        written, read = read_pairs(data, on_invalid=pairs.on_invalid, split=pairs.split or None)
        check_template(written, tokenizer)
        if limit and limit < len(written):
            written = random.Random(seed).sample(written, limit)
        tokenized, report = tokenize_pairs(written, tokenizer, pairs, read)
        start = _log_probs(reference, tokenized, device) if reference else None
        after = rewards_of(_log_probs(model, tokenized, device, start), method, chosen)
        before = None if start is None else rewards_of(start, method, chosen)
        named = ", ".join(f"{key} = {value}" for key, value in chosen.items() if value is not None)
        setting = f"{method}, {named}; start model {reference or 'not given'}; {report.sentence()}"
        common = {"model_sha": model_sha(model), "data_sha": data_sha(data), "artefact": WORST}
        run.record(*reward_evidence(before, after, setting, **common))
        by_name = {pair.name: pair for pair in written}
        _write_worst(run, [by_name[pair.name] for pair in tokenized], after)
        target = simpo_gamma(chosen["beta"], chosen["gamma"], chosen["gamma_beta_ratio"]) if method == "simpo" else None
        _draw(run, before, after, target)
    return run


def _check(method: str, reference: str, limit: int) -> None:
    if method_of(method).needs_reference and not reference:
        raise OptionError(
            f"the implicit reward of {method} is relative to the model that was trained from", place="reference",
            remedy="Name that model, or ask for simpo, whose reward needs none.",
        )  # fmt: skip
    check_at_least(0, limit=limit)


def _log_probs(
    model: str, pairs: Sequence[TokenizedPair], device: str, start: PairLogProbs | None = None
) -> PairLogProbs:
    """The pairs' log-probs, [pairs]; the model is freed on return, so that two never lie in memory."""
    return held_out_log_probs(load_model(model, device=device, dtype="float32"), pairs, start)


def _write_worst(run: Run, pairs: Sequence[Pair], rewards: Rewards) -> None:
    """The pairs of lowest margin, lowest first: a model's errors, or the data's."""
    order = np.argsort(rewards.margins, kind="stable")[:WORST_PAIRS]
    rows = [
        {"pair": pairs[at].name, "margin": round(float(rewards.margins[at]), 4), "prompt": pairs[at].prompt,
         "chosen": pairs[at].chosen, "rejected": pairs[at].rejected}
        for at in order
    ]  # fmt: skip
    write_text(run.path / WORST, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _draw(run: Run, before: Rewards | None, after: Rewards, target: float | None) -> None:
    folder, n = run.path / FIGURES_FOLDER, len(after.margins)
    save_figure(
        margin_figure(before, after, target),
        folder / "reward_margins.svg",
        caption=f"Implicit reward margins of {n} pairs{'' if before is None else ', before and after training'}.",
        alt=f"The mean margin is {after.margins.mean():.3g}; {(after.margins > 0).mean():.0%} are above 0.",
    )
    save_figure(
        likelihood_figure(after),
        folder / "likelihood.svg",
        caption=f"How likely the model finds the two responses of {n} pairs.",
        alt=f"Means: chosen {after.chosen_means.mean():.3g}, rejected {after.rejected_means.mean():.3g} nats a token.",
    )
    if (by_length := length_figure(after)) is not None:
        save_figure(
            by_length,
            folder / "length.svg",
            caption="Mean log-prob by length, with 95 % intervals: a slope says how much of likelihood is length.",
            alt="Two lines, chosen and rejected, from short to long responses.",
        )
