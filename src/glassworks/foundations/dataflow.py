"""Which module read and wrote which tensor in one forward pass of a model, and how tensors add up.

The anatomy is found by watching a short random input flow through a model: a norm is "before the attention"
because its output is what the attention reads, whatever it is called. Inputs: a model and its keyword arguments.
Outputs: the calls in the order in which they ended, and small tests on tensors. Knows nothing of transformers'
module names, of layers or of heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

# Largest relative error at which a sum of recorded tensors counts as another recorded tensor.
_FIT = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}


class Unexplained(Exception):
    """Part of a forward pass fits none of the known forms; the text says which. Becomes UnsupportedArchitecture."""


class Call(NamedTuple):
    """One call of a module: qualified name, module, keyword arguments, first tensor given and first returned.

    input, output: copies of any shape, taken at once, since some models add to a tensor in place later; where a
    model flattens [batch, seq, width] to [batch * seq, width] (OPT) they have their three axes back. joins: whether
    it was given several [batch, seq, width] tensors, so that it may add the residual stream itself (Bloom).
    """

    name: str
    module: nn.Module
    kwargs: dict[str, Any]
    input: Tensor | None
    output: Tensor
    joins: bool

    @property
    def read(self) -> Tensor:
        """The input; raises Unexplained where the module was given no tensor."""
        if self.input is None:
            raise Unexplained(f"{self.name} reads no tensor")
        return self.input


@dataclass(frozen=True)
class Recording:
    """The calls of one forward pass, in the order in which they ended; logits of any shape."""

    calls: tuple[Call, ...]
    logits: Tensor
    _by_module: dict[int, list[Call]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for call in self.calls:
            self._by_module.setdefault(id(call.module), []).append(call)

    def of(self, module: nn.Module) -> Call | None:
        """The only call of `module`, None where it was not called or called more than once."""
        calls = self._by_module.get(id(module), [])
        return calls[0] if len(calls) == 1 else None

    def once(self, module: nn.Module) -> Call:
        """The only call of `module`; raises Unexplained where there is not exactly one."""
        call = self.of(module)
        if call is None:
            raise Unexplained(f"a {type(module).__name__} does not run exactly once")
        return call

    def inside(self, module: nn.Module) -> list[Call]:
        """The calls of modules inside `module`, in the order in which they ended."""
        inner = {id(child) for child in module.modules()} - {id(module)}
        return [call for call in self.calls if id(call.module) in inner]

    def before(self, module: nn.Module) -> list[Call]:
        """The calls that ended before anything in `module` did."""
        inner = {id(child) for child in module.modules()}
        start = next(index for index, call in enumerate(self.calls) if id(call.module) in inner)
        return list(self.calls[:start])

    def after(self, module: nn.Module) -> list[Call]:
        """The calls that ended after `module` did."""
        end = next(index for index, call in enumerate(self.calls) if call.module is module)
        return list(self.calls[end + 1 :])

    def outermost(self, root: nn.Module, avoid: Iterable[nn.Module]) -> list[Call]:
        """Calls of the largest modules below `root` that hold none of `avoid`, in the order in which they ended.

        Dropout and identities do nothing in eval mode and are left out; modules that join tensors are looked into.
        """
        kept_out = set(map(id, avoid))
        avoided = kept_out | {id(call.module) for call in self.calls if call.joins}

        def walk(module: nn.Module) -> Iterator[nn.Module]:
            for child in module.children():
                if isinstance(child, (nn.Dropout, nn.Identity)):
                    continue
                if avoided.isdisjoint(map(id, child.modules())) and id(child) in self._by_module:
                    yield child
                elif id(child) not in kept_out:
                    yield from walk(child)

        wanted = set(map(id, walk(root)))
        return [call for call in self.calls if id(call.module) in wanted]


def record(model: nn.Module, inputs: Mapping[str, Any]) -> Recording | None:
    """Run `model` once on `inputs` (`input_ids` among them) and note every call; None where it has no `logits`.

    The model is left as it was: the hooks are removed, also when the forward pass fails.
    """
    calls: list[Call] = []
    names = {id(module): name for name, module in model.named_modules()}
    rows = inputs["input_ids"].shape

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if isinstance(first, Tensor):
            given = [value for value in (*args, kwargs.get("hidden_states")) if isinstance(value, Tensor)]
            given += [x for name, x in kwargs.items() if isinstance(x, Tensor) and name != "hidden_states"]
            joins = sum(x.ndim == 3 and x.is_floating_point() for x in given) > 1
            read = _copy(given[0], rows) if given else None
            calls.append(Call(names[id(module)], module, dict(kwargs), read, _copy(first, rows), joins))

    with hooked(module.register_forward_hook(note, with_kwargs=True) for module in model.modules()):
        output = model(**inputs)
    logits = getattr(output, "logits", None)
    return None if logits is None else Recording(tuple(calls), logits)


def _copy(tensor: Tensor, rows: torch.Size) -> Tensor:
    copy = tensor.detach().clone()
    return copy.unflatten(0, rows) if copy.ndim == 2 and len(copy) == rows.numel() else copy


@contextmanager
def hooked(handles: Iterator[Any] | Sequence[Any]) -> Iterator[None]:
    """Keep hooks for the duration of a block. handles: what `register_*_hook` returned."""
    handles = list(handles)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode for the duration of a block, then give each module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two recorded tensors are the same: equal shape (any) and, bit for bit, equal values."""
    return a is not None and b is not None and a.shape == b.shape and torch.equal(a.to(b.dtype), b)


