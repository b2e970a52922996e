"""The trial: which prompts, whose answers, and the win rate of two lists of rewards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer

from glassworks.errors import OptionError
from glassworks.foundations.runs import Run
from glassworks.preference.pairs import Pair
from glassworks.preference.trial import Outcome, Trial, answer_prompts, record_trial, trial_prompts

REWARD = "glassworks.preference.brevity:brief_and_certain"


def verb(out: str) -> None:
    """A stand-in for the verb that owns the run."""


def test_prompts_are_distinct_and_as_many_as_wanted() -> None:
    def ask(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    pairs = [Pair(ask("a"), "1", "2", "x"), Pair(ask("a"), "3", "4", "y"), Pair(ask("b"), "1", "2", "z")]
    assert trial_prompts(pairs, Trial(REWARD, prompts=5)) == [ask("a"), ask("b")]
    assert trial_prompts(pairs, Trial(REWARD, prompts=1)) == [ask("a")]


def test_answers_are_greedy_and_rewarded() -> None:
    tokenizer = chat_tokenizer("zephyr")
    model = tiny_model("llama", dtype=torch.float32, vocab_size=len(tokenizer))
    trial = Trial(REWARD, max_new_tokens=5)
    prompts = [[{"role": "user", "content": "What is cold?"}], [{"role": "user", "content": "Good."}]]
    one, again = (answer_prompts(model, tokenizer, prompts, trial) for _ in range(2))
    assert one == again
    assert len(one.answers) == len(one.rewards) == 2


def test_ties_count_half_and_the_figure_of_rewards_is_kept(tmp_path: Path) -> None:
    prompts = ["p", "q", "r", "s"]
    before = Outcome(["a", "b", "c", "d"], [-1.0, -2.0, -3.0, -4.0])
    after = Outcome(["e", "f", "g", "h"], [-0.5, -2.0, -4.0, -1.0])
    with Run.start(tmp_path / "run", verb, {"out": str(tmp_path / "run")}) as run:
        record_trial(run, prompts, before, after, Trial(REWARD))
    found = {item.metric: item for item in run.evidence}
    assert found["held_out_win_rate"].value == pytest.approx(100 * 2.5 / 4)
    assert found["held_out_reward_gain"].value == pytest.approx((0.5 + 0 - 1 + 3) / 4)
    rows = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    assert [row["correct"] for row in rows] == [True, False, False, True]
    assert (run.path / "figures" / "held_out_reward.svg").exists()


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(OptionError, match="prompts"):
        Trial(prompts=0).check()
