"""Verbs `eliza evaluate` and `eliza counterfactual`: does a model reply as the script does, and by which mechanism?

Friedman et al. 2025 (arXiv 2407.10949), sections 4 and 5. Teacher-forced: a turn is right if every reply token from
behind E to `.` is the most likely one; its prefix, if the first two are. By type of turn and hardness. Edited
transcripts tell counting from tracing; compiled models answer 100 % one way, which makes them positive controls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.eliza.breakdown import hardness, shares
from glassworks.eliza.counterfactuals import Edit, EditType, edits
from glassworks.eliza.dataset import Example
from glassworks.eliza.interpreter import split_turns
from glassworks.eliza.script import ELIZA, END, START
from glassworks.eliza.trial import Trial, check_length, context, open_trial
from glassworks.errors import MalformedRecord
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import proportion

PREFIX = 2
BREAKDOWN = "breakdown.json"


class Score(NamedTuple):
    """One turn: its official type, whether all of the reply and its first two tokens are right, its summed loss.

    loss: nats over the `tokens` of the reply.
    """

    kind: str
    right: bool
    prefix: bool
    loss: float
    tokens: int


def eliza_evaluate(
    model: str,
    data: str,
    out: str = "runs/eliza-evaluate",
    split: str = "test",
    limit: int = 200,
    free_running: int = 0,
    device: str = "auto",
) -> Run:
    """Measure how often a model replies as the script does, by type of turn and by what makes a turn hard.

    Args:
        model: Folder of a trained or compiled model.
        data: Folder of `eliza generate` or of the official generator.
        out: The run folder; breakdown.json in it has shares by copied tokens and groups, queue and distance.
        split: Which split: test, validation or train.
        limit: Conversations that are measured.
        free_running: Conversations that the model also holds on top of its own replies.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_evaluate, arguments) as run:
        trial = open_trial(model, data, split, limit, device)
        by_turn = [list(turn_scores(trial.model, trial.tokenizer, example)) for example in trial.examples]
        run.record(*_score_claims(trial, [score for scores in by_turn for score in scores], split))
        rows = [
            (turn, score.right)
            for turns, scores in zip(trial.conversations, by_turn, strict=True)
            for turn, score in zip(hardness(turns, trial.script.memory), scores, strict=True)
        ]
        write_json(run.path / BREAKDOWN, shares(rows))
        if free_running:
            chosen = trial.examples[:free_running]
            own = [right for example in chosen for right in free_turns(trial.model, trial.tokenizer, example)]
            share = proportion(sum(own), len(own))
            claim = "Share of turns with the right reply, on top of the model's own replies"
            run.record(
                trial.stamp(Evidence("eliza", claim, "free_turn_accuracy", share.value, better="higher", n=len(own),
                                     interval=share.interval, setting=f"{split}, greedy"))
            )  # fmt: skip
    return run


def _score_claims(trial: Trial, scores: Sequence[Score], split: str) -> Iterator[Evidence]:
    """Accuracy of turns and of prefixes, and loss, by type of turn."""
    setting = f"{split}, teacher-forced"
    for kind in ["all", *sorted({score.kind for score in scores})]:
        chosen = [score for score in scores if kind in ("all", score.kind)]
        for metric, name in (("right", "turn"), ("prefix", "prefix")):
            share = proportion(sum(getattr(score, metric) for score in chosen), len(chosen))
            claim = f"Share of turns with the right {'reply' if name == 'turn' else 'first two tokens'}: {kind}"
            yield trial.stamp(
                Evidence("eliza", claim, f"{name}_accuracy_{kind}", share.value, better="higher", n=len(chosen),
                         interval=share.interval, setting=setting, artefact=BREAKDOWN)
            )  # fmt: skip
        tokens = sum(score.tokens for score in chosen)
        loss = sum(score.loss for score in chosen) / tokens
        yield trial.stamp(
            Evidence("eliza", f"Loss on reply tokens: {kind}", f"loss_{kind}", loss, "nats", "lower", n=tokens,
                     setting=setting)
        )  # fmt: skip


