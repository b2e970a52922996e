"""How a search for a sparse circuit or subnetwork is driven to its target: schedule, Lagrangian, optimiser groups.

Edge Pruning (2024, section 2.2 and appendix) and The Heuristic Core (2024) minimise
KL + lambda1 d + lambda2 d^2 over the gates and maximise it over the lambdas, d being the distance between the
sparsity and a target that rises during a warm-up. The two papers' code differ in the sign of d: an argument here.
`save_search` and `load_search` keep a search on disk so that it goes on bit for bit. Takes gates and numbers; knows
neither model nor data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import get_linear_schedule_with_warmup

from glassworks.errors import OptionError
from glassworks.foundations import gates
from glassworks.foundations.files import atomic_write

Sign = Literal["s-t", "t-s"]
Penalty = Literal["sampled", "expected"]


@dataclass(frozen=True)
class SparsitySchedule:
    """The target sparsity at each step: from `start` to `target` in `warmup_steps` steps, then constant.

    target: a share removed; above 1 is legal for a linear ramp and pushes the search (Edge Pruning sweeps to 1.4).
    kind: "linear", or "logarithmic", where the share that is left falls geometrically, so target < 1.
    Raises OptionError.
    """

    target: float
    warmup_steps: int
    start: float = 0.0
    kind: Literal["linear", "logarithmic"] = "linear"

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "logarithmic"):
            raise OptionError(f"unknown schedule '{self.kind}'", remedy="Known: linear, logarithmic.")
        if not 0 <= self.start < 1:
            raise OptionError(f"the start sparsity is {self.start}, expected [0, 1)", remedy="Start at 0.")
        if not (math.isfinite(self.target) and self.target >= 0):
            raise OptionError(f"the target sparsity is {self.target}, expected at least 0", remedy="Try 0.9.")
        if self.warmup_steps < 0:
            raise OptionError(f"the warm-up has {self.warmup_steps} steps", remedy="Give 0 or more.")
        if self.kind == "logarithmic" and self.target >= 1:
            raise OptionError(
                f"a logarithmic schedule cannot reach {self.target}: nothing would be left",
                remedy="Use a target below 1, or the linear schedule.",
            )

    def at(self, step: int) -> float:
        """The target at optimiser step `step`, counted from 0."""
        progress = min(step / self.warmup_steps, 1.0) if self.warmup_steps else 1.0
        if self.kind == "linear":
            return self.start + (self.target - self.start) * progress
        left, final = math.log1p(-self.start), math.log1p(-self.target)
        return -math.expm1(left + (final - left) * progress)


def sampled_sparsity(z: Tensor, exists: Tensor | None = None) -> Tensor:
    """1 - mean of the gates that exist, scalar in [0, 1]: the penalty of both papers' code.

    z: [*shape] or [examples, *shape], sampled; exists: bool [*shape].
    """
    if exists is None:
        return 1 - z.mean()
    return 1 - z[..., exists].mean()


def expected_sparsity(alpha: Tensor, exists: Tensor | None = None) -> Tensor:
    """Mean P(z = 0) over gates that exist, scalar in [0, 1]: CoFi's penalty, whose gradient no sample can lose.

    alpha: [*shape]; exists: bool [*shape]. Counts a gate that is barely open as open, so it is below
    `sampled_sparsity` in the mean. Flat only where P(z = 0) is clamped: |alpha + 1.6| above 13.8.
    """
    zero = gates.prob_zero(alpha)
    return (zero if exists is None else zero[exists]).mean()


def sparsity_of(penalty: Penalty, alpha: Tensor, z: Tensor, exists: Tensor | None = None) -> Tensor:
    """The sparsity that the Lagrangian constrains, scalar: `sampled_sparsity` of z or `expected_sparsity` of alpha.

    alpha: [*shape]; z: [*shape] or [examples, *shape]; exists: bool [*shape]. Raises OptionError.
    """
    if penalty == "sampled":
        return sampled_sparsity(z, exists)
    if penalty == "expected":
        return expected_sparsity(alpha, exists)
    raise OptionError(f"unknown penalty '{penalty}'", remedy="Known: sampled, expected.")


def lagrangian_penalty(sparsity: Tensor, target: float, lambda1: Tensor, lambda2: Tensor, *, sign: Sign) -> Tensor:
    """lambda1 d + lambda2 d^2, scalar; d = sparsity - target for "s-t", target - sparsity for "t-s".

    sparsity, lambda1, lambda2: scalars []. The two signs are the same run with lambda1 negated.
    """
    distance = sparsity - target if sign == "s-t" else target - sparsity
    return lambda1 * distance + lambda2 * distance.square()


class Lagrangian(nn.Module):
    """The two multipliers of one constraint, fp32 scalars that start at 0 and are trained by gradient ascent.

    sign: which way lambda1 counts; name it in the log. linear: False holds lambda1 at 0. Raises OptionError.
    """

    def __init__(self, sign: Sign, *, linear: bool = True) -> None:
        if sign not in ("s-t", "t-s"):
            raise OptionError(f"unknown sign '{sign}'", remedy="Known: s-t (Edge Pruning), t-s (Heuristic Core).")
        super().__init__()
        self.sign: Sign = sign
        self.lambda1 = nn.Parameter(torch.zeros(()), requires_grad=linear)
        self.lambda2 = nn.Parameter(torch.zeros(()))

    def forward(self, sparsity: Tensor, target: float) -> Tensor:
        """The penalty to add to the loss, scalar. sparsity: scalar []."""
        return lagrangian_penalty(sparsity, target, self.lambda1, self.lambda2, sign=self.sign)


def parameter_groups(
    alphas: Iterable[nn.Parameter],
    lagrangian: Lagrangian,
    *,
    alpha_lr: float,
    lambda_lr: float,
    mask_weight_decay: float = 0.01,
) -> list[dict[str, Any]]:
    """AdamW groups of one constraint: its gates descend, its multipliers ascend.

    Edges and nodes are two constraints: concatenate their groups. mask_weight_decay acts on both; 0.01 is torch's
    default, in effect in the published runs, and what starts a search whose gates are saturated. Raises
    OptionError for a rate or decay below 0.
    """
    for name, value in (
        ("alpha_lr", alpha_lr),
        ("lambda_lr", lambda_lr),
        ("mask_weight_decay", mask_weight_decay),
    ):
        if not value >= 0:
            raise OptionError(f"received {value}, expected at least 0", place=f"--{name}")
    multipliers = [parameter for parameter in lagrangian.parameters() if parameter.requires_grad]
    return [
        {"params": list(alphas), "lr": alpha_lr, "weight_decay": mask_weight_decay, "maximize": False},
        {"params": multipliers, "lr": lambda_lr, "weight_decay": mask_weight_decay, "maximize": True},
    ]


def gate_optimiser(groups: list[dict[str, Any]], *, lr_warmup_steps: int, total_steps: int) -> tuple[AdamW, LambdaLR]:
    """AdamW over `parameter_groups` and its rate: linear warm-up, then linear decay to 0 at `total_steps`.

    Raises OptionError when the warm-up is longer than the training.
    """
    if not 0 <= lr_warmup_steps <= total_steps:
        raise OptionError(
            f"the learning rate warms up for {lr_warmup_steps} of {total_steps} steps",
            remedy="Give a warm-up between 0 and the number of steps.",
        )
    optimiser = AdamW(groups)
    return optimiser, get_linear_schedule_with_warmup(optimiser, lr_warmup_steps, total_steps)


def save_search(path: Path, step: int, tensors: Mapping[str, Tensor], optimiser: AdamW) -> None:
    """Write all that step `step` of a search needs as safetensors; the file appears whole.

    tensors: gates, multipliers and whatever else is to be kept, of any shape; no name may begin with "adam.".
    """
    content = {name: tensor.detach() for name, tensor in tensors.items()} | {"step": torch.tensor(step)}
    for index, state in optimiser.state_dict()["state"].items():
        content |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    with atomic_write(path) as temporary:
        save_file({name: tensor.cpu().contiguous().clone() for name, tensor in content.items()}, temporary)


def saved_step(path: Path) -> int:
    """The step at which a search that `save_search` kept goes on; 0 where there is none."""
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(file.get_tensor("step"))


def load_search(
    path: Path, tensors: Mapping[str, Tensor], optimiser: AdamW, rate: LambdaLR
) -> tuple[int, dict[str, Tensor]]:
    """Take up what `save_search` wrote: fills `tensors` in place, and optimiser and rate. Returns the next step and
    the tensors of the file that `tensors` does not name.
    """
    content, moments = load_file(path), optimiser.state_dict()
    step = int(content.pop("step"))
    for name in [name for name in content if name.startswith("adam.")]:
        _, index, key = name.split(".")
        moments["state"].setdefault(int(index), {})[key] = content.pop(name)
    optimiser.load_state_dict(moments)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(content.pop(name))
    # The rate is a function of its count alone.
    rate.last_epoch = step - 1
    optimiser._opt_called = True  # type: ignore[attr-defined]
    rate.step()
    return step, content
