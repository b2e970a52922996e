"""A subnetwork as an ordinary model: no hooks left, loaded by transformers' own classes.

Masked (always exact): the slice of the output projection that belongs to a pruned head is zeroed and W_slice mu is
added to its bias; a pruned MLP's last linear map is zeroed and its bias becomes mu (the Heuristic Core's ablation,
2024, section 2). Sliced: heads are removed for real, where the architecture can say so. Input: parts of a model, which
are not changed, and means. Output: a new model. Refuses what cannot be expressed, and says why.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from glassworks.circuits.encoder_decoder import EncoderDecoder, Parts, encoder_decoder, existing_units
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means, zero_means
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.dataflow import is_linear
from glassworks.foundations.parts import Anatomy

BIAS_FIELDS = {"attention": "attention_bias", "mlp": "mlp_bias"}
"""The fields by which configurations say that their linear maps have biases."""


def masked_model(parts: Parts, mask: UnitMask, means: Means | None = None) -> PreTrainedModel:
    """A copy of the model with the units outside `mask` ablated to their means (None: to zero).

    Raises OptionError where a bias is needed that the family's configuration cannot express.
    """
    if means is not None:
        means.check(parts)
    if isinstance(parts, EncoderDecoder):
        return _zeroed(parts, mask, means)
    found = _copy_with_biases(parts, mask, means)
    copied = anatomy(found, check=False)
    values = means or zero_means(found, copied)
    with torch.no_grad():
        for layer in range(copied.num_layers):
            _fold_heads(copied, layer, mask.heads[layer], values.heads[layer])
            if not mask.mlps[layer]:
                _fold_mlp(copied, layer, values.mlps[layer])
    return found


def sliced_model(parts: Parts, mask: UnitMask, means: Means | None = None) -> PreTrainedModel:
    """A copy with the pruned heads removed from the weights.

    Raises OptionError unless every MLP is kept, all layers keep equally many heads in equally filled key-value groups,
    projections are separate modules, and the configuration has a head size of its own.
    """
    if isinstance(parts, EncoderDecoder):
        raise _no_slices(["two stacks keep different numbers of heads"])
    keys = _kept_groups(parts, mask)
    found = masked_model(parts, mask, means)
    copied = anatomy(found, check=False)
    config = copy.deepcopy(found.config)
    config.head_dim = copied.layers[0].attention.head_dim
    config.num_attention_heads = int(mask.heads[0].sum())
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = len(keys[0])
    state = dict(found.state_dict())
    for layer in copied.layers:
        attention, queries = layer.attention, mask.heads[layer.index].nonzero().flatten().tolist()
        rows = {"query": queries, "key": keys[layer.index], "value": keys[layer.index]}
        for name, kept in rows.items():
            module = getattr(attention, name).module
            where = copied.name_of(module)
            for part in ("weight", "bias"):
                if f"{where}.{part}" in state:
                    state[f"{where}.{part}"] = _rows(state[f"{where}.{part}"], kept, attention.head_dim)
        where = copied.name_of(attention.output)
        state[f"{where}.weight"] = _rows(state[f"{where}.weight"].T, queries, attention.head_dim).T.contiguous()
    sliced: PreTrainedModel = type(found)._from_config(config, dtype=found.dtype)
    sliced.load_state_dict(state)
    sliced.eval()
    return sliced


def _rows(weight: Tensor, heads: list[int], head_dim: int) -> Tensor:
    """The rows of `weight` [heads * head_dim, ...] that belong to some heads."""
    grouped: Tensor = weight.unflatten(0, (-1, head_dim))  # type: ignore[no-untyped-call]
    return grouped[heads].flatten(0, 1).clone()


def _kept_groups(parts: Anatomy, mask: UnitMask) -> list[list[int]]:
    """The key-value heads that each layer keeps, or an OptionError that says why heads cannot be removed."""
    attention = parts.layers[0].attention
    reasons = []
    if not bool(mask.mlps.all()):
        reasons.append("a layer without its MLP cannot be expressed")
    if "head_dim" not in parts.model.config.to_dict():
        reasons.append(f"in '{parts.model.config.model_type}' the head size is hidden size / heads")
    if len({id(p.module) for p in (attention.query, attention.key, attention.value)}) < 3:
        reasons.append("queries, keys and values share one module")
    if attention.query_norm is not None and attention.norm_scope == "projection":
        reasons.append("queries are normalised over all heads together")
    counts = set(mask.heads.sum(1).tolist())
    if len(counts) > 1 or 0 in counts:
        reasons.append(f"layers keep {sorted(counts)} heads, but all must keep equally many, at least one")
    size = attention.num_heads // attention.num_key_value_heads
    grouped = mask.heads.unflatten(1, (-1, size)).sum(2)  # type: ignore[no-untyped-call]
    filled = set(grouped[grouped > 0].tolist())
    groups = {int((row > 0).sum()) for row in grouped}
    if len(filled) > 1 or len(groups) > 1:
        reasons.append("key-value groups keep unequal numbers of query heads")
    if reasons:
        raise _no_slices(reasons)
    return [row.nonzero().flatten().tolist() for row in grouped]


def _no_slices(reasons: list[str]) -> OptionError:
    return OptionError(
        f"heads cannot be removed: {'; '.join(reasons)}",
        place="form",
        remedy="Export the masked form, which is always exact.",
    )


def _zeroed(parts: EncoderDecoder, mask: UnitMask, means: Means | None) -> PreTrainedModel:
    """A copy of an encoder-decoder with units ablated to zero: T5's linear maps have no biases, so to no mean."""
    exists = existing_units(parts)
    gone = ~mask.units if exists is None else exists & ~mask.units
    if means is not None and bool(gone.any()):
        raise _no_bias(parts.model, "attention" if bool(gone[:, :-1].any()) else "mlp")
    found = copy.deepcopy(parts.model)
    copied = encoder_decoder(found)
    with torch.no_grad():
        for row, unit in gone.nonzero().tolist():
            last = copied.mlp_output(row) if unit == parts.num_heads else copied.attention_output(row)
            assert isinstance(last, nn.Linear)
            part = slice(unit * parts.head_dim, (unit + 1) * parts.head_dim) if unit < parts.num_heads else slice(None)
            last.weight[:, part] = 0
    return found


