"""Prompt pairs: aligned, the script's own replies, different ones, drawn by seed, and as circuit finders read them."""

import json

from cases.eliza import SMALL

from glassworks.eliza.interpreter import converse, split_turns, transcript
from glassworks.eliza.prompt_pairs import as_jsonl, prompt_pairs


def test_pairs_are_aligned_conversations_of_the_script() -> None:
    pairs = prompt_pairs(SMALL, 20, max_len=40)
    assert len(pairs) == 20
    for pair in pairs:
        assert len(pair.clean) == len(pair.corrupted) <= 40
        assert pair.clean[pair.start :] != pair.corrupted[pair.start :]
        for tokens in pair[:2]:
            turns = converse(SMALL, [sentence for sentence, _ in split_turns(tokens)])
            assert tuple(transcript(turns)) == tokens
            assert tokens[pair.start :] == turns[-1].reply[1:]


def test_drawn_by_seed() -> None:
    assert prompt_pairs(SMALL, 8, max_len=40, seed=1) == prompt_pairs(SMALL, 8, max_len=40, seed=1)
    assert prompt_pairs(SMALL, 8, max_len=40, seed=1) != prompt_pairs(SMALL, 8, max_len=40, seed=2)


def test_lines() -> None:
    pair = prompt_pairs(SMALL, 1, max_len=40)[0]
    row = json.loads(as_jsonl([pair]))
    prompt, _, answer = row["clean"].partition("<predict>")
    assert tuple(prompt.split()) == pair.clean[: pair.start]
    assert tuple(answer.removesuffix("</predict>").split()) == pair.clean[pair.start :]
