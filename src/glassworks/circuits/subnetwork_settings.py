"""How a search for subnetworks trains its gates: our settings, and the published ones by name."""

from __future__ import annotations

from dataclasses import dataclass

from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.gates import Rule
from glassworks.foundations.sparsity import Penalty


@dataclass(frozen=True)
class SearchConfig:
    """How gates are trained. The defaults are ours; `preset` gives the published ones.

    Args:
        steps: optimiser steps.
        warmup_share: share of the steps in which the target rises.
        batch_size: examples of one step.
        alpha_lr: learning rate of the gates.
        lambda_lr: learning rate of the Lagrange multipliers.
        lr_warmup_steps: steps in which the learning rate rises.
        penalty: expected counts gates that can open; sampled counts the gates of the step.
        init_mean: mean of the gates' parameters at the start.
        mask_weight_decay: AdamW's decay of gates and multipliers.
        per_example: a gate sample for each example instead of one a step.
        rule: how gates are decided. global keeps exactly the asked number of units and closes those that change nothing
            first; per_layer is the published rule.
        one_ramp: read all sparsities from one run a seed, on the way to the highest; not independent runs.
        dropout: run the model with its dropout while gates are trained.
    """

    steps: int = 250
    warmup_share: float = 0.93
    batch_size: int = 128
    alpha_lr: float = 0.1
    lambda_lr: float = 1.0
    lr_warmup_steps: int = 20
    penalty: Penalty = "expected"
    init_mean: float = 3.0
    mask_weight_decay: float = 0.01
    per_example: bool = True
    rule: Rule = "global"
    one_ramp: bool = False
    dropout: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, **{"settings.steps": self.steps, "settings.batch_size": self.batch_size})
        if not 0 <= self.warmup_share <= 1:
            raise OptionError(f"warmup_share is {self.warmup_share}, expected a share in [0, 1]", place="settings")
        rates = ("alpha_lr", "lambda_lr", "lr_warmup_steps", "mask_weight_decay")
        check_at_least(0, **{f"settings.{name}": getattr(self, name) for name in rates})


def preset(name: str, sparsity: float) -> SearchConfig:
    """The settings of a name: "default", or "heuristic-core-2024" for a target sparsity.

    Published: the target rises for 6500 + 50 steps a per cent, then 6 steps a per cent. Raises OptionError.
    """
    if name == "default":
        return SearchConfig()
    if name != "heuristic-core-2024":
        raise OptionError(f"unknown preset '{name}'", remedy="Known: default, heuristic-core-2024.")
    warmup = 6500 + round(50 * 100 * sparsity)
    steps = warmup + round(6 * 100 * sparsity)
    return SearchConfig(
        steps, warmup / steps, 128, 0.1, 1.0, 200, "sampled", 10.0, 0.01, per_example=False, rule="per_layer",
        dropout=True,
    )  # fmt: skip
