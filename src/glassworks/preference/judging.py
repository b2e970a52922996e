"""Answers in, judgments out: how each benchmark shows outputs to a judge and reads what it says.

AlpacaEval shows two outputs, m and M, in an order drawn for each instruction, takes the next-token probabilities of
the two labels and un-swaps them. Arena-Hard plays two games with swapped sides; side A is the baseline in the first.
MT-Bench grades each turn by itself. The default prompts are ours, in the benchmarks' reply formats; published scores
need the benchmark's own prompt through `judge.template`. Returned rows are in the public formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from glassworks.foundations.chat import Message
from glassworks.preference.annotations import Row
from glassworks.preference.arena_hard import parse_verdict
from glassworks.preference.judges import Judge, JudgeOptions, fill_template, label_probability, read_template
from glassworks.preference.mt_bench import NO_GRADE, parse_grade

PAIR_TEMPLATE = """Two systems answered the same instruction. Decide which answer a careful person would prefer.

Instruction:
{instruction}

Answer m:
{output_1}

Answer M:
{output_2}

Reply with the label of the better answer, m or M, and nothing else.
Better answer:"""

ARENA_TEMPLATE = """Compare two assistants' answers to a request. First work out what a correct and helpful answer
needs, then weigh accuracy, usefulness and clarity. The order of the answers must not matter. Explain briefly and end
with one verdict in double brackets: [[A>>B]] if A is much better, [[A>B]], [[A=B]], [[B>A]] or [[B>>A]].

Request:
{question}

Answer of assistant A:
{answer_a}

Answer of assistant B:
{answer_b}"""

GRADE_TEMPLATE = """Grade the last answer in this conversation for correctness, helpfulness, depth and clarity. Explain
briefly and end with a grade from 1 to 10 in double brackets, as in [[5]].
{reference}
Conversation:
{conversation}"""


def judge_alpaca(judge: Judge, rows: Sequence[Row], options: JudgeOptions) -> list[Row]:
    """The comparisons with `preference`: 1 + P(output_2 is better); null where the judge named neither label."""
    template = read_template(options.template, PAIR_TEMPLATE, ("instruction", "output_1", "output_2"))
    swapped = [is_swapped(row["instruction"], options.seed) for row in rows]
    prompts = []
    for row, swap in zip(rows, swapped, strict=True):
        first, second = (row["output_2"], row["output_1"]) if swap else (row["output_1"], row["output_2"])
        prompts.append(
            fill_template(template, {"instruction": row["instruction"], "output_1": first, "output_2": second})
        )
    judged = []
    for row, swap, top in zip(rows, swapped, judge.top_tokens(prompts), strict=True):
        second_wins = label_probability(top, "m", "M")
        p = None if second_wins is None else 1 - second_wins if swap else second_wins
        preference = None if p is None else 1 + p
        judged.append({**row, "annotator": judge.name, "preference": preference, "is_switched_outputs": swap})
    return judged


def is_swapped(instruction: str, seed: int) -> bool:
    """Whether the model's output is shown first: half of all instructions, the same ones for every model."""
    return hashlib.sha256(f"{seed}\0{instruction}".encode()).digest()[0] % 2 == 1


def judge_arena(
    judge: Judge,
    answers: Mapping[str, Row],
    baseline: Mapping[str, Row],
    questions: Mapping[str, Row],
    options: JudgeOptions,
) -> list[Row]:
    """A judgment of two games for every question that the model answered."""
    template = read_template(options.template, ARENA_TEMPLATE, ())
    keys, prompts = list(answers), []
    for key in keys:
        ours, theirs, turns = answers[key]["texts"], baseline[key]["texts"], questions[key]["turns"]
        prompts += [_game(template, turns, *sides) for sides in ((theirs, ours), (ours, theirs))]
    texts = judge.write(prompts, options.sampling)
    rows = []
    for at, key in enumerate(keys):
        games = [
            {"user_prompt": prompts[i][-1]["content"], "judgment": texts[i], "score": parse_verdict(texts[i])}
            for i in (2 * at, 2 * at + 1)
        ]
        question = questions[key]
        rows.append({
            "uid": key, "question_id": key, "category": question.get("category", ""),
            "model": answers[key]["model"], "judge": judge.name, "games": games,
        })  # fmt: skip
    return rows


def _game(template: str, turns: Sequence[str], side_a: Sequence[str], side_b: Sequence[str]) -> list[Message]:
    question, answer_a, answer_b = "\n\n".join(turns), "\n\n".join(side_a), "\n\n".join(side_b)
    numbered = {f"question_{i}": turn for i, turn in enumerate(turns, start=1)}
    numbered |= {"answer_1": answer_a, "answer_2": answer_b}  # the names in the official templates
    return fill_template(
        template, {"question": question, "answer_a": answer_a, "answer_b": answer_b, **numbered, "QUESTION": question,
                   "ANSWER_A": answer_a, "ANSWER_B": answer_b}
    )  # fmt: skip


def judge_mt_bench(
    judge: Judge,
    answers: Mapping[str, Row],
    questions: Mapping[str, Row],
    references: Mapping[str, Sequence[str]],
    options: JudgeOptions,
) -> list[Row]:
    """A grade of every turn of every question that the model answered; -1 where the judge gave none."""
    template = read_template(options.template, GRADE_TEMPLATE, ("conversation",))
    asked = [(key, turn) for key, row in answers.items() for turn in range(len(row["texts"]))]
    prompts = []
    for key, turn in asked:
        gold = references.get(key) or questions[key].get("reference") or ()
        reference = f"\nReference answer:\n{gold[turn]}\n" if turn < len(gold) else ""
        said = zip(questions[key]["turns"][: turn + 1], answers[key]["texts"][: turn + 1], strict=True)
        conversation = "\n\n".join(f"User: {question}\n\nAssistant: {answer}" for question, answer in said)
        prompts.append(fill_template(template, {"reference": reference, "conversation": conversation}))
    texts = judge.write(prompts, options.sampling)
    rows = []
    for (key, turn), prompt, text in zip(asked, prompts, texts, strict=True):
        score = parse_grade(text)
        rows.append({
            "question_id": key, "model": answers[key]["model"], "judge": [judge.name, "single"], "turn": turn + 1,
            "user_prompt": prompt[-1]["content"], "judgment": text, "score": NO_GRADE if score is None else score,
        })  # fmt: skip
    return rows
