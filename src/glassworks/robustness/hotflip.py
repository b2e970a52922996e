"""Which words in front of a hostile text bring it nearest to a question's vector? White-box HotFlip on an encoder.

PoisonedRAG (Zou et al. 2024), white box, after HotFlip (Ebrahimi et al. 2018): the prefix starts as the question; each
round tries one position: the tokens with the largest first-order gain in dot score are scored exactly, and the best
replacement is kept if it really scores higher. The score never falls. In: a sentence-transformers model, a question
and a text. Out: the text with its prefix. Stands apart, since its imports take seconds.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from glassworks.foundations.models import resolve_model


class Flipped(NamedTuple):
    """text: prefix and payload. before, after: dot score with the question's vector."""

    text: str
    before: float
    after: float


def first_order_gains(embeddings: Tensor, gradient: Tensor, current: Tensor) -> Tensor:
    """Gain in score [vocab] of replacing one token: (e_v - e_current) . gradient.

    embeddings: [vocab, dim]. gradient, current: [dim], of the score at the position and of the token there.
    """
    return (embeddings - current) @ gradient


def hotflip(
    encoder: str | SentenceTransformer,
    question: str,
    text: str,
    *,
    iterations: int = 30,
    candidates: int = 100,
    max_tokens: int = 128,
    seed: int = 0,
) -> Flipped:
    """The text with a prefix that raises its dot score for the question. encoder: a model or its name."""
    model = encoder if isinstance(encoder, SentenceTransformer) else _opened(encoder)
    max_tokens = min(max_tokens, model.max_seq_length or max_tokens)
    attack = _Attack(model, question, text, max_tokens)
    draw = random.Random(seed)
    prefix = attack.tokens(question)[: max_tokens // 2]
    before = best = attack.scores([prefix])[0]
    for _ in range(iterations):
        at = draw.randrange(len(prefix))
        gains = attack.gains(prefix, at)
        gains[attack.special] = -torch.inf
        tried = [
            [*prefix[:at], int(token), *prefix[at + 1 :]]
            for token in gains.topk(min(candidates, len(gains) - len(attack.special))).indices
        ]
        scores = attack.scores(tried)
        winner = max(range(len(tried)), key=lambda number: scores[number])
        if scores[winner] > best:
            best, prefix = scores[winner], tried[winner]
    return Flipped(attack.text(prefix), before, best)


@lru_cache(maxsize=2)
def _opened(name: str) -> SentenceTransformer:
    return SentenceTransformer(str(resolve_model(name)))


class _Attack:
    """Scores and gradients of one question and payload under one encoder."""

    def __init__(self, model: SentenceTransformer, question: str, text: str, max_tokens: int) -> None:
        self.model, self.payload, self.max_tokens = model.eval(), text, max_tokens
        self.tokenizer: Any = model.tokenizer
        transformer: Any = model[0]
        self.table: Any = transformer.auto_model.get_input_embeddings()
        self.special = torch.tensor(self.tokenizer.all_special_ids)
        with torch.no_grad():
            self.query = model.encode_query([question], convert_to_tensor=True, show_progress_bar=False)[0].clone()

    def tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, prefix: list[int]) -> str:
        return f"{self.tokenizer.decode(prefix)}. {self.payload}"

    def scores(self, prefixes: list[list[int]]) -> list[float]:
        """Dot scores of the texts as the retriever would see them, tokenised anew."""
        vectors = self.model.encode_document(
            [self.text(prefix) for prefix in prefixes], convert_to_tensor=True, show_progress_bar=False
        )
        found: list[float] = (vectors @ self.query).tolist()
        return found

    def gains(self, prefix: list[int], at: int) -> Tensor:
        """First-order gains [vocab] at a position of the prefix."""
        tail = self.tokens(f". {self.payload}")
        marks = list(self.tokenizer("")["input_ids"])  # [CLS] and [SEP], or an end mark alone
        shift = len(marks) // 2
        ids = [*marks[:shift], *(prefix + tail)[: self.max_tokens - len(marks)], *marks[shift:]]
        rows = torch.tensor([ids], device=self.model.device)
        features = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
        held: list[Tensor] = []

        def hold(module: Any, inputs: Any, output: Tensor) -> None:
            output.retain_grad()
            held.append(output)

        handle = self.table.register_forward_hook(hold)
        try:
            with torch.enable_grad():
                (self.model(features)["sentence_embedding"][0] @ self.query).backward()
        finally:
            handle.remove()
        assert held[0].grad is not None
        gradient = held[0].grad[0, shift + at]
        self.model.zero_grad()
        return first_order_gains(self.table.weight.detach(), gradient, self.table.weight[prefix[at]].detach())
