"""What the tests of circuits share: the written model with its pairs, made once a process, and a random GPT-2."""

from functools import cache

import torch
from cases.tiny_models import random_tokens, tiny_model

from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.pairs import Pair, PairSet, tokenise
from glassworks.circuits.problem import Ablation, Problem
from glassworks.circuits.toy_model import TRUE_EDGES, symbol_rows, written_model
from glassworks.foundations.circuit import Circuit


@cache
def written() -> MaskedModel:
    return MaskedModel(written_model()[0])


def written_problem(n: int = 16, ablation: Ablation = "interchange") -> Problem:
    pairs = tokenise(symbol_rows(n, 0), written_model()[1], name="symbols")
    return Problem(written(), pairs, ablation)


def truth() -> Circuit:
    return Circuit.from_edges(written().graph, list(TRUE_EDGES))


def random_problem(family: str = "gpt2", n: int = 6, length: int = 7, dtype: torch.dtype = torch.float64) -> Problem:
    """Random prompts of varied length through a random model, one answer token each."""
    masked = MaskedModel(tiny_model(family, dtype=dtype))
    clean, corrupted = random_tokens(n, length, seed=1).tolist(), random_tokens(n, length, seed=2).tolist()
    pairs = []
    for at in range(n):
        size = length - at % 3
        pairs.append(Pair(tuple(clean[at][:size]), tuple(corrupted[at][:size]), size, (5 + at,), (9,)))
    return Problem(masked, PairSet("random", tuple(pairs)))
