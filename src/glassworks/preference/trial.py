"""Does the trained model answer held-out prompts better, by a reward that the user names?

Question: how often does the model's answer after training beat its answer before, prompt by prompt? Input: prompts, a
reward function, the policy at both times. Output: the paired win rate (ties half) with its interval, the mean reward
before and after, samples. The reward is any callable ``package.module:function`` (prompts, answers) -> numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.errors import check_at_least
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.generation import LocalModel, Prompt, Sampling
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean, paired_difference
from glassworks.preference.pairs import Pair
from glassworks.preference.scorers import FunctionScorer, load_function
from glassworks.report.figures import FIGURES_FOLDER, save_figure, slopes

SAMPLES = "samples.jsonl"


@dataclass(frozen=True)
class Trial:
    """Answers to held-out prompts before and after training, judged by a reward.

    reward: package.module:function of (prompts, answers) -> one number each, higher is better; empty for no trial.
    prompts: how many held-out prompts. max_new_tokens: longest answer, tokens; answers are greedy.
    """

    reward: str = ""
    prompts: int = 32
    max_new_tokens: int = 64

    def check(self) -> None:
        """Raises OptionError where the reward cannot be imported or a count is below 1."""
        if self.reward:
            load_function(self.reward)
        check_at_least(1, **{"--trial.prompts": self.prompts, "--trial.max_new_tokens": self.max_new_tokens})


class Outcome(NamedTuple):
    """Answers of one model and their rewards, in the order of the prompts."""

    answers: list[str]
    rewards: list[float]


def trial_prompts(pairs: Sequence[Pair], trial: Trial) -> list[Prompt]:
    """The first distinct prompts of held-out pairs, as many as the trial wants."""
    distinct = {json.dumps(pair.prompt, sort_keys=True): pair.prompt for pair in pairs}
    return list(distinct.values())[: trial.prompts]


def answer_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], trial: Trial
) -> Outcome:
    """Greedy answers of `model` and their rewards. Raises OptionError for a reward that is no finite number."""
    training = model.training
    written = LocalModel(model.eval(), tokenizer).generate(list(prompts), Sampling(max_new_tokens=trial.max_new_tokens))
    model.train(training)
    answers = [one.text for one in written]
    turns = [[{"role": "user", "content": one}] if isinstance(one, str) else one for one in prompts]
    scores = FunctionScorer(trial.reward).score(turns, [[text] for text in answers])
    return Outcome(answers, [score for row in scores for score in row if score is not None])


def record_trial(
    run: Run, prompts: Sequence[Prompt], before: Outcome, after: Outcome, trial: Trial, **common: Any
) -> None:
    """Evidence, figure and samples of the two outcomes. common: hashes and seed for the evidence."""
    won, old = np.asarray(after.rewards), np.asarray(before.rewards)
    wins = 100 * (np.sign(won - old) + 1) / 2
    rate, gain = bootstrap_mean(wins), paired_difference(won, old)
    n, setting = len(wins), f"{trial.reward}; greedy, at most {trial.max_new_tokens} new tokens"
    run.record(
        Evidence("preference", "Held-out prompts on which the answer after training earns the higher reward",
                 "held_out_win_rate", rate.value, "%", "higher", _finite(rate.interval), n, 50.0, setting,
                 artefact=SAMPLES, **common),
        Evidence("preference", "Mean reward of answers to held-out prompts: gain by training", "held_out_reward_gain",
                 gain.difference, "", "higher", _finite(gain.interval), n, 0.0, setting, artefact=SAMPLES, **common),
        Evidence("preference", "Mean reward of answers to held-out prompts, after training", "held_out_reward",
                 float(won.mean()), "", "higher", _finite(bootstrap_mean(won).interval), n, float(old.mean()), setting,
                 artefact=SAMPLES, **common),
    )  # fmt: skip
    save_figure(
        slopes(before.rewards, after.rewards, labels=("before", "after"), y_label="reward of an answer"),
        run.path / FIGURES_FOLDER / "held_out_reward.svg",
        caption=f"Rewards of {n} held-out answers before and after training, by {trial.reward}.",
        alt=f"One line a prompt from before to after; the mean goes from {old.mean():.3g} to {won.mean():.3g}.",
    )
    rows = [
        {"question": _text(prompt), "answer": new, "baseline": first, "correct": bool(high > low), "reward": high}
        for prompt, new, first, high, low in zip(
            prompts, after.answers, before.answers, after.rewards, before.rewards, strict=True
        )
    ]
    write_text(run.path / SAMPLES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _finite(interval: tuple[float, float]) -> tuple[float, float] | None:
    return (float(interval[0]), float(interval[1])) if all(map(np.isfinite, interval)) else None


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
