"""Verb `prefs sample`: several answers to each prompt from the model that is to be aligned.

Step 1 of on-policy preference data (Meng et al. 2024, section 3 and appendix; the official on_policy_data_gen). One
answer a prompt and seed. A conversation goes to a local model as token ids made from its rendered template, so no
second start token is added, as text prompts to vLLM and the official decode.py do. Unlike the official merge, whose
order follows the file system's, rows are in the order of the prompts, and an answer that was cut at the limit of
tokens is marked. A killed run goes on behind the last whole call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from glassworks.errors import OptionError, PromptTooLong, check_at_least
from glassworks.foundations.data import check_messages, file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.generation import LanguageModel, LocalModel, Message, Prompt, Sampling, open_language_model
from glassworks.foundations.ledger import Ledger, entry_key
from glassworks.foundations.models import model_sha
from glassworks.foundations.rows import load_rows
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean, proportion
from glassworks.preference.annotations import write_lines

logger = logging.getLogger(__name__)

RESPONSES, LEDGER, SAMPLES = "responses.jsonl", "generations.jsonl", "samples.jsonl"
OFFICIAL_SEEDS = (13, 21, 42, 79, 100)
CALL_PROMPTS = 16  # prompts a call: a kill loses at most this many answers


def prefs_sample(
    model: str,
    prompts: str,
    out: str = "runs/prefs-sample",
    seeds: tuple[int, ...] = OFFICIAL_SEEDS,
    temperature: float = 0.8,
    top_p: float = 0.95,
    max_new_tokens: int = 4096,
    column: str = "prompt",
    split: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Run:
    """Draw several answers to each prompt, as the first step of on-policy preference data.

    Shell: glassworks prefs sample packaged:smollm2 prompts.jsonl --out runs/sample

    Args:
        model: Who answers: a packaged name, a folder, a hub id, or a server http://host:port/v1#name.
        prompts: Rows with a prompt each, text or a conversation: JSONL, Parquet, a folder or a hub id.
        out: The run folder; the answers are its file responses.jsonl.
        seeds: One answer a prompt is drawn for each seed.
        temperature: Of the draw, above 0 where there are several seeds.
        top_p: Share of the probability that is drawn from.
        max_new_tokens: Longest answer, in tokens.
        column: Where a row has its prompt.
        split: Which split of a folder or hub dataset.
        limit: How many distinct prompts are answered, the first ones; none: all.
        device: Where the model runs: auto, cpu or cuda.
        dtype: Precision of the weights: auto, float32, bfloat16 or float16.
    """
    arguments = dict(locals())
    with Run.start(out, prefs_sample, arguments) as run:
        options = _check_options(seeds, temperature, top_p, max_new_tokens, limit)
        asked = read_prompts(prompts, column, split)[:limit]
        opened = open_language_model(model, device=device, dtype=dtype)
        fingerprint = opened.name if "://" in model else model_sha(model)
        conversations = [conversation(prompt) for prompt in asked]
        check_room(opened, conversations)
        ledger = Ledger(run.path / LEDGER)
        answers = [
            sample_all(opened, conversations, seed, options, ledger, fingerprint=fingerprint)
            for seed in tqdm(seeds, desc="seeds", disable=len(seeds) < 2)
        ]
        rows = [
            {
                "prompt": prompt,
                "all_generated_responses": [answers[at][row]["text"] for at in range(len(seeds))],
                "all_finish_reasons": [answers[at][row]["finish_reason"] for at in range(len(seeds))],
                "all_seeds": list(seeds),
            }
            for row, prompt in enumerate(asked)
        ]
        write_lines(run.path / RESPONSES, rows)
        _record(run, rows, answers, file_sha(prompts) if Path(prompts).exists() else "", fingerprint)
    return run


def read_prompts(source: str, column: str = "prompt", split: str | None = None) -> list[str | list[Message]]:
    """The distinct prompts of a table in their order, text or conversation; repeated ones are counted and said."""
    rows = load_rows(source, (column,), split=split)
    found: dict[str, str | list[Message]] = {}
    for number, row in enumerate(rows, start=1):
        prompt = row[column]
        if isinstance(prompt, list):
            turns = [{"role": turn.get("role"), "content": turn.get("content")} for turn in prompt]
            prompt = check_messages(turns, f"{source}, row {number}", last="user")
        elif not isinstance(prompt, str) or not prompt.strip():
            raise OptionError(f"row {number} has no text or conversation in '{column}'", place=source)
        found.setdefault(json.dumps(prompt), prompt)
    if len(found) < len(rows):
        logger.warning("%d of %d rows repeat a prompt; each is answered once", len(rows) - len(found), len(rows))
    return list(found.values())


def conversation(prompt: str | list[Message]) -> list[Message]:
    """A prompt as the conversation that the model is to go on with."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def prompt_text(prompt: str | list[Message]) -> str:
    """A prompt as a reader sees it: the text, or the conversation's last message."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def check_room(model: LanguageModel, prompts: Sequence[list[Message]]) -> None:
    """Refuse a prompt that fills a local model's context, before any answer. Raises PromptTooLong, naming the row."""
    if isinstance(model, LocalModel) and model.context is not None:
        for row, prompt in enumerate(prompts):
            tokens = len(model.encode(_for(model, prompt)))
            if tokens >= model.context:
                raise PromptTooLong(row, tokens, model.context, room=1)