def _copy_with_biases(parts: Anatomy, mask: UnitMask, means: Means | None) -> PreTrainedModel:
    """A copy of the model in which every linear map that needs a bias has one."""
    model, needed = parts.model, set()
    if means is not None:
        for layer in parts.layers:
            if not bool(mask.heads[layer.index].all()) and layer.attention.output_bias is None:
                needed.add("attention")
            last = layer.mlp.output
            if not mask.mlps[layer.index] and is_linear(last) and getattr(last, "bias", None) is None:
                needed.add("mlp")
    for layer in parts.layers:
        if not mask.mlps[layer.index] and not is_linear(layer.mlp.output):
            raise OptionError("a mixture of experts has no last linear map to fold a mean into", place="export")
    if not needed:
        return copy.deepcopy(model)
    config = copy.deepcopy(model.config)
    for kind in needed:
        if not hasattr(config, BIAS_FIELDS[kind]):
            raise _no_bias(model, kind)
        setattr(config, BIAS_FIELDS[kind], True)
    found: PreTrainedModel = type(model)._from_config(config, dtype=model.dtype)
    missing = found.load_state_dict(model.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for name in missing:
            found.get_parameter(name).zero_()
    found.eval().to(device=model.device)  # type: ignore[arg-type]  # PreTrainedModel.to is typed without arguments
    copied = anatomy(found, check=False)
    for kind in needed:
        module = copied.layers[0].attention.output if kind == "attention" else copied.layers[0].mlp.output
        if getattr(module, "bias", None) is None:
            raise _no_bias(model, kind)
    return found


def _no_bias(model: PreTrainedModel, kind: str) -> OptionError:
    return OptionError(
        f"the means need a bias in the {kind} output, which '{model.config.model_type}' cannot have",
        place="export",
        remedy="Search with --ablation zero, which needs no bias.",
    )


def _fold_heads(parts: Anatomy, layer: int, kept: Tensor, means: Tensor) -> None:
    """Zero the slices of the pruned heads of a layer; add what their means [heads, head_dim] write to the bias."""
    attention = parts.layers[layer].attention
    for head in (~kept).nonzero().flatten().tolist():
        mean = means[head].to(attention.output_weight)
        written = attention.output_weight[:, head].double() @ mean.double()
        if (bias := attention.output_bias) is not None:
            bias.add_(written.to(bias.dtype))
        weight = attention.output.weight
        assert isinstance(weight, Tensor)
        weight[attention.output_slice(head)] = 0


def _fold_mlp(parts: Anatomy, layer: int, mean: Tensor) -> None:
    last = parts.mlp_output(layer)
    assert isinstance(last, nn.Linear | Conv1D)
    last.weight.zero_()
    if last.bias is not None:
        last.bias.copy_(mean.to(last.bias))
