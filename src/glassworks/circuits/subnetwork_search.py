"""Search for subnetworks: one hard-concrete gate a head and MLP block, trained with the weights frozen.

The Heuristic Core (2024, section 2): minimise KL(full || subnetwork) + lambda1 (t - s) + lambda2 (t - s)^2 over the
gates and maximise over the lambdas while the target sparsity t rises. Gates, schedule, multipliers and optimiser are
those of `foundations`, as Edge Pruning uses them. Noise and batch of a step are functions of (seed, step), so a run
that was killed and goes on equals one that was not. Units that change nothing (`idle_units`) are closed from the
start, so that an exact size spends its removals on them first; the published rule knows no such units. Input: parts of
a model, encoded examples, means. Output: a `Subnetwork` for each seed and sparsity. Reads no labels, evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.circuits.encoder_decoder import Parts, existing_units
from glassworks.circuits.head_masks import Ablation, UnitGates, gated
from glassworks.circuits.idle_units import idle_units
from glassworks.circuits.sentence_pairs import Encoded, stretches
from glassworks.circuits.subnetwork_settings import SearchConfig
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means
from glassworks.errors import NonFiniteLoss, OptionError
from glassworks.foundations import gates
from glassworks.foundations.dataflow import evaluating
from glassworks.foundations.frozen import frozen_weights
from glassworks.foundations.sparsity import (
    Lagrangian,
    SparsitySchedule,
    expected_sparsity,
    gate_optimiser,
    load_search,
    parameter_groups,
    sampled_sparsity,
    save_search,
    sparsity_of,
)

Log = Callable[[dict[str, float]], None]

CLOSED = -30.0
"""alpha of a unit that is closed for good: a sampled gate is 0 for all noise that is drawn, and it ranks last."""


@dataclass(frozen=True, eq=False)
class Subnetwork:
    """What a search found. alpha: fp32 [layers, heads + 1]; kl_soft, kl: nats an example before and after deciding.

    sparsity: the target; the mask's own is `mask.sparsity`. one_trajectory: it was read on the way to a higher one.
    """

    mask: UnitMask
    alpha: Tensor
    seed: int
    sparsity: float
    kl_soft: float
    kl: float
    one_trajectory: bool = False

    @property
    def idle(self) -> UnitMask:
        """The units that change nothing and were closed from the start."""
        return UnitMask.from_units(self.alpha == CLOSED)


def kl_divergence(full: Tensor, sub: Tensor) -> Tensor:
    """KL(full || sub) in nats, the mean over rows, scalar. full, sub: logits [rows, classes]."""
    return F.kl_div(sub.float().log_softmax(-1), full.float().log_softmax(-1), reduction="batchmean", log_target=True)


def layer_groups(layers: int, heads: int) -> Tensor:
    """Which gates the published rule rounds together, int64 [layers, heads + 1]: a layer's heads, its MLP alone."""
    groups = torch.arange(layers)[:, None].expand(layers, heads + 1).clone()
    groups[:, -1] += layers
    return groups


def search(
    parts: Parts,
    data: Encoded,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    *,
    config: SearchConfig = SearchConfig(),
    means: Means | None = None,
    ablation: Ablation = "mean",
    folder: Path | None = None,
    log: Log | None = None,
    stop_after: int | None = None,
) -> list[Subnetwork]:
    """A subnetwork for each seed and sparsity, seed by seed. The model is left as it was, also by an error.

    sparsities: shares of units removed, in [0, 1). folder: where states are kept, so that the same call goes on.
    log: called every 25 steps. stop_after: leave each run off after this step, as a killed process would. Raises
    OptionError, NonFiniteLoss and FrozenWeightChanged.
    """
    check_sparsities(sparsities)
    if not sparsities or not seeds:
        raise OptionError("at least one sparsity and one seed are needed", place="search")
    model = parts.model
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    found: list[Subnetwork] = []
    try:
        model.requires_grad_(False)
        with frozen_weights(model), evaluating(model):
            teacher = teacher_logits(parts, data, config.batch_size)
            with gated(parts, means, ablation=ablation) as unit_gates:
                idle = idle_units(unit_gates, data) if config.rule == "global" else None
                model.train(config.dropout)
                problem = _Problem(unit_gates, data, teacher, config, idle)
                for seed in seeds:
                    runs = [sorted(sparsities)] if config.one_ramp else [[sparsity] for sparsity in sparsities]
                    for targets in runs:
                        found += _run(problem, targets, seed, folder, log, stop_after)
    finally:
        for parameter, required in frozen:
            parameter.requires_grad_(required)
    return found


def check_sparsities(sparsities: Sequence[float]) -> None:
    """Raise OptionError unless each is a share in [0, 1)."""
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            raise OptionError(
                f"{sparsity} is no share in [0, 1)", place="sparsity", remedy="0.5 removes half of the units."
            )


