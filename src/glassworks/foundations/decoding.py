"""Step-by-step decoding of several prompts with key-value caches: the engine under `LocalModel`.

Inputs: a causal model and rows of token ids. Outputs: log p(next token) [rows, vocab] after every step. Rows of
a group run as one left-padded batch, and what they begin with in common is computed once
(`prefix_store`). A group of one row gives bits that depend on that row only, whatever was computed before.
This module knows no text, no sampling policy and no stop rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from glassworks.errors import PromptTooLong
from glassworks.foundations.causal_forward import CausalForward, mapped_cache
from glassworks.foundations.prefix_store import PrefixStore

_LOGITS_AT_ONCE = 2**26  # when texts are scored: 256 MiB in float32


@dataclass
class _Group:
    """Rows that run as one batch. lengths [rows]: tokens read, without padding.

    cache, mask [rows, padded length] (None: nothing padded): of cached models; tokens: of the others.
    """

    log_probs: Tensor
    lengths: list[int]
    cache: DynamicCache | None = None
    mask: Tensor | None = None
    tokens: list[list[int]] | None = None


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids [rows, longest], padded with 0 on the left."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)


def left_mask(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """1 for the last `length` columns of each row, int64 [rows, longest]; None where all are as long."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    return (torch.arange(longest, 0, -1, device=device) <= torch.tensor(lengths, device=device)[:, None]).long()


