"""The largest set without contradiction, against brute force, with ties to better ranks."""

import itertools
import random

from glassworks.robustness.disagreement import contradiction_graph, maximum_independent_set, share_no_keyword
from glassworks.robustness.keywords import RuleExtractor


def test_against_brute_force() -> None:
    draw = random.Random(0)
    for _ in range(60):
        size = draw.randint(1, 8)
        edges = [0] * size
        for i, j in itertools.combinations(range(size), 2):
            if draw.random() < 0.4:
                edges[i] |= 1 << j
                edges[j] |= 1 << i
        free = [
            chosen
            for count in range(size + 1)
            for chosen in itertools.combinations(range(size), count)
            if not any(edges[i] >> j & 1 for i, j in itertools.combinations(chosen, 2))
        ]
        largest = max(map(len, free))
        assert maximum_independent_set(edges) == min(chosen for chosen in free if len(chosen) == largest)


def test_the_majority_stays_and_abstainers_contradict_nobody() -> None:
    said = ["Paris", None, "Lyon", "Paris", "in Paris"]
    edges = contradiction_graph(said, share_no_keyword(RuleExtractor().extract))
    assert edges[1] == 0
    assert maximum_independent_set(edges) == (0, 1, 3, 4)
