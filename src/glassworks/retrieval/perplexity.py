"""How well does a model know the store's text, and how fast does it read and write? For models that run here.

Perplexity is exp(-mean log p(token | those before it)) over all tokens but the first of each passage; its interval
resamples passages. Reading (prefill) and writing (decoding) speed are medians of repeats on the store's passages.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from glassworks.foundations.generation import LocalModel
from glassworks.foundations.statistics import Estimate, Interval

REPEATS = 5
DECODED_ROWS, DECODED_TOKENS = 8, 8


class Perplexity(NamedTuple):
    """A model's perplexity on texts, per token; bits_per_byte: of their UTF-8, comparable between tokenizers."""

    per_token: Estimate
    bits_per_byte: float
    tokens: int


class Throughput(NamedTuple):
    """Tokens a second, medians with the range of `REPEATS`: read at batch 1, written at a batch of `rows`."""

    read: Estimate
    written: Estimate
    rows: int


def perplexity(model: LocalModel, texts: Sequence[str], *, seed: int = 0) -> Perplexity:
    """Perplexity over texts of at least two tokens, with a bootstrap interval over texts (none for one text)."""
    rows = model.token_log_probs(texts)
    scored = [(-sum(row), len(row), len(text.encode())) for text, row in zip(texts, rows, strict=True) if row]
    nats, tokens, octets = (np.array(column, dtype=float) for column in zip(*scored, strict=True))

    def ratio(some_nats: np.ndarray, some_tokens: np.ndarray, axis: int = -1) -> np.ndarray:
        found: np.ndarray = np.exp(some_nats.sum(axis=axis) / some_tokens.sum(axis=axis))
        return found

    value = float(ratio(nats, tokens))
    interval = Interval(value, value)
    if len(scored) > 1:
        found = stats.bootstrap((nats, tokens), ratio, paired=True, n_resamples=2000, method="percentile", rng=seed)
        interval = Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))
    bits = float(nats.sum() / np.log(2) / octets.sum())
    return Perplexity(Estimate(value, interval, len(scored)), bits, int(tokens.sum()))


def measure_throughput(model: LocalModel, texts: Sequence[str]) -> Throughput:
    """Reading and writing speed on `texts`, at least REPEATS of them, each read once so that no cache helps."""
    model.clear_prefixes()
    reading, writing = [], []
    for text in texts[:REPEATS]:
        tokens = len(model.encode(text))
        start = time.perf_counter()
        model.open_decoding([text])
        reading.append(tokens / (time.perf_counter() - start))
    state = model.open_decoding(texts[:DECODED_ROWS])
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(DECODED_TOKENS):
            state.append(state.log_probs.argmax(dim=-1).tolist())
        writing.append(len(state.lengths) * DECODED_TOKENS / (time.perf_counter() - start))
    return Throughput(_median(reading), _median(writing), len(state.lengths))


def _median(speeds: Sequence[float]) -> Estimate:
    return Estimate(statistics.median(speeds), Interval(min(speeds), max(speeds)), len(speeds))
