"""What does each single unit contribute? Every unit ablated in turn, without computing the same layers again.

The Heuristic Core (2024, section 5): close one gate of the full model or of a subnetwork and compare accuracies. The
layers below the ablated one do not change, so they are answered from memory, and so is the attention of the ablated
layer, up to its output projection; the ablations of one layer share a batch. Where a classifier reads one place of a
row, the last layer's output projection and MLP are computed there alone. Same logits as one forward pass an ablation.
Input: an open `gated` block and batches. Output: logits by unit. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.circuits.head_masks import UnitGates
from glassworks.circuits.sentence_pairs import Batch
from glassworks.circuits.subnetwork_units import UnitMask, unit_index
from glassworks.errors import OptionError
from glassworks.foundations.dataflow import is_linear
from glassworks.foundations.parts import Anatomy, first_tensor


@torch.no_grad()
def naive_sweep(gates: UnitGates, batch: Batch, base: UnitMask, units: Sequence[str]) -> dict[str, Tensor]:
    """Logits [batch, ...] of each ablation by a whole forward pass: the reference of `ablation_sweep`."""
    found = {}
    for name in units:
        gates.set(_without(base, name), batch.get("attention_mask"))
        found[name] = gates.parts.model(**batch).logits
    gates.set(None)
    return found


@torch.no_grad()
def ablation_sweep(
    gates: UnitGates, batch: Batch, base: UnitMask, units: Sequence[str], *, rows_at_once: int = 512
) -> dict[str, Tensor]:
    """Logits [batch, ...] of each ablation; `base` is the network without any, "" its own logits.

    units: a{layer}.h{head} or a{layer}.mlp. rows_at_once: rows of one forward pass at most. Raises OptionError for
    resampling, whose neighbours would be other ablations.
    """
    if gates.ablation == "resample":
        raise OptionError("a sweep in one batch cannot resample", place="ablation", remedy="Use mean or zero.")
    layers, heads = base.heads.shape
    by_layer: dict[int, list[str]] = {}
    for name in units:
        by_layer.setdefault(unit_index(name, layers, heads)[0], []).append(name)
    if not isinstance(gates.parts, Anatomy):  # two stacks: nothing to restart from
        gates.set(base, batch.get("attention_mask"))
        return {"": gates.parts.model(**batch).logits} | naive_sweep(gates, batch, base, units)
    memory = _Memory(gates.parts)
    gates.set(base, batch.get("attention_mask"))
    with memory.recording():
        found = {"": gates.parts.model(**batch).logits}
    memory.find_read(batch)
    size = len(batch["input_ids"])
    at_once = max(1, rows_at_once // size)
    for layer in sorted(by_layer):
        names = by_layer[layer]
        for start in range(0, len(names), at_once):
            some = names[start : start + at_once]
            z = torch.stack([_without(base, name).units.float() for name in some])
            gates.set(z.repeat_interleave(size, 0))
            repeated = {key: value.repeat(len(some), *[1] * (value.ndim - 1)) for key, value in batch.items()}
            with memory.replaying(layer, len(some)):
                logits = gates.parts.model(**repeated).logits
            found |= dict(zip(some, logits.split(size), strict=True))
    gates.set(None)
    return found


class _Memory:
    """What each block and each attention returned under the base mask, and a way to answer from it."""

    def __init__(self, parts: Anatomy) -> None:
        self.parts = parts
        self.blocks: dict[int, Any] = {}
        self.attention: dict[int, Any] = {}
        self.before_output: dict[int, Tensor] = {}
        self.read: Tensor | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note the outputs of one forward pass, and the concatenated heads before any gate."""
        handles = []
        for layer in self.parts.layers:
            handles.append(layer.block.register_forward_hook(_noting(self.blocks, layer.index)))
            handles.append(layer.attention.module.register_forward_hook(_noting(self.attention, layer.index)))
            handles.append(
                layer.attention.output.register_forward_pre_hook(
                    _noting_input(self.before_output, layer.index), prepend=True
                )
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def find_read(self, batch: Batch) -> None:
        """Note the place of each row [batch] whose last residual stream is all that the logits depend on, if it is one.

        By the gradient of one logit: what the model does not read has none.
        """
        blocks = [layer.block for layer in self.parts.layers]
        final = first_tensor(self.blocks[self.parts.layers[-1].index])
        with torch.enable_grad(), ExitStack() as stack:
            leaf = final.detach().clone().requires_grad_()
            for layer, block in zip(self.parts.layers, blocks, strict=True):
                kept = self.blocks[layer.index]
                stack.enter_context(_answering(block, (leaf, *kept[1:]) if isinstance(kept, tuple) else leaf))
            logits = self.parts.model(**batch).logits
            if logits.ndim != 2:
                return
            (gradient,) = torch.autograd.grad(logits[:, 0].sum(), leaf)
        places = gradient.ne(0).any(-1)
        if bool((places.sum(1) == 1).all()):
            self.read = places.int().argmax(1)

    @contextmanager
    def replaying(self, first: int, times: int) -> Iterator[None]:
        """Answer the blocks before `first` and the attention of `first` from memory, repeated `times` times."""
        with ExitStack() as stack:
            for layer in self.parts.layers[:first]:  # of which only the last one's answer is read
                kept = self.blocks[layer.index]
                answer = _repeated(kept, times) if layer.index == first - 1 else kept
                stack.enter_context(_answering(layer.block, answer))
            if self.read is not None:
                last, read = self.parts.layers[-1], self.read.repeat(times)
                stack.enter_context(_only_at(read, last.attention.output, last.attention.output))
                if is_linear(last.mlp.output):
                    stack.enter_context(_only_at(read, last.mlp.modules[0], last.mlp.modules[-1]))
            attention = self.parts.layers[first].attention
            heads = self.before_output[first].repeat(times, *[1] * (self.before_output[first].ndim - 1))
            if any(module is attention.output for module in attention.module.modules()):

                def from_heads(*_args: Any, **_kwargs: Any) -> Any:
                    written = attention.output(heads)
                    kept = self.attention[first]
                    return (written, *kept[1:]) if isinstance(kept, tuple) else written

                stack.enter_context(_answering_by(attention.module, from_heads))
            else:
                stack.enter_context(_answering(attention.module, _repeated(self.attention[first], times)))
            yield


def _noting(notes: dict[int, Any], layer: int) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        notes[layer] = output

    return hook


def _noting_input(notes: dict[int, Tensor], layer: int) -> Callable[..., None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        notes[layer] = inputs[0]

    return hook


def _repeated(output: Any, times: int) -> Any:
    """The first tensor of a module's output repeated along the batch; what stands beside it (caches, weights) kept."""
    tensor = first_tensor(output)
    many = tensor.repeat(times, *[1] * (tensor.ndim - 1))
    return (many, *output[1:]) if isinstance(output, tuple) else many


@contextmanager
def _only_at(places: Tensor, first: nn.Module, last: nn.Module) -> Iterator[None]:
    """From the input of `first` to the output of `last` only `places` [batch] of [batch, seq, ...] are computed.

    The other places get what these get: shapes stay, and nobody may read them.
    """
    length, rows = 0, torch.arange(len(places), device=places.device)

    def narrow(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal length
        if inputs[0].ndim != 3:  # places are flattened: nothing is left out
            return inputs
        length = inputs[0].shape[1]
        return (inputs[0][rows, places][:, None], *inputs[1:])

    def widen(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not length:
            return output
        wide = first_tensor(output).expand(-1, length, -1).clone()
        return (wide, *output[1:]) if isinstance(output, tuple) else wide

    handles = [first.register_forward_pre_hook(narrow), last.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _answering(module: nn.Module, answer: Any) -> Any:
    return _answering_by(module, lambda *_args, **_kwargs: answer)


@contextmanager
def _answering_by(module: nn.Module, answer: Callable[..., Any]) -> Iterator[None]:
    """`module` answers with `answer` as long as the block lasts; its hooks still run."""
    module.forward = answer
    try:
        yield
    finally:
        del module.forward  # the class's own shows again


def _without(base: UnitMask, name: str) -> UnitMask:
    layers, heads = base.heads.shape
    return base - UnitMask.from_names([name], layers, heads)