@torch.no_grad()
def free_turns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example) -> list[bool]:
    """Whether each reply that the model writes greedily, on top of its own earlier ones, is the script's."""

    def encode(tokens: Sequence[str]) -> list[int]:
        return [int(tokenizer.convert_tokens_to_ids(token)) for token in tokens]  # type: ignore[arg-type]

    right: list[bool] = []
    history, generate, longest = encode([START]), cast(Any, model).generate, context(model)
    for sentence, reply in split_turns(example.tokens):
        history += encode([*sentence, ELIZA])
        ids = torch.tensor([history], device=model.device)
        room = min(2 * len(reply) + 8, longest - len(history))
        if room < 1:
            break
        settings = {"max_new_tokens": room, "do_sample": False, "eos_token_id": encode([END])}
        said = generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(history) :].tolist()
        right.append(said == encode(reply[1:]))
        history += said
    return right


def _ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> torch.Tensor:
    """Token ids [1, seq]. Raises OptionError for more than the model reads."""
    check_length(model, len(tokens), "data")
    return torch.tensor([tokenizer.convert_tokens_to_ids(list(tokens))], device=model.device)


@torch.no_grad()
def turn_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example) -> Iterator[Score]:
    """The scores of a conversation's turns."""
    ids = _ids(model, tokenizer, example.tokens)
    logits = model(input_ids=ids).logits[0, :-1]
    hits = (logits.argmax(-1) == ids[0, 1:]).tolist()
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()
    starts = [at for at, token in enumerate(example.tokens) if token == ELIZA]
    for kind, start in zip(example.kinds, starts, strict=True):
        end = example.tokens.index(END, start)
        reply = hits[start:end]
        yield Score(kind, all(reply), all(reply[:PREFIX]), sum(losses[start:end]), len(reply))


def eliza_counterfactual(
    model: str,
    data: str,
    out: str = "runs/eliza-counterfactual",
    edit_type: EditType = "cycling",
    split: str = "test",
    limit: int = 200,
    seed: int = 0,
    device: str = "auto",
) -> Run:
    """Edit earlier replies and see whether a model's next one follows its count or its own transcript.

    Args:
        model: Folder of a trained or compiled model.
        data: Folder of `eliza generate` or of the official generator.
        out: The run folder.
        edit_type: What is edited: cycling (a reply of the same template) or memory_queue (a remembered reply).
        split: Which split: test, validation or train.
        limit: Conversations that are looked at; not every one can be edited.
        seed: Draws the edited rule.
        device: auto, cpu or cuda.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_counterfactual, arguments) as run:
        trial = open_trial(model, data, split, limit, device)
        made = edits(trial.script, trial.conversations, edit_type, seed)
        if not made:
            raise MalformedRecord(f"no conversation allows a {edit_type} edit", place=trial.file)
        outcomes = [outcome(trial.model, trial.tokenizer, edit) for edit in made]
        follows = "increment" if edit_type == "cycling" else "decrement"
        for name, claim in (("same", "as if nothing were edited (counting)"), ("other", f"by {follows} (tracing)"),
                            ("neither", "in neither way")):  # fmt: skip
            share = proportion(outcomes.count(name), len(outcomes))
            metric = f"{edit_type}_{follows if name == 'other' else name}"
            said = f"Edited transcripts that the {trial.subject} model continues {claim}"
            run.record(
                trial.stamp(Evidence("eliza", said, metric, share.value, interval=share.interval, n=len(outcomes),
                                     seed=seed, setting=split))
            )  # fmt: skip
    return run


def outcome(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, edit: Edit) -> str:
    """Which reply a model prefers after an edit: same, other or neither (teacher-forced on each)."""
    for name, reply in (("same", edit.same), ("other", edit.other)):
        if _continues(model, tokenizer, edit.prompt, reply[1:]):
            return name
    return "neither"


@torch.no_grad()
def _continues(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[str], reply: Sequence[str]
) -> bool:
    ids = _ids(model, tokenizer, [*prompt, *reply])
    chosen = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].argmax(-1)
    return torch.equal(chosen, ids[0, len(prompt) :])
