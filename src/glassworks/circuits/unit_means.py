"""The mean output of each head and MLP block: what a mean-ablated unit is replaced by.

The Heuristic Core (2024, section 2; means of the official code): one vector a head [head_dim], taken before the
output projection, and one an MLP [hidden], averaged over all tokens that are not padding, whatever the batch size.
Sums run in float64. The file is safetensors with the fingerprints of model and data; means of another model are
refused. Knows no gates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.circuits.encoder_decoder import EncoderDecoder, Parts
from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.foundations.dataflow import evaluating
from glassworks.foundations.files import atomic_write
from glassworks.foundations.frozen import weight_hashes
from glassworks.foundations.parts import first_tensor


@dataclass(frozen=True, eq=False)
class Means:
    """heads: [layers, heads, head_dim]; mlps: [layers, hidden], fp32 (fp64 of an fp64 model); tokens: averaged over.

    model_sha, data_sha: fingerprints of the weights and of the examples they were taken with, "" = unknown.
    """

    heads: Tensor
    mlps: Tensor
    tokens: int = 0
    model_sha: str = ""
    data_sha: str = ""

    def check(self, parts: Parts) -> None:
        """Raise OptionError where the means are of another shape or of other weights than the model's."""
        expected = [parts.num_layers, parts.num_heads, head_dim_of(parts)], [parts.num_layers, parts.hidden_size]
        received = list(self.heads.shape), list(self.mlps.shape)
        if received != (expected[0], expected[1]):
            raise OptionError(
                f"the means have shapes {received[0]} and {received[1]}, the model needs {expected[0]} and "
                f"{expected[1]}",
                place="means",
                remedy="Collect them again with this model.",
            )
        if self.model_sha and self.model_sha != (found := weights_sha(parts.model)):
            raise OptionError(
                f"the means were taken with weights {self.model_sha}, the model's are {found}",
                place="means",
                remedy="Collect them again with this model.",
            )


def weights_sha(model: nn.Module) -> str:
    """16 hexadecimal digits over the bytes of every parameter of a model in memory."""
    hashes = weight_hashes(model, {name for name, _ in model.named_parameters()})
    return hashlib.sha256("".join(f"{name}{sha}" for name, sha in sorted(hashes.items())).encode()).hexdigest()[:16]


@torch.no_grad()
def collect_means(parts: Parts, batches: Iterable[Mapping[str, Tensor]], *, data_sha: str = "") -> Means:
    """Average every unit's output over the tokens of `batches`, padding left out.

    batches: the model's inputs; `attention_mask` [batch, seq] says what is padding, `decoder_attention_mask` in a
    decoder's own input. Raises OptionError for none.
    """
    layers, heads, head_dim = parts.num_layers, parts.num_heads, head_dim_of(parts)
    sums = [torch.zeros(layers, size, dtype=torch.float64) for size in (heads * head_dim, parts.hidden_size)]
    weights: list[Tensor] = []
    counts, handles = torch.zeros(layers, dtype=torch.float64), []

    def add(kind: int, layer: int, values: Tensor) -> None:
        flat = values.detach().reshape(-1, values.shape[-1]).double()
        sums[kind][layer] += (weights[layer].to(flat).reshape(-1) @ flat).cpu()

    try:
        for layer in range(layers):
            read = _reader(add, layer)
            handles.append(parts.attention_output(layer).register_forward_pre_hook(read[0]))
            if (mlp := parts.mlp_output(layer)) is not None:
                handles.append(mlp.register_forward_hook(read[1]))
        with evaluating(parts.model):
            for batch in batches:
                weights = _token_weights(parts, batch)
                counts += torch.tensor([float(weight.sum()) for weight in weights])
                parts.model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    if not bool(counts.all()):
        raise OptionError("there is no example to take the means over", place="data")
    dtype = torch.float64 if parts.model.dtype == torch.float64 else torch.float32
    means = [(total / counts[:, None]).to(dtype) for total in sums]
    shaped = means[0].reshape(layers, heads, head_dim)
    return Means(shaped, means[1], int(counts[0]), weights_sha(parts.model), data_sha)


def head_dim_of(parts: Parts) -> int:
    """Size of one head's output."""
    return parts.head_dim if isinstance(parts, EncoderDecoder) else parts.layers[0].attention.head_dim


def _token_weights(parts: Parts, batch: Mapping[str, Tensor]) -> list[Tensor]:
    """1 for tokens and 0 for padding, [batch, seq], for each row of units."""
    if isinstance(parts, EncoderDecoder):
        by_group = parts.token_weights(batch)
        return [by_group[row.group] for row in parts.rows]
    return [batch.get("attention_mask", torch.ones_like(batch["input_ids"]))] * parts.num_layers


def _reader(add, layer: int):  # type: ignore[no-untyped-def]
    """A pre-hook that reads the heads of `layer` and a hook that reads its MLP."""

    def heads(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        add(0, layer, inputs[0])

    def mlp(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        add(1, layer, first_tensor(output))

    return heads, mlp


def save_means(path: Path, means: Means) -> None:
    """Write `{layer}.heads` [heads, head_dim] and `{layer}.mlp` [hidden] with fingerprints, atomically."""
    tensors = {f"{layer}.heads": rows.contiguous() for layer, rows in enumerate(means.heads)}
    tensors |= {f"{layer}.mlp": row.contiguous() for layer, row in enumerate(means.mlps)}
    about = {"tokens": str(means.tokens), "model_sha": means.model_sha, "data_sha": means.data_sha}
    with atomic_write(Path(path)) as temporary:
        save_file(tensors, temporary, metadata=about)


def load_means(path: str | Path) -> Means:
    """Read what `save_means` wrote. Raises DataNotFound or MalformedRecord."""
    if not Path(path).is_file():
        raise DataNotFound("no such file of means", place=str(path))
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            names = sorted({int(name.partition(".")[0]) for name in file.keys()})  # noqa: SIM118 (no mapping)
            heads = torch.stack([file.get_tensor(f"{layer}.heads") for layer in names])
            mlps = torch.stack([file.get_tensor(f"{layer}.mlp") for layer in names])
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise MalformedRecord(f"is no file of means ({error})", place=str(path)) from error
    return Means(heads, mlps, int(about.get("tokens", 0)), about.get("model_sha", ""), about.get("data_sha", ""))


def zero_means(model: PreTrainedModel, parts: Parts) -> Means:
    """Means of 0: ablating to them is zero ablation."""
    head_dim = head_dim_of(parts)
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    heads = torch.zeros(parts.num_layers, parts.num_heads, head_dim, dtype=dtype)
    return Means(heads, torch.zeros(parts.num_layers, parts.hidden_size, dtype=dtype))
