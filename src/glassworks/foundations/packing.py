"""Sequences packed into rows by a token budget, and prompts computed once for all the answers they have.

Question: how to run sequences of unequal length without computing padding, and a pair or list of answers without
computing their common prompt twice, with the same result as one padded sequence each (SimPO spec, section 6).
Input: groups of token ids: a prefix and the continuations that share it; a plain sequence is a group of one.
Output: a PackedBatch, whose rows a Hugging Face decoder takes as they are (positions restart in each segment, the
masks are those of `attention_masks`), and which maps results back to (sequence, token).
Exact for softmax attention only, and with dropout off: with it, a shared prompt is dropped out once and not once
an answer. `prefix_sharing.supports_prefix_sharing` says which models qualify. Knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from glassworks.errors import DataError, EmptyResponse, OptionError
from glassworks.foundations.attention_masks import attention_masks
from glassworks.foundations.log_probs import IGNORED

Example = TypeVar("Example")


@dataclass(frozen=True)
class Group:
    """Sequences that begin with the same tokens: `prefix` + each of `continuations`.

    labels: for each continuation one label a token, IGNORED where the token is not predicted; None = predict every
    token of every continuation. Tokens of the prefix are never predicted. name: where the group comes from
    (``pairs.jsonl:418``), for errors.
    """

    continuations: Sequence[Sequence[int]]
    prefix: Sequence[int] = ()
    labels: Sequence[Sequence[int]] | None = None
    name: str = ""

    def tokens(self) -> int:
        """Places that the group takes in a row, its prefix once."""
        return len(self.prefix) + sum(len(tokens) for tokens in self.continuations)

    def separate(self) -> list[Group]:
        """One group for each continuation, each with a copy of the prefix."""
        labels = [None if self.labels is None else [wanted] for wanted in self.labels or self.continuations]
        return [
            replace(self, continuations=[tokens], labels=wanted)
            for tokens, wanted in zip(self.continuations, labels, strict=True)
        ]


class Predictions(NamedTuple):
    """The tokens to predict, in order of (sequence, token); every field int64 [predictions].

    places: index into the flattened row [rows * width] of the hidden state that predicts; targets: the token id;
    sequences: which sequence of the batch.
    """

    places: Tensor
    targets: Tensor
    sequences: Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid into rows, and the way back. Sequences are numbered through the groups in the order given.

    input_ids, position_ids, segment_ids, prefix_ids, labels: int64 [rows, width]. Segment 0 is padding; prefix_ids
    is the segment that a token sees besides its own. labels[r, c] is the label of the token at [r, c] itself, not
    shifted, since a shared prompt's last token predicts several tokens.
    places: int64 [sequences, longest]: where token t of sequence s lies in the flattened row, -1 past its end.
    starts: int64 [sequences]: length of the prefix. groups: int64 [sequences]: which group of the batch.
    """

    input_ids: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    prefix_ids: Tensor
    labels: Tensor
    places: Tensor
    starts: Tensor
    groups: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return replace(self, **moved)

    def model_inputs(self, model: PreTrainedModel) -> dict[str, Any]:
        """Keyword arguments for `model`: input_ids and position_ids [rows, width], masks [rows, 1, width, width]."""
        masks = attention_masks(model.config, self.segment_ids, self.prefix_ids, self.position_ids, dtype=model.dtype)
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": masks,
            "use_cache": False,
        }

    def unpack(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Values of the packed tokens [rows, width, ...] as right-padded sequences [sequences, longest, ...]."""
        taken = values.flatten(0, 1)[self.places.clamp(min=0)]
        absent = (self.places < 0).reshape(*self.places.shape, *[1] * (values.ndim - 2))
        return taken.masked_fill(absent, fill)

    def predictions(self) -> Predictions:
        """Every token that has a label and a token before it."""
        own, before = self.places[:, 1:], self.places[:, :-1]
        targets = self.labels.flatten()[own.clamp(min=0)]
        sequences, tokens = torch.nonzero((own >= 0) & (targets != IGNORED), as_tuple=True)
        return Predictions(before[sequences, tokens], targets[sequences, tokens], sequences)


def fill_rows(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Assign items to rows of `budget` tokens, first-fit decreasing: at most 11/9 of the fewest rows possible, plus 1.

    lengths: tokens an item, each in [0, budget]. Returns the items of each row; ties keep the order given, so the
    result depends on nothing else. Raises DataError for an item above the budget.
    """
    for item, length in enumerate(lengths):
        if length > budget:
            raise DataError(
                f"{length} tokens do not fit the budget of {budget} tokens a row",
                place=f"row {item}",
                remedy="Raise the token budget or shorten the row.",
            )
    free = np.full(max(len(lengths), 1), budget)
    rows: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = int(np.argmax(free[: len(rows) + 1] >= lengths[item]))
        if row == len(rows):
            rows.append([])
        rows[row].append(item)
        free[row] -= lengths[item]
    return rows


def pack(
    groups: Sequence[Group],
    budget: int | None = None,
    *,
    pad_token_id: int = 0,
    share_prefix: bool = True,
    full_width: bool = False,
) -> PackedBatch:
    """Lay groups into rows of at most `budget` tokens: one micro-batch.

    budget: None = the longest item, which is best where attention computes what the mask hides (SDPA, eager: the
    cost of a row is quadratic in its width); wide rows pay with flex attention, which skips hidden blocks.
    share_prefix: compute a prefix once a group, which then lies within one row; else each continuation is an item
    of its own with a copy of the prefix, which any attention model takes. full_width: rows of exactly `budget`
    tokens, for compiled models; else as wide as the fullest row.
    Raises EmptyResponse for a continuation without tokens and DataError for an item above the budget, with the
    group's name.
    """
    items = [
        (number, part)
        for number, group in enumerate(groups)
        for part in ([group] if share_prefix else group.separate())
    ]
    lengths = [part.tokens() for _, part in items]
    budget = max(lengths, default=0) if budget is None else budget
    for (number, part), length in zip(items, lengths, strict=True):
        _check(part, part.name or f"row {number}", length, budget)
    rows = fill_rows(lengths, budget)
    width = budget if full_width else max((sum(lengths[i] for i in row) for row in rows), default=0)
    canvas = _Canvas(len(rows), width, pad_token_id)
    laid = {i: canvas.lay(row, items[i][1]) for row, members in enumerate(rows) for i in members}
    sequences = [(number, places) for i, (number, _) in enumerate(items) for places in laid[i]]
    return PackedBatch(
        **canvas.tensors(),
        places=pad_sequence([torch.tensor(places) for _, places in sequences], True, -1)
        if sequences
        else torch.zeros(0, 0, dtype=torch.long),
        starts=torch.tensor([len(groups[number].prefix) for number, _ in sequences], dtype=torch.long),
        groups=torch.tensor([number for number, _ in sequences], dtype=torch.long),
    )


class PackingCollator:
    """A data collator that packs: list of dataset items -> {"packed": PackedBatch}.

    to_group: makes a Group of an item; an item that is a list (a row of PackedRows) is taken as several.
    budget, share_prefix: as for `pack`.
    """

    def __init__(
        self,
        budget: int | None = None,
        to_group: Callable[[Any], Group] = lambda item: item,
        *,
        pad_token_id: int = 0,
        share_prefix: bool = True,
    ) -> None:
        self.budget, self.to_group = budget, to_group
        self.pad_token_id, self.share_prefix = pad_token_id, share_prefix

    def __call__(self, items: Sequence[Any]) -> dict[str, PackedBatch]:
        """One micro-batch of the items."""
        flat = [one for item in items for one in (item if isinstance(item, list) else [item])]
        groups = [self.to_group(item) for item in flat]
        packed = pack(groups, self.budget, pad_token_id=self.pad_token_id, share_prefix=self.share_prefix)
        return {"packed": packed}


class PackedRows(Dataset[list[Example]]):
    """A dataset whose items are full rows: lists of `examples` that `fill_rows` puts together.

    With it a batch size counts rows of `budget` tokens and no longer sequences, so a step's memory is bounded.
    lengths: tokens an example takes, in the order of the examples.
    """

    def __init__(self, examples: Sequence[Example], lengths: Sequence[int], budget: int) -> None:
        if len(examples) != len(lengths):
            raise OptionError(f"{len(examples)} examples but {len(lengths)} lengths", place="lengths")
        self.examples = examples
        self.rows = fill_rows(lengths, budget)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> list[Example]:
        """The examples of one row."""
        return [self.examples[i] for i in self.rows[index]]


class _Canvas:
    """The rows while they are filled, as arrays [rows, width]."""

    def __init__(self, rows: int, width: int, pad_token_id: int) -> None:
        shape = (rows, width)
        self.input_ids = np.full(shape, pad_token_id, dtype=np.int64)
        self.position_ids = np.zeros(shape, dtype=np.int64)
        self.segment_ids = np.zeros(shape, dtype=np.int64)
        self.prefix_ids = np.zeros(shape, dtype=np.int64)
        self.labels = np.full(shape, IGNORED, dtype=np.int64)
        self.used = [0] * rows
        self.segments = [0] * rows

    def lay(self, row: int, group: Group) -> list[list[int]]:
        """Write a group into a row; the places of the tokens of each of its sequences."""
        start, unlabelled = len(group.prefix), [IGNORED] * len(group.prefix)
        labels = group.continuations if group.labels is None else group.labels
        if len(group.continuations) == 1:
            return [self._segment(row, [*group.prefix, *group.continuations[0]], [*unlabelled, *labels[0]])]
        shared, prefix_id = self._segment(row, group.prefix, unlabelled), self.segments[row]
        return [
            shared + self._segment(row, tokens, wanted, start, prefix_id)
            for tokens, wanted in zip(group.continuations, labels, strict=True)
        ]

    def _segment(
        self, row: int, tokens: Sequence[int], labels: Sequence[int], position: int = 0, prefix_id: int = 0
    ) -> list[int]:
        first, width = self.used[row], self.input_ids.shape[1]
        self.used[row] += len(tokens)
        self.segments[row] += 1
        span = slice(first, self.used[row])
        self.input_ids[row, span] = tokens
        self.labels[row, span] = labels
        self.position_ids[row, span] = np.arange(position, position + len(tokens))
        self.segment_ids[row, span] = self.segments[row]
        self.prefix_ids[row, span] = prefix_id or self.segments[row]
        return list(range(row * width + first, row * width + self.used[row]))

    def tensors(self) -> dict[str, Tensor]:
        """The five arrays as tensors int64 [rows, width]."""
        names = ("input_ids", "position_ids", "segment_ids", "prefix_ids", "labels")
        return {name: torch.from_numpy(getattr(self, name)) for name in names}


def _check(group: Group, name: str, length: int, budget: int) -> None:
    if any(len(tokens) == 0 for tokens in group.continuations):
        raise EmptyResponse("a continuation has no token", place=name, remedy="Drop the row or shorten its prompt.")
    if group.labels is not None and [len(x) for x in group.labels] != [len(x) for x in group.continuations]:
        raise DataError("the labels are not as many as the tokens of the continuations", place=name)
    if length > budget:
        raise DataError(
            f"the group has {length} tokens, the budget is {budget} tokens a row",
            place=name,
            remedy="Raise the token budget or shorten the row.",
        )