class Decoding:
    """Prompts read and ready for the next token; satisfies `language_model.DecodingState`.

    rows: token ids of each prompt, none empty. alone: every row is a group of its own, so its bits do not depend
    on the others; otherwise rows run as one batch. Raises PromptTooLong where a row outgrows the model's context.
    """

    def __init__(
        self, forward: CausalForward, store: PrefixStore, rows: Sequence[Sequence[int]], *, alone: bool = False
    ) -> None:
        self._forward = forward
        self._alone = alone or not forward.padded
        batches = [[row] for row in rows] if self._alone else [list(rows)]
        self._groups = [_read(forward, store, batch) for batch in batches]

    @property
    def log_probs(self) -> Tensor:
        """log p(next token) of every row, float32 [rows, vocab]."""
        return torch.cat([group.log_probs for group in self._groups])

    @property
    def lengths(self) -> list[int]:
        """Tokens read by each row [rows], the prompt's included."""
        return [length for group in self._groups for length in group.lengths]

    def append(self, tokens: int | Sequence[int]) -> None:
        """Append one token to every row: the same one, or one a row [rows]."""
        wanted = [tokens] * len(self.lengths) if isinstance(tokens, int) else list(tokens)
        if len(wanted) != len(self.lengths):
            raise ValueError(f"{len(wanted)} tokens for {len(self.lengths)} rows")
        if self._forward.limit is not None and max(self.lengths) >= self._forward.limit:
            row = self.lengths.index(max(self.lengths))
            raise PromptTooLong(row, self.lengths[row], self._forward.limit, room=1)
        for group in self._groups:
            _append(self._forward, group, [wanted.pop(0) for _ in group.lengths])

    def select(self, rows: Sequence[int]) -> Decoding:
        """A state with these rows in this order, repeated where a row is named twice; self stays usable."""
        if self._alone:
            return self._with([_forked(self._groups[row]) for row in rows])
        return self._with([_selected(group, list(rows)) for group in self._groups])

    def fork(self) -> Decoding:
        """A state that goes its own way from here. Costs nothing: caches grow by copying, never in place."""
        return self._with([_forked(group) for group in self._groups])

    def score(self, continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of every token of each continuation after this state's only row, nats; self stays as it is.

        continuations: token ids, none empty; they run as one batch, or each alone.
        """
        if len(self.lengths) != 1:
            raise ValueError(f"scoring needs a state of one row, this one has {len(self.lengths)}")
        batches = [[row] for row in continuations] if self._alone else [continuations]
        return [row for batch in batches for row in _score(self._forward, self._groups[0], batch)]

    def _with(self, groups: list[_Group]) -> Decoding:
        other = object.__new__(Decoding)
        other._forward, other._alone, other._groups = self._forward, self._alone, groups
        return other


def _read(forward: CausalForward, store: PrefixStore, rows: list[Sequence[int]]) -> _Group:
    """Prefill: the shared whole blocks once, the rest of the rows as one batch."""
    lengths = [len(row) for row in rows]
    if not forward.cached:
        return _read_again(forward, [list(row) for row in rows])
    shared = store.shareable(rows)
    prefix = store.read(rows[0][:shared])
    own = max(lengths) - shared
    cache = DynamicCache()
    if prefix is not None:
        # All padding is on the far left, because windows and relative distances are counted in columns: where a
        # shorter row would have a gap before its own part, the end of the beginning is read again instead.
        gaps = [min(max(lengths) - length, shared) for length in lengths]
        cache = mapped_cache(prefix, lambda states: _shifted(states, gaps))
    ids, mask = left_padded([row[-own:] for row in rows], forward.device), left_mask(lengths, forward.device)
    logits = forward(ids, mask=mask, positions=_positions(mask, ids, shared), cache=cache, last_only=True)
    return _Group(_log_softmax(logits), lengths, cache, mask)


def _shifted(states: Tensor, gaps: list[int]) -> Tensor:
    """Keys or values [1, heads, seq, dim] for several rows, each moved right by its gap: [rows, heads, seq, dim].

    What a gap holds is masked; what leaves on the right is read again by its row.
    """
    if not any(gaps):
        return states.expand(len(gaps), -1, -1, -1)
    columns = torch.arange(states.shape[2], device=states.device)
    source = (columns - torch.tensor(gaps, device=states.device)[:, None]).clamp(min=0)
    return states[0][:, source].transpose(0, 1)


def _positions(mask: Tensor | None, ids: Tensor, past: int) -> Tensor:
    """Places in the text of the columns of ids [rows, seq], which follow `past` columns."""
    if mask is None:
        return torch.arange(past, past + ids.shape[1], device=ids.device).expand_as(ids)
    return (mask.cumsum(dim=1) - 1).clamp(min=0)[:, past:]


def _read_again(forward: CausalForward, tokens: list[list[int]]) -> _Group:
    """The whole text of every row, for models without a cache that can be kept."""
    lengths = [len(row) for row in tokens]
    ids, mask = left_padded(tokens, forward.device), left_mask(lengths, forward.device)
    logits = forward(ids, mask=mask, positions=_positions(mask, ids, 0), last_only=True)
    return _Group(_log_softmax(logits), lengths, tokens=tokens)


def _append(forward: CausalForward, group: _Group, tokens: list[int]) -> None:
    if group.tokens is not None:
        grown = [[*row, token] for row, token in zip(group.tokens, tokens, strict=True)]
        again = _read_again(forward, grown)
        group.log_probs, group.lengths, group.tokens = again.log_probs, again.lengths, again.tokens
        return
    device = forward.device
    if group.mask is not None:
        group.mask = torch.cat([group.mask, group.mask.new_ones(len(tokens), 1)], dim=1)
    logits = forward(
        torch.tensor(tokens, device=device)[:, None],
        mask=group.mask,
        positions=torch.tensor(group.lengths, device=device)[:, None],
        cache=group.cache,
    )
    group.log_probs = _log_softmax(logits)
    group.lengths = [length + 1 for length in group.lengths]


def _score(forward: CausalForward, group: _Group, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    if group.tokens is not None:
        start = len(group.tokens[0])
        whole = _token_log_probs(forward, [[*group.tokens[0], *row] for row in rows])
        return [values[start - 1 :] for values in whole]
    heads = group.log_probs[0].tolist()
    assert group.cache is not None
    cache = mapped_cache(group.cache, lambda states: states.expand(len(rows), -1, -1, -1))
    tails = _token_log_probs(forward, rows, cache=cache, past=group.lengths[0])
    return [[heads[row[0]], *tail] for row, tail in zip(rows, tails, strict=True)]


def text_log_probs(forward: CausalForward, rows: Sequence[Sequence[int]], *, alone: bool = False) -> list[list[float]]:
    """log p(token | those before it) of every token but the first of each row, nats; one batch, or each alone."""
    batches = [[row] for row in rows] if alone else [rows]
    return [values for batch in batches for values in _token_log_probs(forward, batch)]


def _token_log_probs(
    forward: CausalForward, rows: Sequence[Sequence[int]], *, cache: DynamicCache | None = None, past: int = 0
) -> list[list[float]]:
    """log p of tokens 1.. of each row, after `past` tokens in `cache`.

    Rows are padded on the right, which no token of a causal model sees, so there is no mask.
    """
    longest = max(len(row) for row in rows)
    if longest == 1:
        return [[] for _ in rows]
    ids = torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows], device=forward.device)
    positions = torch.arange(past, past + longest - 1, device=forward.device).expand(len(rows), -1)
    step = longest
    if forward.cached:  # with a cache a text can be read piece by piece, so that few logits are held at once
        step = max(1, _LOGITS_AT_ONCE // (len(rows) * forward.vocabulary))
        cache = DynamicCache() if cache is None and step < longest - 1 else cache
    pieces = []
    for start in range(0, longest - 1, step):
        stop = min(start + step, longest - 1)
        logits = forward(ids[:, start:stop], positions=positions[:, start:stop], cache=cache)
        targets = ids[:, start + 1 : stop + 1, None]
        pieces.append(logits.gather(2, targets)[:, :, 0].float() - logits.float().logsumexp(dim=-1))
    values: list[list[float]] = torch.cat(pieces, dim=1).tolist()
    return [line[: len(row) - 1] for line, row in zip(values, rows, strict=True)]


def _selected(group: _Group, rows: list[int]) -> _Group:
    index = torch.tensor(rows, device=group.log_probs.device)
    return _Group(
        group.log_probs[index],
        [group.lengths[row] for row in rows],
        None if group.cache is None else mapped_cache(group.cache, lambda states: states[index]),
        None if group.mask is None else group.mask[index],
        None if group.tokens is None else [group.tokens[row] for row in rows],
    )


def _forked(group: _Group) -> _Group:
    cache = None if group.cache is None else mapped_cache(group.cache, lambda states: states)
    return replace(group, cache=cache, lengths=list(group.lengths))


def _log_softmax(logits: Tensor) -> Tensor:
    """[rows, 1, vocab] logits of any dtype -> [rows, vocab] log-probabilities, float32."""
    return logits[:, -1].float().log_softmax(dim=-1)
