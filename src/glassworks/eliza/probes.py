"""Verb `eliza probe`: does a model's copying head look for content or for a position?

Friedman et al. 2025 (arXiv 2407.10949), section 5.3. At every copy step the query of the last layer's copying head is
compared with keys of user tokens pooled over conversations: content(n) is its product with the mean key that follows
the same n + 1 tokens at another place, position(n) with the mean key at the target's place that follows other n + 1
tokens. A place counts from the conversation's first token; steps where a pool is empty are left out and counted. The
copying head is the one that looks at the target most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassworks.eliza.interpreter import Turn
from glassworks.eliza.script import ELIZA, END, USER, Script, Token, captures, match
from glassworks.eliza.trial import Trial, open_trial
from glassworks.errors import MalformedRecord
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.attention import project
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.parts import Anatomy
from glassworks.foundations.recompose import normed, streams, trace
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import proportion

WINDOWS = range(5)
MOST_STEPS = 1024


@dataclass(frozen=True)
class Pools:
    """queries [steps, heads, dim] with the target's place [steps] and the tokens before it [steps, windows].

    keys [n, heads, dim] with places [n] and the tokens before each [n, windows], nearest first, -1 where none are.
    """

    queries: Tensor
    targets: Tensor
    contexts: Tensor
    keys: Tensor
    places: Tensor
    before: Tensor


def eliza_probe(
    model: str,
    data: str,
    out: str = "runs/eliza-probe",
    split: str = "test",
    limit: int = 100,
    device: str = "auto",
) -> Run:
    """Tell whether a model copies by content or by position, by its copying head's queries and keys.

    Args:
        model: Folder of a trained or compiled model.
        data: Folder of `eliza generate` or of the official generator.
        out: The run folder.
        split: Which split: test, validation or train.
        limit: Conversations that keys are pooled over.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_probe, arguments) as run:
        trial = open_trial(model, data, split, limit, device)
        pools, head = collect(anatomy(trial.model), trial)
        for n in WINDOWS:
            content, position = scores(pools, head, n)
            if not len(content):
                continue
            share = proportion(int((position > content).sum()), len(content))
            claim = f"Copy steps whose query prefers position to content, {n + 1} token{'s' * (n > 0)} of context"
            setting = f"{split}, last layer, head {head}, {len(pools.targets)} copy steps"
            run.record(
                trial.stamp(Evidence("eliza", claim, f"position_preferred_{n}", share.value, n=len(content),
                                     interval=share.interval, setting=setting))
            )  # fmt: skip
        if not run.evidence:
            raise MalformedRecord("no copy step has keys of both kinds", place=trial.file)
    return run


def copy_steps(script: Script, turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """Where words of the current input are copied: (position that predicts, position of the word), one a word."""
    steps: list[tuple[int, int]] = []
    at = 1
    for turn in turns:
        written = at + len(turn.sentence)
        rule: Sequence[Token] = script.rules[turn.template][turn.rule] if turn.dequeued is None else ()
        ends = match(script.templates[turn.template], turn.sentence)
        assert ends is not None
        spans = captures(script.templates[turn.template], turn.sentence, ends)
        for token in rule:
            if isinstance(token, int):
                places = range(*spans[token])
                steps += [(written + step - 1, at + place) for step, place in enumerate(places)]
                written += len(places)
            else:
                written += 1
        at += len(turn.sentence) + len(turn.reply)
    return steps


@torch.no_grad()
def collect(found: Anatomy, trial: Trial) -> tuple[Pools, int]:
    """Queries of copy steps, keys of user tokens, and the copying head."""
    queries: list[Tensor] = []
    targets: list[int] = []
    contexts: list[list[int]] = []
    keys, places, before = [], [], []
    looks: list[Tensor] = []
    for example, turns in zip(trial.examples, trial.conversations, strict=True):
        steps = copy_steps(trial.script, turns)
        ids = torch.tensor([trial.tokenizer.convert_tokens_to_ids(list(example.tokens))], device=found.model.device)
        q, k = last_queries_and_keys(found, ids)
        said, speaking = [], False
        for place, token in enumerate(example.tokens):
            speaking = token == USER or (speaking and token != ELIZA)
            if speaking and token not in (USER, END):
                said.append(place)
        keys.append(k[said])
        places.append(torch.tensor(said))
        before.append(torch.tensor([_before(ids[0], place) for place in said]))
        for query, target in steps[: MOST_STEPS - len(queries)]:
            queries.append(q[query][None])
            targets.append(target)
            contexts.append(_before(ids[0], target))
            own = (q[query][None] * k[: query + 1]).sum(-1)
            looks.append((own.argmax(0) == target).float())
    if not queries:
        raise MalformedRecord("no word is copied", place=trial.file)
    asked = (torch.cat(queries), torch.tensor(targets), torch.tensor(contexts))
    pools = Pools(*asked, torch.cat(keys), torch.cat(places), torch.cat(before))
    return pools, int(torch.stack(looks).mean(0).argmax())


def _before(ids: Tensor, place: int) -> list[int]:
    """The tokens before a place of ids [seq], nearest first."""
    return [int(ids[place - back]) if place >= back else -1 for back in range(1, len(WINDOWS) + 1)]


def last_queries_and_keys(found: Anatomy, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of the last layer, each [seq, heads, dim], of one conversation [1, seq]."""
    layer = found.layers[-1]
    *_, stream, _ = streams(found, trace(found, ids, activations=False))
    x = normed(layer.pre_attention_norm, stream)[:, :, None].expand(-1, -1, found.num_heads, -1)
    return project(layer.attention.query, x)[0], project(layer.attention.key, x)[0]


def scores(pools: Pools, head: int, n: int) -> tuple[Tensor, Tensor]:
    """content(n) and position(n) of the copy steps that have both, each [steps]."""
    content, position = [], []
    windows = pools.before[:, : n + 1]
    for query, target, context in zip(pools.queries[:, head], pools.targets, pools.contexts, strict=True):
        alike = (windows == context[: n + 1]).all(-1)
        here = pools.places == target
        same, placed = alike & ~here, here & ~alike
        if bool(same.any()) and bool(placed.any()):
            products = pools.keys[:, head] @ query
            content.append(products[same].mean())
            position.append(products[placed].mean())
    empty = torch.empty(0)
    return (torch.stack(content), torch.stack(position)) if content else (empty, empty)
