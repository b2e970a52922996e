"""A model whose heads and MLP blocks are scaled by gates, by hooks on its own modules; nothing is copied.

The Heuristic Core (2024, section 2): o' = z o + (1 - z) mu at the input of the output projection, y' = z y + (1 - z) mu
at the output of the MLP's last linear map. The published form (o - mu) z + mu is not bit-exact at z = 1; this one is
exact at both ends, and a layer whose gates are all 1 is left alone. z may differ from example to example.
Ablation: "mean" (mu over positions), "zero", or "resample" (the same place in the previous row of the batch).
The rows of an encoder-decoder are those of `encoder_decoder`. Hooks go when the block ends, also by an error.
`head_mask=` in a call is refused: transformers 5 ignores it silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glassworks.circuits.encoder_decoder import EncoderDecoder, Parts
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means, zero_means
from glassworks.errors import OptionError
from glassworks.foundations.parts import first_tensor

Ablation = Literal["mean", "zero", "resample"]


class UnitGates:
    """The gates in force: hooks read them at every forward pass. Made by `gated`; changed by `set`."""

    def __init__(self, parts: Parts, means: Means, ablation: Ablation) -> None:
        self.parts, self.ablation = parts, ablation
        device = parts.model.device
        self.head_means = means.heads.to(device)
        self.mlp_means = means.mlps.to(device)
        self._z: Tensor | None = None
        self._closed: list[tuple[bool, bool]] = []
        self._padding: Tensor | None = None
        self.rows = 0

    def set(self, z: Tensor | UnitMask | None, attention_mask: Tensor | None = None) -> None:
        """The gates of the next forward passes.

        z: [layers, heads + 1], the MLPs last, or [batch, layers, heads + 1] for gates an example; a mask; None = all
        open. attention_mask: [batch, seq], needed by "resample" where rows are padded: a place whose neighbour is
        padding keeps its own value. Raises OptionError for another shape.
        """
        self._padding = attention_mask
        if isinstance(z, UnitMask):
            z = z.units.float()
        if z is None:
            self._z = None
            return
        expected = [self.parts.num_layers, self.parts.num_heads + 1]
        if z.ndim not in (2, 3) or list(z.shape[-2:]) != expected:
            raise OptionError(f"expected gates of shape {expected}, received {list(z.shape)}", place="gates")
        self._z = z.to(self.parts.model.device)
        # Known here and not in the hooks, where asking a tensor would wait for the device at every layer.
        opened = (self._z.detach() == 1) if z.ndim == 2 else (self._z.detach() == 1).all(0)
        trained = z.requires_grad
        self._closed = [
            (trained or not all(row[:-1]), trained or not row[-1])
            for row in opened.tolist()
        ]  # fmt: skip

    def heads(self, layer: int, output: Tensor) -> Tensor:
        """The concatenated head outputs [batch, seq, heads * head_dim] of a layer, gated."""
        if self._z is None or not self._closed[layer][0]:
            return output
        apart = output.unflatten(-1, self.head_means.shape[1:])  # type: ignore[no-untyped-call]
        gate = self._place(self._z[..., layer, :-1], apart).unsqueeze(-1)
        return self._mix(gate, apart, self.head_means[layer]).flatten(-2)

    def mlp(self, layer: int, output: Tensor) -> Tensor:
        """The output [batch, seq, hidden] of a layer's MLP, gated; OPT's is [batch * seq, hidden]."""
        if self._z is None or not self._closed[layer][1]:
            return output
        if output.ndim == 2:
            apart: Tensor = output.unflatten(0, (self.rows, -1))  # type: ignore[no-untyped-call]
            return self.mlp(layer, apart).flatten(0, 1)
        return self._mix(self._place(self._z[..., layer, -1:], output), output, self.mlp_means[layer])

    def _place(self, gate: Tensor, output: Tensor) -> Tensor:
        """A gate [units] or [batch, units] as [..., units] that broadcasts against `output`."""
        gate = gate.to(output.dtype)
        if gate.ndim == 1:
            return gate
        if len(output) != len(gate):
            raise OptionError(f"there are gates for {len(gate)} examples and {len(output)} rows", place="gates")
        return gate.reshape(len(gate), *[1] * (output.ndim - 2 - (output.ndim == 4)), gate.shape[-1])

    def _mix(self, gate: Tensor, output: Tensor, mean: Tensor) -> Tensor:
        if self.ablation == "zero":
            return gate * output
        if self.ablation == "mean":
            return gate * output + (1 - gate) * mean.to(output.dtype)
        if len(output) < 2:
            raise OptionError("resampling needs at least two rows in a batch", place="ablation")
        other = output.roll(1, 0)
        if self._padding is not None:
            real = self._padding.roll(1, 0).bool()
            other = torch.where(real.reshape(*real.shape, *[1] * (output.ndim - 2)), other, output)
        return gate * output + (1 - gate) * other


@contextmanager
def gated(parts: Parts, means: Means | None = None, *, ablation: Ablation = "mean") -> Iterator[UnitGates]:
    """Hook `parts.model` so that gates can be set; all are open at first. Raises OptionError.

    means: for "mean" ablation; checked against the model.
    """
    if ablation not in ("mean", "zero", "resample"):
        raise OptionError(f"unknown ablation '{ablation}'", remedy="Known: mean, zero, resample.")
    if ablation == "resample" and isinstance(parts, EncoderDecoder):
        raise OptionError("two stacks with paddings of their own cannot resample", place="ablation", remedy="Use mean.")
    if ablation == "mean":
        if means is None:
            raise OptionError("mean ablation needs the means", place="means", remedy="Call collect_means, or use zero.")
        means.check(parts)
    gates = UnitGates(parts, means if means is not None else zero_means(parts.model, parts), ablation)
    handles = [parts.model.register_forward_pre_hook(_call_hook(gates), with_kwargs=True)]
    try:
        for layer in range(parts.num_layers):
            handles.append(parts.attention_output(layer).register_forward_pre_hook(_head_hook(gates, layer)))
            if (mlp := parts.mlp_output(layer)) is not None:
                handles.append(mlp.register_forward_hook(_mlp_hook(gates, layer)))
        yield gates
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def masked(
    parts: Parts, mask: UnitMask, means: Means | None = None, *, ablation: Ablation = "mean"
) -> Iterator[UnitGates]:
    """`parts.model` with only the units of `mask`, as long as the block lasts."""
    with gated(parts, means, ablation=ablation) as gates:
        gates.set(mask)
        yield gates


def _call_hook(gates: UnitGates):  # type: ignore[no-untyped-def]
    """Note how many rows a call has, and refuse a head_mask."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get("head_mask") is not None:
            raise OptionError(
                "transformers 5 ignores head_mask silently, so it is refused",
                place="head_mask",
                remedy="Make a mask of it by UnitMask.from_head_mask.",
            )
        given = [*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")]
        gates.rows = next((len(value) for value in given if isinstance(value, Tensor)), 0)

    return hook


def _head_hook(gates: UnitGates, layer: int):  # type: ignore[no-untyped-def]
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (gates.heads(layer, inputs[0]), *inputs[1:])

    return hook


def _mlp_hook(gates: UnitGates, layer: int):  # type: ignore[no-untyped-def]
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        changed = gates.mlp(layer, first_tensor(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook
