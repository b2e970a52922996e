"""How outputs are shown to a judge: swapped and un-swapped, both sides, turn by turn. The judge here follows a rule."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from glassworks.foundations.chat import Message
from glassworks.foundations.generation import Sampling
from glassworks.preference.judges import JudgeOptions
from glassworks.preference.judging import is_swapped, judge_alpaca, judge_arena, judge_mt_bench


class RuleJudge:
    """Prefers the longer output by 9 to 1; grades 1 + the number of turns shown."""

    name = "rule"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def top_tokens(self, prompts: Sequence[list[Message]]) -> list[dict[str, float]]:
        found = []
        for prompt in prompts:
            first, second = re.search(r"m:\n(.*?)\n\nAnswer M:\n(.*?)\n\n", prompt[0]["content"], re.S).groups()  # type: ignore[union-attr]
            likes = 0.9 if len(second) > len(first) else 0.1
            found.append(
                {} if first == "mute" or second == "mute" else {"M": math.log(likes), "m": math.log(1 - likes)}
            )
        return found

    def write(self, prompts: Sequence[list[Message]], options: Sampling) -> list[str]:
        self.seen += [prompt[0]["content"] for prompt in prompts]
        texts = []
        for text in self.seen[-len(prompts) :]:
            if "assistant A" in text:
                a, b = re.search(r"A:\n(.*?)\n\nAnswer of assistant B:\n(.*)$", text, re.S).groups()  # type: ignore[union-attr]
                texts.append("so [[A>>B]]" if len(a) > len(b) else "so [[B>A]]")
            else:
                texts.append(f"[[{1 + text.count('User:')}]]")
        return texts


def test_the_order_is_drawn_and_undone() -> None:
    rows = [{"instruction": f"i{n}", "output_1": "short", "output_2": "much longer"} for n in range(40)]
    swapped = [is_swapped(row["instruction"], 0) for row in rows]
    assert 10 < sum(swapped) < 30
    assert swapped != [is_swapped(row["instruction"], 1) for row in rows]
    judged = judge_alpaca(RuleJudge(), rows, JudgeOptions())
    assert {round(row["preference"], 9) for row in judged} == {1.9}
    assert [row["is_switched_outputs"] for row in judged] == swapped
    mirrored = [{**row, "output_1": row["output_2"], "output_2": row["output_1"]} for row in rows]
    assert {round(row["preference"], 9) for row in judge_alpaca(RuleJudge(), mirrored, JudgeOptions())} == {1.1}


def test_a_judge_that_names_no_label_gives_no_preference() -> None:
    rows = [{"instruction": "i", "output_1": "mute", "output_2": "x"}]
    assert judge_alpaca(RuleJudge(), rows, JudgeOptions())[0]["preference"] is None


def test_two_games_with_the_baseline_as_a_first() -> None:
    answers = {"q": {"texts": ["a long answer"], "model": "mine"}}
    baseline = {"q": {"texts": ["short"], "model": "base"}}
    judge = RuleJudge()
    (row,) = judge_arena(judge, answers, baseline, {"q": {"turns": ["why?"], "category": "hard"}}, JudgeOptions())
    assert [game["score"] for game in row["games"]] == ["B>A", "A>>B"]
    assert (row["model"], row["uid"], row["category"], row["judge"]) == ("mine", "q", "hard", "rule")
    assert judge.seen[0].index("short") < judge.seen[0].index("a long answer")
    assert judge.seen[1].index("a long answer") < judge.seen[1].index("short")


def test_turns_are_graded_with_what_came_before_and_their_reference() -> None:
    judge = RuleJudge()
    answers = {"1": {"texts": ["a1", "a2"], "model": "mine"}}
    questions = {"1": {"turns": ["q1", "q2"], "reference": ["r1", "r2"]}}
    rows = judge_mt_bench(judge, answers, questions, {}, JudgeOptions())
    assert [(row["turn"], row["score"]) for row in rows] == [(1, 2.0), (2, 3.0)]
    assert "q2" not in judge.seen[0]
    assert "r1" in judge.seen[0]
    assert "r2" in judge.seen[1]
    better = judge_mt_bench(judge, answers, questions, {"1": ["gold1", "gold2"]}, JudgeOptions())
    assert "gold1" in better[0]["user_prompt"]
    assert "r1" not in better[0]["user_prompt"]
