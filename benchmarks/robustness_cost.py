"""What does reading passages in isolation cost, against plain answering, and what does a certificate cost?

Run: python benchmarks/robustness_cost.py

SmolLM2-135M, fp32, CPU, one thread, k = 10, greedy, decoding included; process seconds, medians over questions, the
ways taking turns on each question.
plain      all passages in one prompt, the prompts' beginning remembered; the faster of reading the rest in blocks that
           are remembered as well, and at once.
isolated   each passage alone and the final answer to the kept keywords, batched, beginning remembered.
naive      the same prompts, one a call, nothing remembered.
Passages of about 45 and 200 tokens. The isolated responses of both ways are compared text by text. Certificate:
keyword with nothing undecided, responses recorded, milliseconds a question without model calls.

reuse_bound. Let s be the tokens that all isolated prompts begin with and u those that each has of its own. Read one by
one, k prompts are k (s + u) tokens; with the beginning remembered, k u. Where a token costs the same in a batch as
alone, as on a processor, reading is therefore at most (s + u) / u times as fast. The built-in prompts have s = 233.
With passages of 45 tokens u is 57 and the bound 5.1, of which 4.0 is measured; with passages of 200 tokens u is 218 and
the bound 2.1, which is reached. Three times needs s >= 2 u, so it cannot be had there with these prompts; what batches
save while the answers are written comes on top, and is small.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch

from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import KeywordAggregator, answer_one, certify_answer
from glassworks.robustness.certificate import holds_answer
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.question_sets import RobustQuestion
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions

MODEL = "packaged:smollm2"
RESULTS = Path(__file__).parent / "results" / "robustness_cost.json"
FILLER = "The records of the town hall were copied by hand and kept in a dry room above the market for many years. "


def padded(passage: Passage, model: LocalModel, tokens: int) -> Passage:
    """The passage with filler up to about so many tokens."""
    text = passage.text
    while len(model.encode(text)) + 20 < tokens:
        text += " " + FILLER.strip()
    return Passage(passage.id, passage.document_id, text)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Process seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def reuse_bound(model: LocalModel, question: RobustQuestion, tokens: int) -> dict[str, float]:
    """s, u and (s + u) / u of the isolated prompts; see above."""
    reading = Reading(Responder(model, Sampling()))
    units = reading.units([padded(passage, model, tokens) for passage in question.passages])
    rows = [model.encode(reading.isolated(question.text, unit)) for unit in units]
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))
    own = statistics.mean(map(len, rows)) - shared
    return {"shared_tokens": shared, "own_tokens": round(own), "reuse_bound": round((shared + own) / own, 2)}


def cost(shared: LocalModel, alone: LocalModel, tokens: int, repeats: int) -> dict[str, object]:
    """Process seconds a question of the three ways at one passage length."""
    options = Sampling(20, stop=("\n\n",))
    fast, slow = Reading(Responder(shared, options)), Reading(Responder(alone, options))
    aggregator = KeywordAggregator()
    times: dict[str, list[float]] = {"plain_blocks": [], "plain_at_once": [], "isolated": [], "naive": []}
    same = True
    asked = synthetic_questions(repeats + 1, gold=0.6, wrong=0.2, seed=3)
    fast.prepare([(asked[0].text, asked[0].passages)])  # reads the shared beginning
    for question in asked[1:]:
        passages = [padded(passage, shared, tokens) for passage in question.passages]

        def naive(question: RobustQuestion = question, passages: list[Passage] = passages) -> None:
            for unit in slow.units(passages):
                slow.responses(question.text, [unit])
            answer_one(aggregator, slow, question.text, passages)

        for name, work in (
            ("plain_blocks", partial(fast.plain, [(question.text, passages)])),
            ("plain_at_once", partial(slow.plain, [(question.text, passages)])),
            ("isolated", partial(answer_one, aggregator, fast, question.text, passages)),
            ("naive", naive),
        ):
            times[name].append(cpu_seconds(work))
        units = fast.units(passages)
        same = same and fast.responses(question.text, units) == slow.responses(question.text, units)
    middle = {name: statistics.median(values) for name, values in times.items()}
    plain = min(middle["plain_blocks"], middle["plain_at_once"])
    return {
        "passage_tokens": tokens,
        "questions": repeats,
        "cpu_s": {name: round(value, 3) for name, value in middle.items()},
        "isolated_over_plain": round(middle["isolated"] / plain, 2),
        "naive_over_isolated": round(middle["naive"] / middle["isolated"], 2),
        **reuse_bound(alone, asked[1], tokens),
        "same_responses": same,
    }


def certificate_milliseconds(count: int = 200) -> float:
    """Median milliseconds of a keyword certificate with |W_B| = 0 on recorded responses."""
    reading, aggregator, taken = Reading(Responder(ScriptedReader(), Sampling())), KeywordAggregator(), []
    for question in synthetic_questions(count, gold=1.0, wrong=0.0):
        checker = holds_answer(question.answers)
        for recorded in (False, True):
            start = time.perf_counter()
            found = certify_answer(aggregator, reading, question.text, question.passages, 1, "injection", checker)
            if recorded:
                taken.append(1000 * (time.perf_counter() - start))
        assert found.certified
        assert (found.undecided, found.calls) == (0, 0)
    return round(statistics.median(taken), 3)


def main() -> None:
    """Measure and write the results."""
    torch.set_num_threads(1)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    weights, tokenizer = load_model(MODEL, device="cpu", dtype="float32"), load_tokenizer(MODEL)
    shared, alone = LocalModel(weights, tokenizer, prefix_tokens=8192), LocalModel(weights, tokenizer)
    result: dict[str, object] = {
        "model": MODEL,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "measured": datetime.now(UTC).date().isoformat(),
        "certificate_ms": certificate_milliseconds(),
    }
    for tokens in (45, 200):
        result[f"passages_of_{tokens}"] = cost(shared, alone, tokens, repeats)
        print(json.dumps(result, indent=2), flush=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
