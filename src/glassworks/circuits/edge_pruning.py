"""Edge Pruning (Bhaskar et al. 2024, section 2): one hard-concrete gate an edge, trained with the weights frozen.

Minimises KL(full || circuit) + lambda1 (s - t) + lambda2 (s - t)^2 over the gates and maximises it over the lambdas;
the target sparsity t rises during a warm-up. The noise and the batch of a step are functions of (seed, step), so a
run that was killed and goes on equals one that was not. Several processes that share a process group each take a
part of the batch and average their gradients, their models whole or sharded by FSDP2. Input: a `Problem`. Output:
`Trained`. Decides nothing: `circuit_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from glassworks.circuits.problem import Problem
from glassworks.errors import NonFiniteLoss, OptionError, check_at_least
from glassworks.foundations import gates
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.frozen import frozen_weights
from glassworks.foundations.graph import Graph
from glassworks.foundations.sparsity import (
    Lagrangian,
    Penalty,
    SparsitySchedule,
    gate_optimiser,
    load_search,
    parameter_groups,
    save_search,
    sparsity_of,
)

Log = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class EdgePruning:
    """The published settings for indirect objects on GPT-2.

    Args:
        steps: Optimiser steps.
        target: Edge sparsity that training aims at, above 1 to push; none: the sparsity of the circuit.
        node_target: Node sparsity that training aims at, if node_loss is on.
        warmup_steps: Steps in which the target rises from 0; none: 5/6 of all steps.
        lr_warmup_steps: Steps in which the learning rate rises.
        alpha_lr: Learning rate of the gates.
        lambda_lr: Learning rate of the Lagrange multipliers.
        batch_size: Pairs of one step.
        mask_weight_decay: AdamW's decay of gates; 0 leaves gates that start saturated where they are.
        schedule: How the target rises.
        node_loss: Constrain the share of nodes, too.
        linear_term: Train lambda1; off holds it at 0.
        initial: Mean of the gates' parameters at the start.
        penalty: What is held to the target: the step's sampled gates, or their expected share of closed ones, whose
            gradient reaches every gate.
    """

    steps: int = 3000
    target: float | None = None
    node_target: float = 0.72
    warmup_steps: int | None = None
    lr_warmup_steps: int = 200
    alpha_lr: float = 0.8
    lambda_lr: float = 0.8
    batch_size: int = 32
    mask_weight_decay: float = 0.01
    schedule: Literal["linear", "logarithmic"] = "linear"
    node_loss: bool = False
    linear_term: bool = True
    initial: float = 10.0
    penalty: Penalty = "sampled"

    def __post_init__(self) -> None:
        check_at_least(1, **{"pruning.steps": self.steps, "pruning.batch_size": self.batch_size})
        self.schedules(0.0 if self.target is None else self.target)
        rates = ("alpha_lr", "lambda_lr", "mask_weight_decay", "lr_warmup_steps")
        check_at_least(0, **{f"pruning.{name}": getattr(self, name) for name in rates})

    def schedules(self, target: float) -> tuple[SparsitySchedule, SparsitySchedule]:
        """How the targets of edges (to `target`, or to that of the settings) and of nodes rise. Raises OptionError."""
        warmup = round(self.steps * 5 / 6) if self.warmup_steps is None else self.warmup_steps
        edges, nodes = (
            SparsitySchedule(of, warmup, kind=self.schedule)
            for of in (target if self.target is None else self.target, self.node_target)
        )
        return edges, nodes


@dataclass
class Trained:
    """Gate parameters: edges fp32 [writers, readers], nodes fp32 [writers]; constants [writers, hidden] or None."""

    graph: Graph
    edges: Tensor
    nodes: Tensor
    constants: Tensor | None = None
    sparsity: float = math.nan
    log: list[dict[str, float]] = field(default_factory=list)


def train(
    problem: Problem,
    settings: EdgePruning = EdgePruning(),
    *,
    target: float,
    seed: int = 42,
    checkpoint: Path | None = None,
    save_every: int = 64,
    log: Log | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train the gates of `problem` towards `target` edge sparsity (settings.target, where given, overrides it).

    checkpoint: a safetensors file to save to and to go on from. log: called every `save_every` steps. stop_after:
    leave off after this step, as a killed process would. Raises NonFiniteLoss, keeping the last checkpoint, and
    FrozenWeightChanged.
    """
    state = _State(problem, settings, target, seed)
    first = state.load(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    with frozen_weights(problem.masked.model):
        for step in range(first, settings.steps if stop_after is None else min(stop_after, settings.steps)):
            record = state.step(step)
            last = step + 1 == settings.steps
            if log is not None and (step % save_every == 0 or last):
                log({"step": step} | record)
            if checkpoint is not None and ((step + 1) % save_every == 0 or last) and _is_first_process():
                state.save(checkpoint, step + 1)
    return state.trained()


def tensor_groups(graph: Graph) -> Tensor:
    """Which gates form one parameter tensor in the official code, int64 [writers, readers]: q, k, v, MLP a layer."""
    kinds = {"q": 0, "k": 1, "v": 2, "": 3}
    columns = [node.layer * 4 + kinds[node.part] for node in graph.readers]
    return torch.tensor(columns).expand(graph.exists.shape)


def circuit_of(trained: Trained, sparsity: float | None = None, provenance: Provenance | None = None) -> Circuit:
    """The round((1 - sparsity) N) edges of the largest gates, ties by index; by default at the sparsity reached.

    Scores are log(edge gate x writer's gate), noise-free, so that edges of a closed writer come last.
    """
    graph, alpha = trained.graph, trained.edges.cpu()
    reached = trained.sparsity if sparsity is None else sparsity
    nodes = trained.nodes.cpu()
    factor = gates.DETERMINISTIC_FACTOR / gates.TEMPERATURE
    scores = nn.functional.logsigmoid(factor * alpha) + nn.functional.logsigmoid(factor * nodes)[:, None]
    return Circuit.from_scores(graph, scores, round((1 - reached) * graph.n_edges), provenance)


class _State:
    """Gates, multipliers, optimiser, and one step of them."""

    def __init__(self, problem: Problem, settings: EdgePruning, target: float, seed: int) -> None:
        self.problem, self.settings, self.seed = problem, settings, seed
        self.size = min(settings.batch_size, len(problem))
        if self.size % _processes():
            raise OptionError(
                f"{self.size} pairs of a step cannot be shared equally by {_processes()} processes", place="batch_size"
            )
        self.edge_schedule, self.node_schedule = settings.schedules(target)
        device, graph = problem.masked.device, problem.graph
        self.exists, generator = graph.exists.to(device), torch.Generator().manual_seed(seed)
        shapes = (tuple(graph.exists.shape), (graph.n_writers,))
        self.edges, self.nodes = (
            nn.Parameter(gates.initial_alpha(*shape, mean=settings.initial, generator=generator).to(device))
            for shape in shapes
        )
        self.edge_penalty, self.node_penalty = (
            Lagrangian("s-t", linear=settings.linear_term).to(device) for _ in range(2)
        )
        rates = {"alpha_lr": settings.alpha_lr, "lambda_lr": settings.lambda_lr}
        groups: list[dict[str, Any]] = []
        for alpha, penalty in ((self.edges, self.edge_penalty), (self.nodes, self.node_penalty)):
            groups += parameter_groups([alpha], penalty, **rates, mask_weight_decay=settings.mask_weight_decay)
        if problem.constants is not None:
            problem.constants.requires_grad_()
            groups.append({"params": [problem.constants], "lr": 2e-3, "weight_decay": 0.0, "maximize": False})
        warm = min(settings.lr_warmup_steps, settings.steps)
        self.optimiser, self.rate = gate_optimiser(groups, lr_warmup_steps=warm, total_steps=settings.steps)

    def step(self, step: int) -> dict[str, float]:
        """One update; returns what is logged."""
        noise = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        device = self.edges.device
        drawn = [gates.draw_uniform(alpha.detach().cpu(), generator=noise).to(device) for alpha in self._alphas]
        z, n = (gates.sample(alpha, u) for alpha, u in zip(self._alphas, drawn, strict=True))
        prepared = self.problem.prepare(self._indices(step))
        kl = self.problem.loss(prepared, z * n[:, None])
        sparsity = sparsity_of(self.settings.penalty, self.edges, z, self.exists)
        target = self.edge_schedule.at(step)
        loss = kl + self.edge_penalty(sparsity, target)
        if self.settings.node_loss:
            of_nodes = sparsity_of(self.settings.penalty, self.nodes, n)
            loss = loss + self.node_penalty(of_nodes, self.node_schedule.at(step))
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLoss(
                f"the loss is {loss.item()}", place=f"step {step}", remedy="Lower the learning rates; the checkpoint"
                " of the last good step is kept.",
            )  # fmt: skip
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._average_gradients()
        self.optimiser.step()
        self.rate.step()
        multipliers = {f"lambda{k}": float(getattr(self.edge_penalty, f"lambda{k}").detach()) for k in (1, 2)}
        return {"kl": float(kl.detach()), "edge_sparsity": float(sparsity.detach()), "target": target, **multipliers}

    def trained(self) -> Trained:
        """The gates as they are, and the sparsity that the deterministic ones have."""
        edges, nodes = self.edges.detach(), self.nodes.detach()
        reached = gates.soft_sparsity(edges.cpu(), self.problem.graph.exists, tensor_groups(self.problem.graph))
        constants = None if self.problem.constants is None else self.problem.constants.detach()
        return Trained(self.problem.graph, edges, nodes, constants, reached)

    def save(self, path: Path, step: int) -> None:
        """Everything that the next step needs, in one file that appears whole."""
        save_search(path, step, self._named(), self.optimiser)

    def load(self, path: Path) -> int:
        """Take up a saved state; returns the next step."""
        return load_search(path, self._named(), self.optimiser, self.rate)[0]

    @property
    def _alphas(self) -> tuple[Tensor, Tensor]:
        return self.edges, self.nodes

    def _named(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {"edges": self.edges, "nodes": self.nodes}
        for kind, penalty in (("edge", self.edge_penalty), ("node", self.node_penalty)):
            named |= {f"{kind}_{name}": value for name, value in penalty.named_parameters()}
        return named if self.problem.constants is None else named | {"constants": self.problem.constants}

    def _indices(self, step: int) -> list[int]:
        """The pairs of a step: consecutive parts of a fresh order each epoch; of several processes, this one's."""
        size, total = self.size, len(self.problem)
        epoch, part = divmod(step, total // size)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(self.seed * 7919 + epoch))
        chosen = order[part * size : (part + 1) * size].tolist()
        return chosen[dist.get_rank() :: _processes()] if dist.is_initialized() else chosen

    def _average_gradients(self) -> None:
        if _processes() == 1:
            return
        for group in self.optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= _processes()


def _processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _is_first_process() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0
