"""Verb `eliza generate`: a synthetic script and conversations with it, in the official files.

Friedman et al. 2025 (arXiv 2407.10949), appendix B. Writes script.csv, train.csv, validation.csv, test.csv, args.json
and tokenizer.json; a quarter each, at most 20,000, is held out for validation and test. Every number of the evidence
is counted on what was written.
"""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from dataclasses import asdict, replace
from string import ascii_lowercase

import numpy as np

from glassworks.eliza.compile_verb import tokenizer_of
from glassworks.eliza.conversations import (
    ConversationShape,
    Exchange,
    ScriptShape,
    check_conversations,
    check_shape,
    conversations,
    draw_script,
    tokens_of,
)
from glassworks.eliza.interpreter import response_mask
from glassworks.eliza.machine import PAD, UNKNOWN
from glassworks.eliza.script import WILDCARD, Script, shown
from glassworks.errors import OptionError
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import path_sha, write_json, write_text
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import proportion

HELD_OUT = 20_000
COLUMNS = ("conv_id", "input", "mask", "templates", "template_ids", "transformations", "transformation_ids",
           "turn_types", "tgt_turns")  # fmt: skip


def eliza_generate(
    out: str = "runs/eliza-generate",
    num_conversations: int = 4096,
    script_shape: ScriptShape = ScriptShape(),
    conversation_shape: ConversationShape = ConversationShape(),
    seed: int = 0,
) -> Run:
    """Make a synthetic ELIZA script and conversations with it, to train and test models on.

    Args:
        out: The run folder, with the official files.
        num_conversations: Conversations over all splits.
        script_shape: How the script is drawn; options have the official names.
        conversation_shape: How conversations are drawn; options have the official names.
        seed: Draws everything.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_generate, arguments) as run:
        check_shape(script_shape)
        if num_conversations < 4:
            raise OptionError(
                f"expected at least 4, one a split, received {num_conversations}", place="num_conversations"
            )
        rng = np.random.default_rng(seed)
        script = draw_script(script_shape, rng)
        check_conversations(conversation_shape, script)
        begun = time.process_time()
        drawn = list(conversations(script, conversation_shape, num_conversations, rng))
        seconds = time.process_time() - begun
        held = min(num_conversations // 4, HELD_OUT)
        parts = {"test": drawn[:held], "validation": drawn[held : 2 * held], "train": drawn[2 * held :]}
        for name, part in parts.items():
            write_text(run.path / f"{name}.csv", csv_of(part, script))
        write_text(run.path / "script.csv", script_csv(script))
        settings = {"num_conversations": num_conversations, "seed": seed, **asdict(script_shape)}
        write_json(run.path / "args.json", {**settings, **asdict(conversation_shape)})
        tokens = [PAD, *sorted({"$", ".", "E", "U", *ascii_lowercase}), UNKNOWN]
        write_text(run.path / "tokenizer.json", tokenizer_of(tokens).backend_tokenizer.to_str(pretty=True))
        _record(run, drawn, num_conversations / max(seconds, 1e-9), seed)
    return run


def csv_of(part: list[list[Exchange]], script: Script) -> str:
    """Conversations as the rows of an official file."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number, turns in enumerate(part):
        tokens = tokens_of(turns)
        forms = [script.dequeue[t.rule] if t.kind == "dequeue" else script.rules[t.template][t.rule] for t in turns]
        templates = [script.templates[(script.memory or 0) if t.kind == "dequeue" else t.template] for t in turns]
        mask = " ".join("1" if wanted else "0" for wanted in response_mask(tokens))
        fields: list[list[object]] = [
            [shown(form) for form in templates],
            [t.template for t in turns],
            [shown(form) for form in forms],
            [t.rule for t in turns],
            [t.kind for t in turns],
            [t.target for t in turns],
        ]
        rows.writerow([number, " ".join(tokens), mask, *(";".join(map(str, field)) for field in fields)])
    return text.getvalue()


def script_csv(script: Script) -> str:
    """The script as an official script.csv, dequeue rules last."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["template_id", "transformation_id", "template", "transformation", "lengths", "num_copies", "type"])
    counts: Counter[int] = Counter()
    for at, rule in script.all_rules:
        kind = (
            "memory" if at == len(script.templates) else "none" if at == len(script.templates) - 1 else "transformation"
        )
        template = script.templates[(script.memory or 0) if kind == "memory" else at]
        lengths = " ".join(str(len(run)) for run in shown(template).split(WILDCARD))
        copies = sum(isinstance(token, int) for token in rule)
        rows.writerow([at, counts[at], shown(template), shown(rule), lengths, copies, kind])
        counts[at] += 1
    return text.getvalue()


def _record(run: Run, drawn: list[list[Exchange]], rate: float, seed: int) -> None:
    kinds = Counter(turn.kind for turns in drawn for turn in turns)
    total = sum(kinds.values())
    sha = path_sha(run.path / "train.csv")[:16]
    claims = [
        Evidence("eliza", "Conversations made a second, one process", "conversations_per_second", rate, "/s", "higher"),
        Evidence("eliza", "Turns", "turns", float(total), n=len(drawn)),
    ]
    for kind, count in sorted(kinds.items()):
        share = proportion(count, total)
        claim = f"Share of turns of the type {kind}"
        claims.append(Evidence("eliza", claim, f"share_{kind}", share.value, interval=share.interval, n=total))
    run.record(*(replace(claim, seed=seed, data_sha=sha) for claim in claims))
