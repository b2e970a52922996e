"""What does reading passages in isolation cost, against plain answering, and what does a certificate cost?

Run: python benchmarks/robustness_cost.py

SmolLM2-135M, fp32, CPU, one thread, k = 10, greedy, decoding included; process seconds, medians over questions, the
three ways taking turns.
plain      all passages in one prompt, prefix reuse on.
isolated   each passage alone and the final answer to the kept keywords, batched, prefix reuse on.
naive      the same, one prompt a call, no prefix reuse.
Passages of about 45 and 200 tokens. The isolated responses of all ways are compared token by token. Certificate:
keyword with nothing undecided, responses recorded, milliseconds a question without model calls.
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
from pathlib import Path

import torch

from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import KeywordAggregator
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


def cost(shared: LocalModel, alone: LocalModel, tokens: int, repeats: int) -> dict[str, object]:
    """Process seconds a question of the three ways at one passage length."""
    options = Sampling(20, stop=("\n\n",))
    fast, slow = Reading(Responder(shared, options)), Reading(Responder(alone, options))
    aggregator, times, same = KeywordAggregator(), {"plain": [], "isolated": [], "naive": []}, True
    for turn, question in enumerate(synthetic_questions(repeats + 1, gold=0.6, wrong=0.2, seed=3)):
        passages = [padded(passage, shared, tokens) for passage in question.passages]
        taken = {
            "plain": cpu_seconds(partial(fast.plain, [(question.text, passages)])),
            "isolated": cpu_seconds(partial(aggregator.answer, fast, question.text, passages)),
        }

        def naive(question: RobustQuestion = question, passages: list[Passage] = passages) -> None:
            for unit in slow.units(passages):
                slow.responses(question.text, [unit])
            aggregator.answer(slow, question.text, passages)

        taken["naive"] = cpu_seconds(naive)
        units = fast.units(passages)
        same = same and fast.responses(question.text, units) == slow.responses(question.text, units)
        if turn:  # the first also reads the shared beginning
            for name, seconds in taken.items():
                times[name].append(seconds)
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "passage_tokens": tokens,
        "cpu_s": {name: round(value, 3) for name, value in middle.items()},
        "isolated_over_plain": round(middle["isolated"] / middle["plain"], 2),
        "naive_over_isolated": round(middle["naive"] / middle["isolated"], 2),
        "same_responses": same,
    }


def certificate_milliseconds(count: int = 200) -> float:
    """Median milliseconds of a keyword certificate with |W_B| = 0 on recorded responses."""
    reading, aggregator, taken = Reading(Responder(ScriptedReader(), Sampling())), KeywordAggregator(), []
    for question in synthetic_questions(count, gold=1.0, wrong=0.0):
        checker = holds_answer(question.answers)
        for recorded in (False, True):
            start = time.perf_counter()
            found = aggregator.certify(reading, question.text, question.passages, 1, "injection", checker)
            if recorded:
                taken.append(1000 * (time.perf_counter() - start))
        assert found.certified
        assert (found.undecided, found.calls) == (0, 0)
    return round(statistics.median(taken), 3)


def main() -> None:
    """Measure and write the results."""
    torch.set_num_threads(1)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    weights, tokenizer = load_model(MODEL, device="cpu", dtype="float32"), load_tokenizer(MODEL)
    shared, alone = LocalModel(weights, tokenizer, prefix_tokens=8192), LocalModel(weights, tokenizer)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.platform(),
        "torch": torch.__version__,
        "certificate_ms": certificate_milliseconds(),
        "cost": [cost(shared, alone, tokens, repeats) for tokens in (200, 45)],
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
