"""Clean and corrupted prompts as token ids that are aligned place by place, and batches of them.

Interchange ablation (Edge Pruning, section 2) puts what a model computes on one prompt into its run on another:
both must have as many tokens and begin their answer at the same place. Pairs that do not are refused with their
row and lengths, or skipped and counted; nothing is padded to make them fit. Input: rows of text and a tokenizer.
Output: `PairSet`, and `Batch` with the positions whose next token is judged. Knows no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from glassworks.circuits.masked_model import Positions
from glassworks.errors import MalformedRecord, NoDocuments

OnMisaligned = Literal["stop", "skip"]
_TOKEN_ID = re.compile(r"<id:(\d+)>")


@dataclass(frozen=True)
class TextPair:
    """A row before tokenisation. answer, corrupted_answer: what follows each prompt, with its leading space.

    distractor: the wrong answer that the right one is compared with; the corrupted answer where empty.
    threshold: of numbers to choose from, the place of the last wrong one (Greater-Than); -1 elsewhere.
    """

    clean: str
    corrupted: str
    answer: str
    corrupted_answer: str = ""
    distractor: str = ""
    split: str = ""
    place: str = ""
    threshold: int = -1


class Pair(NamedTuple):
    """Token ids of a pair, equally long, the last answer token left out; the answer's tokens start at `start`.

    targets, distractors: the answer's tokens and those it is compared with (-1: none), as many as are judged.
    """

    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    start: int
    targets: tuple[int, ...]
    distractors: tuple[int, ...]
    threshold: int = -1

    @property
    def shared(self) -> int:
        """How many tokens both prompts begin with, at most those before the last one that is read."""
        same = (at for at, both in enumerate(zip(self.clean, self.corrupted, strict=True)) if both[0] != both[1])
        return min(next(same, len(self.clean)), self.start - 1)


class Batch(NamedTuple):
    """Some pairs. clean, corrupted: [batch, seq], padded on the right.

    at: where the next token is judged; targets, distractors, thresholds: int64 [answers] (-1: none). weights: fp32
    [answers], so that a weighted sum is the mean over an example's tokens, then over examples.
    """

    clean: Tensor
    corrupted: Tensor
    at: Positions
    targets: Tensor
    distractors: Tensor
    thresholds: Tensor
    weights: Tensor


@dataclass(frozen=True)
class PairSet:
    """Aligned pairs of one task. choices: the only tokens that count as answers, in order, or None for all."""

    name: str
    pairs: tuple[Pair, ...]
    choices: tuple[int, ...] | None = None
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The pairs at `indices`, padded to the longest of them."""
        chosen = [self.pairs[index] for index in indices]
        length = max(len(pair.clean) for pair in chosen)

        def padded(rows: Iterable[tuple[int, ...]]) -> Tensor:
            return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)

        answers = [(at, pair, k) for at, pair in enumerate(chosen) for k in range(len(pair.targets))]
        columns = (
            [at for at, _, _ in answers],
            [pair.start - 1 + k for _, pair, k in answers],
            [pair.targets[k] for _, pair, k in answers],
            [pair.distractors[k] for _, pair, k in answers],
            [pair.threshold for _, pair, _ in answers],
        )
        rows, places, targets, distractors, thresholds = (torch.tensor(column, device=device) for column in columns)
        weights = torch.tensor([1 / (len(pair.targets) * len(chosen)) for _, pair, _ in answers], device=device)
        clean, corrupted = padded(pair.clean for pair in chosen), padded(pair.corrupted for pair in chosen)
        return Batch(clean, corrupted, Positions(rows, places), targets, distractors, thresholds, weights)

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """All pairs in their order, `size` at a time."""
        for start in range(0, len(self.pairs), size):
            yield self.batch(range(start, min(start + size, len(self.pairs))), device)

    def take(self, start: int, stop: int) -> PairSet:
        """The pairs from `start` up to `stop`."""
        return PairSet(self.name, self.pairs[start:stop], self.choices)


def tokenise(
    rows: Iterable[TextPair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    choices: Sequence[int] | None = None,
    on_misaligned: OnMisaligned = "stop",
) -> PairSet:
    """Aligned token ids of `rows`. Raises MalformedRecord, with the row and both lengths, for a pair that is not.

    on_misaligned: "skip" leaves such pairs out and counts them. Raises NoDocuments where none is left.
    """
    pairs, skipped = [], 0
    for number, row in enumerate(rows, start=1):
        try:
            pairs.append(_aligned(row, tokenizer, row.place or f"{name}, pair {number}"))
        except MalformedRecord:
            if on_misaligned == "stop":
                raise
            skipped += 1
    if not pairs:
        problem = f"no pair of {skipped} is aligned" if skipped else "there are no pairs"
        raise NoDocuments(problem, place=name, remedy="Clean and corrupted prompts need as many tokens each.")
    return PairSet(name, tuple(pairs), None if choices is None else tuple(choices), skipped)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[list[int], int]:
    """The tokens of prompt and answer, and the place of the first one that holds a character of the answer.

    An answer that is known by its token id is written <id:N>.
    """
    if found := _TOKEN_ID.fullmatch(answer):
        ids_before: list[int] = tokenizer(prompt)["input_ids"]
        return [*ids_before, int(found[1])], len(ids_before)
    encoded = tokenizer(prompt + answer, return_offsets_mapping=True)
    first = len(prompt) + len(answer) - len(answer.lstrip())
    ids: list[int] = encoded["input_ids"]
    start = next((at for at, (_, end) in enumerate(encoded["offset_mapping"]) if end > first), len(ids))
    # An end token that the tokenizer appends on its own is no part of the answer.
    while len(ids) > start and encoded["offset_mapping"][-1] == (0, 0):
        ids, encoded["offset_mapping"] = ids[:-1], encoded["offset_mapping"][:-1]
    return ids, start


def _aligned(row: TextPair, tokenizer: PreTrainedTokenizerBase, place: str) -> Pair:
    if not row.answer.strip():
        raise MalformedRecord("the answer is empty", place=place, remedy="Mark it: <predict>answer</predict>.")
    clean, start = answer_tokens(tokenizer, row.clean, row.answer)
    corrupted, other_start = answer_tokens(tokenizer, row.corrupted, row.corrupted_answer or row.answer)
    if start == 0:
        raise MalformedRecord("nothing comes before the answer", place=place, remedy="Give a prompt.")
    if start != other_start:
        raise MalformedRecord(
            f"the prompts are not aligned: the answer starts at token {start} of the clean and {other_start} of the "
            f"corrupted one ({len(clean)} and {len(corrupted)} tokens)",
            place=place,
            remedy="Reword one so that both have as many tokens, or pass on_misaligned: skip.",
        )
    if len(clean) != len(corrupted):
        raise MalformedRecord(
            f"the pair is not aligned: {len(clean)} tokens in the clean and {len(corrupted)} in the corrupted one",
            place=place,
            remedy="The answers need as many tokens, too; or pass on_misaligned: skip.",
        )
    targets = clean[start:]
    wrong = answer_tokens(tokenizer, row.clean, row.distractor)[0][start:] if row.distractor else corrupted[start:]
    distractors = [
        wrong[k] if k < len(wrong) and wrong[k] != target and wrong[:k] == targets[:k] else -1
        for k, target in enumerate(targets)
    ]
    return Pair(tuple(clean[:-1]), tuple(corrupted[:-1]), start, tuple(targets), tuple(distractors), row.threshold)