def coefficients(target: Tensor, terms: Sequence[Tensor], known: Sequence[float] = ()) -> list[float] | None:
    """The numbers c with target = Σ c_i terms_i, None where there are none.

    target [batch, seq, hidden]; terms broadcast to it. Numbers are taken to be 1 where that explains the target
    as well as the best fit does, else the nearest of `known` (values of the configuration), else the fit itself.
    """
    if target.ndim != 3 or not all(_spreads(term, target) for term in terms):
        return None
    # Each channel is divided by its size: a few channels of a trained model are a thousand times the others.
    scale = target.double().pow(2).mean(dim=(0, 1)).sqrt().clamp_min(1e-30)
    columns = torch.stack([(term.expand_as(target).double() / scale).flatten() for term in terms], dim=1)
    wanted = (target.double() / scale).flatten()

    def error(values: Tensor) -> float:
        return float((columns @ values - wanted).norm() / wanted.norm())

    ones = torch.ones(len(terms), dtype=torch.float64, device=target.device)
    # First, since a term that is zero throughout (a layer without a head at work) has no number to be fitted.
    if error(ones) <= _FIT.get(target.dtype, 1e-2) / 10:
        return [1.0] * len(terms)
    fitted = torch.linalg.lstsq(columns, wanted[:, None]).solution[:, 0]
    best, tolerance = error(fitted), _FIT.get(target.dtype, 1e-2)
    if not best <= tolerance:
        return None
    if error(ones) <= 2 * best + tolerance / 10:
        return [1.0] * len(terms)
    candidates = torch.tensor([1.0, *known], dtype=torch.float64, device=target.device)
    nearest = candidates[(fitted[:, None] - candidates).abs().argmin(dim=1)]
    kept = nearest if error(nearest) <= 2 * best + tolerance / 10 else fitted
    return [float(c) for c in kept]


def _spreads(term: Tensor, target: Tensor) -> bool:
    """Whether a term [batch or 1, seq or 1, hidden] broadcasts to the target [batch, seq, hidden]."""
    if term.ndim != 3 or term.shape[-1] != target.shape[-1]:
        return False
    return all(own in (1, size) for own, size in zip(term.shape[:2], target.shape[:2], strict=True))


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation layer, by its class's name: they share no class, and some no weight."""
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())


def is_linear(module: nn.Module) -> bool:
    """Whether a module is one affine map whose weight matrix can be sliced."""
    return isinstance(module, (nn.Linear, Conv1D))


def linear_weight(module: nn.Module) -> Tensor:
    """The weight [out, in] of a linear map, a view: Conv1D keeps the transpose."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.T if isinstance(module, Conv1D) else weight
