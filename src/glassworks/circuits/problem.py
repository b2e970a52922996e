"""What every method searches in: a gated model, prompt pairs, and what stands in for a writer that is cut off.

Ablations: the corrupted prompt's activation (interchange), zero, the mean over the clean prompts' places, or a
constant that is learned with the gates (optimal ablation, Li and Janson 2024). The full model's answers and the
corrupted activations do not change during a search; they are computed once where they fit in memory. Output:
losses and logits for gates [writers, readers]. Knows no method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.objectives import Objective, divergence, logit_difference, restricted
from glassworks.circuits.pairs import Batch, PairSet
from glassworks.circuits.prefix import Prefix
from glassworks.errors import OptionError

Ablation = Literal["interchange", "zero", "mean", "optimal"]
CACHE_BYTES = 2 * 2**30
LEAST_SHARED = 0.25
"""Share of a batch's places from which on leaving out its common prefix pays."""


class Prepared(NamedTuple):
    """A batch with what gates do not change: full [answers, choices] logits, the rest as in `MaskedModel.logits`."""

    batch: Batch
    full: Tensor
    stand_ins: Tensor | None
    prefix: Prefix | None = None


class _Known(NamedTuple):
    """What is kept of a pair: full [answers, choices], writers [writers, seq, hidden], the prefix of shared places."""

    full: Tensor
    writers: Tensor | None
    prefix: Prefix | None


