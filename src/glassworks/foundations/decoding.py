"""Step-by-step decoding of several prompts with key-value caches: the engine under `LocalModel`.

Inputs: a causal model and rows of token ids. Outputs: log p(next token) [rows, vocab] after every step. Rows of
a group run as one left-padded batch; the prefix that they share is computed once, in blocks of a fixed length,
each block by itself. A block's keys and values are therefore a function of the tokens up to its end alone:
whether it is computed now or remembered from before, the bits are the same, and a group of one row gives bits
that depend on that row only. This module knows no text, no sampling policy and no stop rule.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from glassworks.errors import PromptTooLong, UnsupportedArchitecture
from glassworks.foundations.unembedding import language_model_of

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_BLOCK = {"cpu": 64, "cuda": 256}
_LOGITS_AT_ONCE = 2**26  # when texts are scored: 256 MiB in float32


class CausalForward:
    """A causal language model, called with the arguments that its forward takes, in eval mode, without gradient.

    cached: keys and values can be kept, copied and cut; otherwise every step reads the whole text again (models
    with a recurrent state, or without a cache). padded: rows of different lengths can share a batch.
    Raises UnsupportedArchitecture for encoder-decoders.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        if getattr(config, "is_encoder_decoder", False):
            raise UnsupportedArchitecture(
                f"{config.model_type} is an encoder-decoder", remedy="Use a decoder-only language model."
            )
        inner = language_model_of(model)
        self._accepted = frozenset(inspect.signature(inner.forward).parameters)
        text = config.get_text_config(decoder=True)
        stateful = getattr(inner, "_is_stateful", False) or set(getattr(text, "layer_types", None) or ()) - _ATTENTION
        self.model: Any = model
        # transformers renamed the argument in the course of version 5.
        self._cache_name = "cache" if "cache" in self._accepted else "past_key_values"
        self.cached = self._cache_name in self._accepted and not stateful
        self.padded = "attention_mask" in self._accepted
        lengths = (getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
        self.vocabulary = int(text.vocab_size)
        self.limit: int | None = next((length for length in lengths if length), None)

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        device: torch.device = self.model.device
        return device

    @torch.no_grad()
    def __call__(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DynamicCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [batch, seq, vocab], or [batch, 1, vocab] with last_only; `cache` grows by seq.

        ids [batch, seq]; mask [batch, past + seq], None where nothing is padded; positions [batch, seq].
        """
        arguments: dict[str, object] = {
            "attention_mask": mask,
            "position_ids": positions,
            self._cache_name: cache,
            "use_cache": cache is not None,
        }
        if last_only:
            arguments["logits_to_keep"] = 1
        known = {name: value for name, value in arguments.items() if name in self._accepted and value is not None}
        training = [module for module in self.model.modules() if module.training] if self.model.training else []
        self.model.eval()
        try:
            logits: Tensor = self.model(input_ids=ids, **known).logits
        finally:
            for module in training:
                module.training = True
        return logits[:, -1:] if last_only else logits


def mapped_cache(cache: DynamicCache, change: Callable[[Tensor], Tensor]) -> DynamicCache:
    """A cache with `change` applied to every layer's keys and values, each [rows, heads, seq, dim]."""
    # Layers that read another layer's keys and values stay empty.
    return DynamicCache(
        [(None, None) if keys is None else (change(keys), change(values)) for keys, values, *_ in cache]
    )


class PrefixStore:
    """Keys and values of prompt beginnings, in blocks, least recently used first to go.

    block: tokens a block. capacity: tokens kept. `read` may be called from several threads.
    """

    def __init__(self, forward: CausalForward, *, block: int | None = None, capacity: int = 8192) -> None:
        self.block = block or _BLOCK.get(forward.device.type, 256)
        self.computed_tokens = 0
        self.reused_tokens = 0
        self._forward = forward
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, ...], tuple[int, DynamicCache]] = OrderedDict()
        self._names = itertools.count(1)
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget everything: to be called where the model has changed."""
        with self._lock:
            self._blocks.clear()

    def read(self, tokens: Sequence[int]) -> DynamicCache | None:
        """The cache [1, heads, seq, dim] of `tokens`, a whole number of blocks; None for no token."""
        with self._lock:
            return self._read(tuple(tokens))

    def _read(self, tokens: tuple[int, ...]) -> DynamicCache | None:
        found, keys, parent = [], [], 0
        blocks = [tokens[start : start + self.block] for start in range(0, len(tokens), self.block)]
        for block in blocks:
            key = (parent, *block)
            if key not in self._blocks:
                break
            parent, cache = self._blocks[key]
            keys.append(key)
            found.append(cache)
        self.reused_tokens += len(found) * self.block
        running = _joined(found)
        for number, block in enumerate(blocks[len(found) :], start=len(found)):
            running = DynamicCache() if running is None else running
            first = number * self.block
            positions = torch.arange(first, first + len(block), device=self._forward.device)[None]
            ids = torch.tensor([block], device=self._forward.device)
            self._forward(ids, positions=positions, cache=running, last_only=True)
            self.computed_tokens += len(block)
            key, parent = (parent, *block), next(self._names)
            self._blocks[key] = (parent, mapped_cache(running, lambda states: states[:, :, -self.block :]))
            keys.append(key)
        for key in reversed(keys):  # a block is never older than the blocks that continue it
            self._blocks.move_to_end(key)
        while len(self._blocks) * self.block > self._capacity:
            self._blocks.popitem(last=False)
        return running


def _joined(caches: list[DynamicCache]) -> DynamicCache | None:
    """One cache from caches of consecutive blocks."""
    if not caches:
        return None
    layers = zip(*caches, strict=True)
    return DynamicCache(
        [
            (None, None)
            if parts[0][0] is None
            else (torch.cat([part[0] for part in parts], dim=2), torch.cat([part[1] for part in parts], dim=2))
            for parts in layers
        ]
    )


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


def shared_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common, leaving every row at least one token of its own."""
    shortest = min(len(row) for row in rows) - 1
    first, last = min(rows, key=list), max(rows, key=list)
    return next((i for i in range(shortest) if first[i] != last[i]), shortest)


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Token ids [rows, longest] padded with 0 on the left, and the mask of real tokens, None if all are real."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    if all(len(row) == longest for row in rows):
        return ids, None
    start = torch.tensor([longest - len(row) for row in rows], device=device)
    return ids, (torch.arange(longest, device=device) >= start[:, None]).long()


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
    shared = shared_prefix_length(rows) // store.block * store.block
    prefix = store.read(rows[0][:shared])
    ids, mask = left_padded([row[shared:] for row in rows], forward.device)
    cache = DynamicCache()
    if prefix is not None:
        cache = mapped_cache(prefix, lambda states: states.expand(len(rows), -1, -1, -1))
    positions = torch.arange(ids.shape[1], device=forward.device).expand_as(ids)
    if mask is not None:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        mask = torch.cat([mask.new_ones(len(rows), shared), mask], dim=1)
    logits = forward(ids, mask=mask, positions=positions + shared, cache=cache, last_only=True)
    return _Group(_log_softmax(logits), lengths, cache, mask)


def _read_again(forward: CausalForward, tokens: list[list[int]]) -> _Group:
    """The whole text of every row, for models without a cache that can be kept."""
    ids, mask = left_padded(tokens, forward.device)
    positions = None if mask is None else (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = forward(ids, mask=mask, positions=positions, last_only=True)
    return _Group(_log_softmax(logits), [len(row) for row in tokens], tokens=tokens)


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