def sample_all(
    model: LanguageModel,
    prompts: Sequence[list[Message]],
    seed: int,
    options: Sampling,
    ledger: Ledger,
    *,
    fingerprint: str,
) -> list[dict[str, Any]]:
    """One answer a prompt: text, finish_reason and tokens; from the ledger where it is there.

    Calls hold fixed ranges of prompts and a seed of their own, so a resumed run draws what the whole run would have.
    """
    drawn = (options.temperature, options.top_p, options.max_new_tokens, seed, fingerprint)
    keys = [entry_key(prompt, at, *drawn) for at, prompt in enumerate(prompts)]
    for first in range(0, len(prompts), CALL_PROMPTS):
        some = range(first, min(first + CALL_PROMPTS, len(prompts)))
        if all(keys[at] in ledger for at in some):
            continue
        call = Sampling(options.max_new_tokens, options.temperature, options.top_p, seed=seed * 1_000_003 + first)
        made = model.generate([_for(model, prompts[at]) for at in some], call)
        ledger.add(
            {"key": keys[at], "text": one.text, "finish_reason": one.finish_reason, "tokens": len(one.token_ids)}
            for at, one in zip(some, made, strict=True)
        )
    return [ledger[key] for key in keys]


def _for(model: LanguageModel, messages: list[Message]) -> Prompt:
    return messages if model.chat else "\n\n".join(message["content"] for message in messages)


def _check_options(
    seeds: Sequence[int], temperature: float, top_p: float, max_new_tokens: int, limit: int | None
) -> Sampling:
    if not seeds or len(set(seeds)) < len(seeds):
        raise OptionError(f"expected distinct seeds, received {list(seeds)}", place="seeds")
    check_at_least(1, limit=limit)
    if len(seeds) > 1 and temperature == 0:
        raise OptionError("0 gives the same answer for every seed", place="temperature", remedy="Use 0.8.")
    return Sampling(max_new_tokens, temperature, top_p, seed=min(seeds))


def _record(
    run: Run, rows: Sequence[dict[str, Any]], answers: Sequence[Sequence[dict[str, Any]]], data: str, fingerprint: str
) -> None:
    made = [one for seed in answers for one in seed]
    cut = proportion(sum(one["finish_reason"] == "length" for one in made), len(made))
    words = bootstrap_mean([float(len(one["text"].split())) for one in made])
    kinds = proportion(sum(len(set(row["all_generated_responses"])) > 1 for row in rows), len(rows))
    setting = f"{len(rows)} prompts, {len(answers)} answers each"
    shown = [
        ("truncated_share", "Answers cut at the limit of tokens", cut, "share", "lower"),
        ("response_words", "Length of an answer", words, "words", "none"),
        ("varied_share", "Prompts whose answers are not all the same", kinds, "share", "higher"),
    ]
    for metric, claim, one, unit, better in shown:
        ends = (one.interval.low, one.interval.high) if one.n > 1 else None
        run.record(Evidence("preference", claim, metric, one.value, unit, better, ends, one.n, setting=setting,  # type: ignore[arg-type]
                            model_sha=fingerprint[:16], data_sha=data, artefact=RESPONSES))  # fmt: skip
    if cut.value > 0.1:
        logger.warning("%.0f %% of the answers were cut: raise --max_new_tokens", 100 * cut.value)
    samples = [
        {"question": prompt_text(row["prompt"]), "answer": row["all_generated_responses"][0],
         "other answers": row["all_generated_responses"][1:]}
        for row in rows[:40]
    ]  # fmt: skip
    write_lines(run.path / SAMPLES, samples)
