"""Whether a model may be run on packed rows with shared prefixes, and why not.

Sharing is exact where a token meets others only through softmax attention on a mask and positions that the caller
passes. Layers that carry a state from one column to the next, capacity limits that make experts depend on what
else is in the batch, and distances counted in columns break it (SimPO spec, section 6).
The structure is asked first; then the model itself, on a few random tokens, packed against one at a time: that
holds for families no line here names. Input: a model. Output: yes or no, and the reason.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.errors import UserError
from glassworks.foundations.attention_masks import layer_reaches
from glassworks.foundations.packing import Group, pack


class Support(NamedTuple):
    """The answer and, where it is no, the reason."""

    supported: bool
    reason: str


_PROBE = Group(
    prefix=(5, 3, 8, 2, 7), continuations=((4, 9, 6, 1, 3), (11, 4, 2), (1, 12, 3, 5, 10, 2, 7, 6)), name="probe"
)
"""A prefix longer than the shortest continuation, continuations that differ from the first token on."""


def supports_prefix_sharing(model: PreTrainedModel, *, verify: bool = True) -> Support:
    """Whether a group's prefix may be computed once for all its continuations.

    verify: also run the model on a few tokens both ways and compare the logits. Needs real weights.
    """
    reason = _structural_reason(model)
    if not reason and verify and model.device.type != "meta":
        reason = _measured_reason(model)
    return Support(not reason, reason)


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout rate of `model` to 0 in place: modules, and rates that attention code reads by name."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _dropout_rates(module):
            setattr(module, name, 0.0)


def _dropout_rates(module: nn.Module) -> list[str]:
    return [n for n, value in vars(module).items() if n.endswith("dropout") and isinstance(value, float) and value]


def _structural_reason(model: PreTrainedModel) -> str:
    config = model.config
    if getattr(model, "_is_stateful", False) or any(
        isinstance(module, nn.Conv1d | nn.RNNBase) for module in model.modules()
    ):
        return "it has recurrent or convolutional layers, whose state would run from one continuation into the next"
    kinds = set(getattr(config, "layer_types", None) or ()) - set(layer_reaches(config))
    if kinds:
        return f"its layers of kind {', '.join(sorted(kinds))} are not softmax attention over a mask"
    capacities = [name for name, value in config.to_dict().items() if "capacity" in name and value]
    if capacities:
        return (
            f"its experts have a capacity ({', '.join(capacities)}), so a token's result depends on the others in "
            "the batch"
        )
    if "local" in getattr(config, "attention_layers", ()):
        return "its local attention layers count distance in columns and take no mask for it"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its forward takes no position_ids, so positions cannot restart in a continuation"
    if any((isinstance(m, nn.Dropout) and m.p > 0) or _dropout_rates(m) for m in model.modules()):
        return "it has dropout, which would fall once on a shared prefix; call disable_dropout(model) first"
    return ""


@torch.no_grad()
def _measured_reason(model: PreTrainedModel) -> str:
    training = model.training
    model.eval()
    try:
        apart, packed = _both_ways(model)
    except UserError as refusal:
        return str(refusal)
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError) as failure:
        return f"its forward does not accept packed rows ({type(failure).__name__}: {failure})"
    finally:
        model.train(training)
    difference = float((apart - packed).abs().max())
    # Rounding grows with depth (30 layers: some 150 eps); what leaks between continuations is of the logits' own size.
    allowed = min(1000 * torch.finfo(model.dtype).eps, 0.05) * max(1.0, float(apart.abs().max()))
    if difference <= allowed:
        return ""
    return f"packed and separate logits differ by {difference:.2g} on a probe, more than rounding ({allowed:.2g})"


def _both_ways(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Logits [sequences, longest, vocab] of the probe run one sequence at a time, and packed."""
    batch = pack([_PROBE, _PROBE], 2 * _PROBE.tokens()).to(model.device)
    packed = batch.unpack(model(**batch.model_inputs(model)).logits)
    apart = torch.zeros_like(packed)
    for number, tokens in enumerate(2 * [[*_PROBE.prefix, *one] for one in _PROBE.continuations]):
        ids = torch.tensor([tokens], device=model.device)
        apart[number, : len(tokens)] = model(input_ids=ids, use_cache=False).logits[0]
    return apart, packed