class Problem:
    """Gates of `masked` judged on `pairs`. constants: the learned stand-ins [writers, hidden] of "optimal".

    Raises OptionError where no corrupted prompt differs from its clean one.
    """

    def __init__(self, masked: MaskedModel, pairs: PairSet, ablation: Ablation = "interchange") -> None:
        self.masked, self.pairs, self.ablation = masked, pairs, ablation
        self.graph = masked.graph
        if ablation == "interchange" and all(pair.clean == pair.corrupted for pair in pairs.pairs):
            raise OptionError(
                "to this tokenizer no corrupted prompt differs from its clean one", place=f"data '{pairs.name}'",
                remedy="Use prompts of words that it knows, or ablate by zero or mean.",
            )  # fmt: skip
        choices = pairs.choices
        self.choices = None if choices is None else torch.tensor(choices, device=masked.device)
        self._mean = self._mean_writers() if ablation in ("mean", "optimal") else None
        self.constants: Tensor | None = None
        if ablation == "optimal" and self._mean is not None:
            self.constants = self._mean[:, 0, 0].to(torch.promote_types(self._mean.dtype, torch.float32)).clone()
        self._known: dict[int, _Known] = {}
        tokens = sum(len(pair.clean) for pair in pairs.pairs)
        size = masked.graph.n_writers * tokens * masked.parts.hidden_size * masked.model.dtype.itemsize
        self._cached = ablation != "interchange" or size <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.pairs)

    @torch.no_grad()
    def prepare(self, indices: Sequence[int]) -> Prepared:
        """The pairs at `indices`, with the full model's logits and the stand-ins, from memory where they are kept."""
        batch = self.pairs.batch(indices, self.masked.device)
        shared = self._shared(indices, batch)
        unknown = not (self._cached and all(index in self._known for index in indices))
        if not self.masked.shards.anywhere(unknown):
            known = [self._known[index] for index in indices]
            full, stand_ins = torch.cat([one.full for one in known]), self._joined(known, batch)
            prefixes = [one.prefix for one in known if one.prefix is not None]
            if not shared or len(prefixes) < len(known):
                return Prepared(batch, full, stand_ins)
            places = min(shared, *(prefix.length for prefix in prefixes))
            return Prepared(batch, full, stand_ins, Prefix.joined(prefixes, places))
        full = restricted(self.masked.plain_logits(batch.clean, batch.at), self.choices)
        stand_ins = self.masked.writers(batch.corrupted) if self.ablation == "interchange" else self._mean
        prefix = self.masked.prefix(batch.clean[:, :shared]) if shared else None
        if self._cached:
            for at, index in enumerate(indices):
                own = stand_ins if self.ablation == "interchange" else None
                kept = None if own is None else own[:, at, : len(self.pairs.pairs[index].clean)].clone()
                self._known[index] = _Known(full[batch.at.rows == at], kept, prefix and prefix.row(at))
        return Prepared(batch, full, stand_ins, prefix)

    def _shared(self, indices: Sequence[int], batch: Batch) -> int:
        """How many places are left to the prefix: those that all pairs share, if they are enough to be worth it."""
        shared = min(self.pairs.pairs[index].shared for index in indices)
        enough = shared >= LEAST_SHARED * batch.clean.shape[1]
        return shared if enough and self.ablation == "interchange" else 0

    def batches(self, size: int) -> Iterator[Prepared]:
        """All pairs in their order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.prepare(range(start, min(start + size, len(self))))

    def logits(self, prepared: Prepared, gates: Tensor, scoring: Tensor | None = None) -> Tensor:
        """Logits [answers, choices] with `gates` [writers, readers]."""
        found = self.masked.logits(
            prepared.batch.clean,
            prepared.stand_ins,
            gates,
            prepared.batch.at,
            constants=self.constants,
            scoring=scoring,
            prefix=prepared.prefix,
        )
        return restricted(found, self.choices)

    def loss(
        self, prepared: Prepared, gates: Tensor, objective: Objective = "kl", scoring: Tensor | None = None
    ) -> Tensor:
        """Mean over the examples of KL(full || circuit), or of minus the logit difference; scalar."""
        logits = self.logits(prepared, gates, scoring)
        if objective == "kl":
            values = divergence(prepared.full, logits)
        else:
            values = -logit_difference(logits, *self.targets(prepared.batch))
        return (values * prepared.batch.weights.to(values.dtype)).sum()

    @torch.no_grad()
    def mean_loss(self, gates: Tensor, *, objective: Objective = "kl", batch_size: int = 32) -> float:
        """The loss over all pairs."""
        total = sum(
            float(self.loss(prepared, gates, objective)) * len(prepared.batch.clean)
            for prepared in self.batches(batch_size)
        )
        return total / len(self)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Targets and distractors as places among the choices, -1 for none, each int64 [answers]."""
        if self.choices is None:
            return batch.targets, batch.distractors
        place = {token: at for at, token in enumerate(self.choices.tolist())}
        found = [
            torch.tensor([place.get(token, -1) for token in tokens.tolist()], device=self.masked.device)
            for tokens in (batch.targets, batch.distractors)
        ]
        return found[0], found[1]

    def _joined(self, known: Sequence[_Known], batch: Batch) -> Tensor | None:
        if self.ablation != "interchange":
            return self._mean
        rows = [one.writers for one in known if one.writers is not None]
        shape = (self.graph.n_writers, *batch.clean.shape, self.masked.parts.hidden_size)
        lengths = {writers.shape[1] for writers in rows}
        # Padding is never read by a real place, but it must be finite.
        out = rows[0].new_empty(shape) if lengths == {shape[2]} else rows[0].new_zeros(shape)
        for at, writers in enumerate(rows):
            out[:, at, : writers.shape[1]] = writers
        return out

    @torch.no_grad()
    def _mean_writers(self) -> Tensor:
        """The mean of each writer over all real places of the clean prompts, [writers, 1, 1, hidden]."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for start in range(0, len(self), 32):
            chosen = range(start, min(start + 32, len(self)))
            batch = self.pairs.batch(chosen, self.masked.device)
            lengths = torch.tensor([len(self.pairs.pairs[index].clean) for index in chosen], device=batch.clean.device)
            real = torch.arange(batch.clean.shape[1], device=lengths.device) < lengths[:, None]
            total = total + self.masked.writers(batch.clean)[:, real].sum(dim=1, dtype=torch.float64)
            count += int(lengths.sum())
        return (total / count).to(self.masked.dtype)[:, None, None]
