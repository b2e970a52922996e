"""Is a compiled script the script? Tokens of replies that differ, teacher-forced and free-running.

Input: Compiled and conversations of the symbolic interpreter. Output: how many tokens were compared and how many
differ; 0 is the only right number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache

from glassworks.eliza.compiling import Compiled
from glassworks.eliza.interpreter import Turn, response_mask
from glassworks.eliza.script import ELIZA, END, START


class Difference(NamedTuple):
    """Tokens of replies compared, and those that differ."""

    tokens: int
    wrong: int


@torch.no_grad()
def differences(compiled: Compiled, tokens: Sequence[str]) -> Difference:
    """Teacher-forced: every reply token of a transcript against the most likely one after its true beginning."""
    ids = torch.tensor([compiled.encode(list(tokens))])
    chosen = compiled.model(ids).logits[0, :-1].argmax(-1)
    mask = torch.tensor(response_mask(tokens)[1:])
    return Difference(int(mask.sum()), int((chosen != ids[0, 1:])[mask].sum()))


@torch.no_grad()
def answer(compiled: Compiled, cache: DynamicCache, tokens: Sequence[str], limit: int) -> list[str]:
    """The reply that the model writes greedily after `tokens`, with E and through `.`, at most `limit` tokens.

    A machine of a keyword script may rewrite the input first: `=KEY ... .`, once or more, before E.
    cache holds what came before and is extended by the tokens and by all of the reply but its last token.
    """
    ids = compiled.encode(list(tokens))
    reply: list[str] = []
    while len(reply) < limit:
        logits = compiled.model(torch.tensor([ids]), cache=cache, use_cache=True).logits[0, -1]
        ids = [int(logits.argmax())]
        reply += compiled.decode(ids)
        if reply[-1] == END and ELIZA in reply:
            break
    return reply


def free_differences(compiled: Compiled, turns: Sequence[Turn]) -> Difference:
    """Free-running: the model answers on top of its own replies; every turn against the interpreter's."""
    cache = DynamicCache()
    tokens, wrong, pending = 0, 0, [START]
    for turn in turns:
        reply = answer(compiled, cache, [*pending, *turn.sentence], 2 * len(turn.reply) + 8)
        pending = reply[-1:]
        said, wanted = reply[reply[:1] == [ELIZA] :], list(turn.reply[1:])
        longest = max(len(said), len(wanted))
        wrong += sum(a != b for a, b in zip(said, wanted, strict=False)) + longest - min(len(said), len(wanted))
        tokens += len(wanted)
    return Difference(tokens, wrong)