@torch.no_grad()
def teacher_logits(parts: Parts, data: Encoded, batch_size: int) -> Tensor | None:
    """Logits [examples, classes] of the full model, computed once; None for a model that returns logits a token."""
    model, rows, order = parts.model, [], []
    for chosen in data.buckets(batch_size):
        logits = model(**data.batch(chosen, model.device)).logits
        if logits.ndim != 2:
            return None
        rows.append(logits)
        order += chosen
    stacked = torch.cat(rows)
    teacher = torch.empty_like(stacked)
    teacher[order] = stacked
    return teacher


@dataclass(frozen=True, eq=False)
class _Problem:
    """What all runs of one call share."""

    gates: UnitGates
    data: Encoded
    teacher: Tensor | None
    config: SearchConfig
    idle: Tensor | None
    """Units that are closed from the start, bool [layers, heads + 1]; None for none."""

    @cached_property
    def exists(self) -> Tensor | None:
        """Which units there are, as `existing_units`, where the model is."""
        exists = existing_units(self.gates.parts)
        return None if exists is None else exists.to(self.gates.parts.model.device)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and units a layer."""
        return self.gates.parts.num_layers, self.gates.parts.num_heads + 1

    def kl(self, indices: Sequence[int], z: Tensor) -> Tensor:
        """Mean KL to the full model over the examples `indices`, or over their tokens, under gates z."""
        model = self.gates.parts.model
        batch = self.data.batch(indices, model.device)
        mask = batch.get("attention_mask")
        teacher = self.teacher[list(indices)] if self.teacher is not None else self._run_full(batch)
        self.gates.set(z, mask)
        student = model(**batch).logits
        if student.ndim == 3:
            kept = (torch.ones_like(batch["input_ids"]) if mask is None else mask).bool()
            student, teacher = student[kept], teacher[kept]
        return kl_divergence(teacher, student)

    @torch.no_grad()
    def _run_full(self, batch: dict[str, Tensor]) -> Tensor:
        model = self.gates.parts.model
        self.gates.set(None)
        with evaluating(model):
            logits: Tensor = model(**batch).logits
        return logits

    @torch.no_grad()
    def mean_kl(self, z: Tensor, limit: int = 1024) -> float:
        """KL under fixed gates over the first `limit` examples, without dropout."""
        total, count = 0.0, 0
        with evaluating(self.gates.parts.model):
            for chosen in stretches(0, min(limit, len(self.data)), self.config.batch_size):
                total += float(self.kl(chosen, z)) * len(chosen)
                count += len(chosen)
        return total / count


@dataclass
class _State:
    """Gates, multipliers and optimiser of one run, and the gates that were kept on the way."""

    problem: _Problem
    schedule: SparsitySchedule
    seed: int
    kept: dict[float, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.problem.config
        generator = torch.Generator().manual_seed(self.seed)
        start = gates.initial_alpha(*self.problem.shape, mean=config.init_mean, generator=generator)
        device = self.problem.gates.parts.model.device
        self.alpha = nn.Parameter(start.to(device))
        self.penalty = Lagrangian("t-s").to(device)
        groups = parameter_groups(
            [self.alpha], self.penalty, alpha_lr=config.alpha_lr, lambda_lr=config.lambda_lr,
            mask_weight_decay=config.mask_weight_decay,
        )  # fmt: skip
        warm = min(config.lr_warmup_steps, config.steps)
        self.optimiser, self.rate = gate_optimiser(groups, lr_warmup_steps=warm, total_steps=config.steps)

    def closed_alpha(self) -> Tensor:
        """alpha [layers, heads + 1], with idle units closed for good."""
        idle = self.problem.idle
        return self.alpha if idle is None else self.alpha.masked_fill(idle.to(self.alpha.device), CLOSED)

    def step(self, step: int) -> dict[str, float]:
        """One update; returns what is logged."""
        config, indices, alpha = self.problem.config, self._indices(step), self.closed_alpha()
        noise = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        examples = len(indices) if config.per_example else None
        uniform = gates.draw_uniform(alpha.detach().cpu(), examples=examples, generator=noise)
        z = gates.sample(alpha, uniform.to(alpha.device))
        kl = self.problem.kl(indices, z)
        target = self.schedule.at(step)
        loss = kl + self.penalty(sparsity_of(config.penalty, alpha, z, self.problem.exists), target)
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLoss(
                f"the loss is {float(loss.detach())}", place=f"seed {self.seed}, step {step}",
                remedy="Lower the learning rates; the state of the last good step is kept.",
            )  # fmt: skip
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.rate.step()
        return self._record(float(kl.detach()), z, target)

    def _record(self, kl: float, z: Tensor, target: float) -> dict[str, float]:
        alpha, exists = self.closed_alpha().detach(), self.problem.exists
        soft = gates.soft_gate(alpha if exists is None else alpha[exists])
        return {
            "kl": kl,
            "sampled": float(sampled_sparsity(z.detach(), exists)),
            "expected": float(expected_sparsity(alpha, exists)),
            "target": target,
            "lambda1": float(self.penalty.lambda1.detach()),
            "lambda2": float(self.penalty.lambda2.detach()),
            "undecided": float(((soft > 0.05) & (soft < 0.95)).sum()),
        }

    def _indices(self, step: int) -> list[int]:
        """The examples of a step: a fresh order each epoch, sorted by length within stretches of 16 batches."""
        data, size = self.problem.data, min(self.problem.config.batch_size, len(self.problem.data))
        a_epoch = len(data) // size
        epoch, part = divmod(step, a_epoch)
        generator = torch.Generator().manual_seed(self.seed * 7919 + epoch)
        order = torch.randperm(len(data), generator=generator)[: a_epoch * size].tolist()
        ids = data.columns["input_ids"]
        stretch = 16 * size
        batches = [
            part[i : i + size]
            for start in range(0, len(order), stretch)
            for part in [sorted(order[start : start + stretch], key=lambda index: len(ids[index]))]
            for i in range(0, len(part), size)
        ]
        return batches[int(torch.randperm(len(batches), generator=generator)[part])]

    def save(self, path: Path, step: int) -> None:
        """Everything that the next step needs, in one file that appears whole."""
        kept = {f"kept.{sparsity!r}": alpha for sparsity, alpha in self.kept.items()}
        save_search(path, step, self._named() | kept, self.optimiser)

    def load(self, path: Path) -> int:
        """Take up a saved state; returns the next step."""
        step, others = load_search(path, self._named(), self.optimiser, self.rate)
        self.kept = {float(name.removeprefix("kept.")): alpha for name, alpha in others.items()}
        return step

    def _named(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha, **dict(self.penalty.named_parameters())}


def _run(
    problem: _Problem, targets: Sequence[float], seed: int, folder: Path | None, log: Log | None, stop: int | None
) -> list[Subnetwork]:
    """One run to the last of `targets`; the gates of the others are kept when the schedule passes them."""
    config = problem.config
    schedule = SparsitySchedule(targets[-1], round(config.warmup_share * config.steps))
    state = _State(problem, schedule, seed)
    file = (
        None if folder is None else folder / f"state-{seed}-{'-'.join(f'{target:g}' for target in targets)}.safetensors"
    )
    first = state.load(file) if file is not None and file.exists() else 0
    last = config.steps if stop is None else min(stop, config.steps)
    for step in range(first, last):
        record = state.step(step)
        for target in targets[:-1]:
            if target not in state.kept and schedule.at(step) >= target:
                state.kept[target] = state.closed_alpha().detach().clone()
        if log is not None and ((step + 1) % 25 == 0 or step + 1 == config.steps):
            log({"seed": seed, "sparsity": targets[-1], "step": step} | record)
        if file is not None and ((step + 1) % 25 == 0 or step + 1 == last):
            state.save(file, step + 1)
    state.kept[targets[-1]] = state.closed_alpha().detach().clone()
    return [_decided(problem, state.kept[target].cpu(), seed, target, target != targets[-1]) for target in targets
            if target in state.kept]  # fmt: skip


def decide(
    alpha: Tensor, sparsity: float, rule: gates.Rule, threshold: float = 0.5, exists: Tensor | None = None
) -> UnitMask:
    """The mask of gates alpha [layers, heads + 1]; "global" keeps exactly round((1 - sparsity) N) units.

    exists: as `existing_units`; what does not exist is not kept.
    """
    groups = layer_groups(alpha.shape[0], alpha.shape[1] - 1)
    share = sparsity if rule == "global" else None
    return UnitMask.from_units(
        gates.binarise(alpha, exists, rule=rule, sparsity=share, threshold=threshold, groups=groups)
    )


def _decided(problem: _Problem, alpha: Tensor, seed: int, sparsity: float, on_the_way: bool) -> Subnetwork:
    exists = existing_units(problem.gates.parts)
    mask = decide(alpha, sparsity, problem.config.rule, exists=exists)
    groups = layer_groups(alpha.shape[0], alpha.shape[1] - 1)
    soft = problem.mean_kl(gates.deterministic(alpha, exists, groups=groups))
    found = Subnetwork(mask, alpha, seed, sparsity, soft, problem.mean_kl(mask.units.float()))
    return replace(found, one_trajectory=on_the_way)
