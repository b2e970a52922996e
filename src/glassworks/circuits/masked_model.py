"""A model's forward pass in which every edge of its graph has a gate: what Edge Pruning (2024, section 2) runs.

Reader r takes u_r = sum over writers w before it of z_wr x_w + (1 - z_wr) x'_w, where x'_w stands in for a writer
that is cut off (its output on a corrupted prompt, 0, a mean). With D_w = x_w - x'_w and c_r = sum of x'_w this is
u_r = c_r + sum z_wr D_w: one buffer of differences, each row written once, and one matmul a read, over the rows
before it. The model's own modules compute the rest; its weights get no gradient. Inputs: a model, token-aligned
prompts, gates [writers, readers]. Output: logits at the answer positions. Knows no method and no loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.circuits.prefix import Prefix, PrefixCache, cache_argument, prefix_of
from glassworks.circuits.sites import Site, attention_site, graph_of, heads_written, mlp_site, sites_of
from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.attention import AttentionCall
from glassworks.foundations.parts import Anatomy
from glassworks.foundations.recompose import Trace, embed, entered, mlp_write, read_out, trace
from glassworks.foundations.sharding import Shards

# What the logits with all gates at 1 may be off by, as a share of max(1, largest logit).
SELF_TEST = {torch.float64: 1e-9, torch.float32: 1e-4}
SELF_TEST_HALF = 5e-2
SHAPES = 64
"""Batch shapes whose masks and rotary angles are kept."""


class Positions(NamedTuple):
    """Where logits are wanted: example and place of each, int64 [answers]; no pair twice."""

    rows: Tensor
    columns: Tensor


@dataclass
class _Pass:
    """One forward pass and what its backward needs.

    stand_ins: [writers, batch or 1, seq or 1, hidden] or None for zero. differences: [writers, batch, seq, hidden].
    scoring: differences that gate gradients are taken with, where they are not this pass's own. prefix: what the
    places before `clean` left in the model's cache. tape: for each site its reads and what it wrote, or nothing
    where it is to be computed again. sums: c at each site.
    """

    clean: Tensor
    stand_ins: Tensor | None
    at: Positions
    record: bool
    scoring: Tensor | None = None
    prefix: Prefix | None = None
    differences: Tensor = field(default_factory=lambda: torch.empty(0))
    tape: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)
    sums: list[Tensor] = field(default_factory=list)


class MaskedModel:
    """`model` with a gate on every edge of `graph`. Freezes the model's weights and sets it to evaluation.

    embeddings, ungrouped: the convention of the graph. checkpointing: keep no activation between the passes
    and compute each site twice. Refuses, with UnsupportedArchitecture, a model that all gates at 1 do not reproduce.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        embeddings: int = 1,
        ungrouped: bool = False,
        checkpointing: bool = False,
        parts: Anatomy | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.shards = Shards(model)
        self.parts = anatomy(model) if parts is None else parts
        self.graph = graph_of(self.parts, embeddings=embeddings, ungrouped=ungrouped)
        self.checkpointing = checkpointing
        self.sites = sites_of(self.graph)
        self._exists = self.graph.exists.to(self.device)
        # Prefixes differ between processes, and with them when the model would run, which shards must agree on.
        self._has_cache = cache_argument(model) is not None and not self.shards
        self._calls: dict[tuple[int, int, int], tuple[Trace, PrefixCache | None]] = {}
        self._buffers: dict[torch.Size, list[Tensor]] = {}
        self._check()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The model's precision; gates keep their own."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def ones(self) -> Tensor:
        """Gates of the whole model, fp32 (float64 of a float64 model) [writers, readers], 0 where no edge exists."""
        return self._exists.to(torch.float64 if self.dtype == torch.float64 else torch.float32)

    @property
    def _head(self) -> tuple[nn.Module | None, ...]:
        return self.parts.head.final_norm, *self.parts.head.modules

    @torch.no_grad()
    def plain_logits(self, input_ids: Tensor, at: Positions) -> Tensor:
        """The unmasked model's logits [answers, vocab] at `at`, for input_ids [batch, seq] padded on the right."""
        stream = self._final_stream(input_ids, at)
        with self.shards.gathered(*self._head):
            return read_out(self.parts.head, stream)

    @torch.no_grad()
    def writers(self, input_ids: Tensor) -> Tensor:
        """What every writer writes in a plain run on input_ids [batch, seq]: [writers, batch, seq, hidden]."""
        run = trace(self.parts, input_ids, **_one_logit(self.model))
        # One buffer, each row copied once: torch.cat would hold everything twice.
        out = run.heads[0].new_empty(self.graph.n_writers, *input_ids.shape, self.parts.hidden_size)
        out[: self.graph.embeddings] = self._embedding_writers(input_ids, run)
        for index, layer in enumerate(self.parts.layers):
            first = self.graph.writers_before(index)
            with self.shards.gathered(layer.block):
                out[first : first + self.graph.heads] = heads_written(layer, run.heads[index])
                out[first + self.graph.heads] = mlp_write(layer, run.mlps[index])
        return out

    def prefix(self, input_ids: Tensor) -> Prefix | None:
        """What the first places, input_ids [batch, places], hand to later ones; None if the model has no cache."""
        return prefix_of(self.model, input_ids, **_one_logit(self.model)) if self._has_cache else None

    def logits(
        self,
        clean: Tensor,
        stand_ins: Tensor | None,
        gates: Tensor,
        at: Positions,
        *,
        constants: Tensor | None = None,
        scoring: Tensor | None = None,
        prefix: Prefix | None = None,
    ) -> Tensor:
        """Logits [answers, vocab] of the gated model, differentiable in `gates` and `constants`.

        clean: [batch, seq], padded on the right. stand_ins: x' [writers, batch or 1, seq or 1, hidden]; None is 0.
        gates: [writers, readers]; entries that are no edge are ignored. Node gates: multiply the rows by them.
        constants: x' [writers, hidden], learned (optimal ablation), instead of stand_ins. scoring: gradients of
        gates are taken with these differences [writers, batch, seq, hidden] instead of this pass's own. prefix: of
        first places at which stand_ins are what a plain run on `clean` writes: they are not computed again.
        """
        record = torch.is_grad_enabled() and (gates.requires_grad or (constants is not None))
        if constants is not None:
            stand_ins = constants.detach()[:, None, None].to(self.dtype)
        job = _Pass(clean, stand_ins, at, record, scoring)
        if prefix is not None:
            job = _behind(job, prefix)
        stream: Tensor = _Gated.apply(gates * self._exists, constants, self, job)  # type: ignore[no-untyped-call]
        if not self.shards:
            return read_out(self.parts.head, stream)
        self.shards.open(*self._head)
        logits: Tensor = _Gather.apply(read_out(self.parts.head, stream), self)  # type: ignore[no-untyped-call]
        return logits

    def _forward(self, gates: Tensor, job: _Pass) -> Tensor:
        """The residual stream [answers, hidden] that the final reader receives; fills the buffer and the tape."""
        run = self._trace_of(job)
        buffer = job.differences = self._take_buffer(job.clean)
        z, known = gates.to(self.dtype), 0
        summed = torch.zeros_like(buffer[0])
        if self.graph.embeddings == 0:
            summed = summed + self._embedding_sum(job.clean, run)
        else:
            self._write(job, slice(0, self.graph.embeddings), self._embedding_writers(job.clean, run))
        for site in self.sites:
            if job.stand_ins is not None and site.visible > known:
                summed, known = summed + job.stand_ins[known : site.visible].sum(dim=0), site.visible
            keep = job.record and not self.checkpointing
            reads = self._read(z, site, summed, buffer).requires_grad_(keep)
            with torch.set_grad_enabled(keep), self.shards.gathered(self.parts.layers[site.layer].block):
                written = self._run(site, reads, run.attention_calls)
            self._write(job, site.writes, written.detach())
            if job.record:
                job.sums.append(summed)
                job.tape.append((reads, written) if keep else None)
        if job.stand_ins is not None:
            summed = summed + job.stand_ins[known:].sum(dim=0)
        differences = buffer[:, job.at.rows, job.at.columns]
        stream = summed[job.at.rows, job.at.columns] + torch.einsum("w,wad->ad", z[:, -1], differences)
        if not job.record:
            self._give_buffer(buffer)
        return stream

    def _backward(self, gates: Tensor, job: _Pass, flow: Tensor, constants: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradients of gates [writers, readers] and constants [writers, hidden], from that of the stream."""
        calls = self._trace_of(job).attention_calls
        z, scoring = gates.to(self.dtype), job.differences if job.scoring is None else job.scoring
        back = self._take_buffer(job.clean).zero_()
        of_gates, of_constants = torch.zeros_like(gates), gates.new_zeros(len(gates), flow.shape[-1])
        rows, columns = job.at
        of_gates[:, -1] = torch.einsum("wad,ad->w", scoring[:, rows, columns], flow).to(gates.dtype)
        back[:, rows, columns] = z[:, -1, None, None] * flow
        if constants is not None:
            of_constants += torch.outer(1 - gates[:, -1], flow.sum(0).to(gates.dtype))
        for site in reversed(self.sites):
            held = job.tape.pop()
            summed = job.sums.pop()
            with self.shards.gathered(self.parts.layers[site.layer].block):
                with torch.enable_grad():
                    if held is None:
                        reads = self._read(z, site, summed, job.differences).requires_grad_()
                        held = reads, self._run(site, reads, calls)
                reads, written = held
                del held
                (into,) = torch.autograd.grad(written, reads, back[site.writes])
            into = into.reshape(into.shape[0], -1)
            sees = slice(0, site.visible)
            of_gates[sees, site.readers] = (scoring[sees].flatten(1) @ into.T).to(gates.dtype)
            back[sees].flatten(1).addmm_(z[sees, site.readers], into)
            if constants is not None:
                summed_in = into.view(len(into), -1, flow.shape[-1]).sum(1).to(gates.dtype)
                of_constants[sees] += (1 - gates[sees, site.readers]) @ summed_in
        self._give_buffer(back)
        self._give_buffer(job.differences)
        return of_gates, of_constants

    def _read(self, z: Tensor, site: Site, summed: Tensor, buffer: Tensor) -> Tensor:
        """u of each of a site's readers, [readers, batch, seq, hidden]."""
        sees = slice(0, site.visible)
        weights = z[sees, site.readers].T
        reads = torch.addmm(summed.view(1, -1), weights, buffer[sees].flatten(1))
        return reads.view(len(weights), *summed.shape)

    def _run(self, site: Site, reads: Tensor, calls: list[AttentionCall]) -> Tensor:
        layer = self.parts.layers[site.layer]
        return mlp_site(layer, reads) if site.is_mlp else attention_site(layer, self.graph, reads, calls[site.layer])

    def _write(self, job: _Pass, rows: slice, written: Tensor) -> None:
        if job.stand_ins is None:
            job.differences[rows] = written
        else:
            torch.sub(written, job.stand_ins[rows], out=job.differences[rows])

    def _take_buffer(self, like: Tensor) -> Tensor:
        shape = torch.Size([self.graph.n_writers, *like.shape, self.parts.hidden_size])
        free = self._buffers.setdefault(shape, [])
        return free.pop() if free else torch.empty(shape, dtype=self.dtype, device=self.device)

    def _give_buffer(self, buffer: Tensor) -> None:
        if sum(len(free) for free in self._buffers.values()) > 4:  # lengths that vary must not pile up
            self._buffers.clear()
        self._buffers.setdefault(buffer.shape, []).append(buffer)

    def _trace_of(self, job: _Pass) -> Trace:
        """What the model hands to its modules for this batch, length and prefix; the tokens do not matter."""
        shape = (*job.clean.shape[:2], 0 if job.prefix is None else job.prefix.length)
        if self.shards.anywhere(shape not in self._calls):
            if len(self._calls) >= SHAPES:
                self._calls.clear()
            cache = None if job.prefix is None else PrefixCache(job.prefix)
            options = _one_logit(self.model) | ({} if cache is None else {str(cache_argument(self.model)): cache})
            with torch.no_grad():
                self._calls[shape] = trace(self.parts, job.clean, activations=False, **options), cache
        run, cache = self._calls[shape]
        if cache is not None and job.prefix is not None:
            cache.prefix = job.prefix
        return run

    def _tables(self, ids: Tensor, run: Trace) -> tuple[Tensor, ...]:
        return embed(self.parts.embedding, Trace(ids, table_inputs=[((ids,), {}), *run.table_inputs[1:]]))

    def _embedding_sum(self, ids: Tensor, run: Trace) -> Tensor:
        embedding = self.parts.embedding
        with self.shards.gathered(*embedding.tables, embedding.norm, embedding.projection):
            return entered(embedding, self._tables(ids, run))

    def _embedding_writers(self, ids: Tensor, run: Trace) -> Tensor:
        """[embeddings, batch, seq, hidden]: their sum, or tokens and everything else. run: of the same shape."""
        if self.graph.embeddings == 2:
            with self.shards.gathered(*self.parts.embedding.tables):
                tokens, *others = self._tables(ids, run)
            return torch.stack([tokens, torch.stack(others).sum(dim=0)])
        return self._embedding_sum(ids, run)[None][: self.graph.embeddings]

    def _final_stream(self, ids: Tensor, at: Positions) -> Tensor:
        """What the final norm receives in a plain run, at `at`."""
        seen: list[Tensor] = []
        norm = self.parts.head.final_norm
        if norm is None:
            return self._recomposed(ids)[at.rows, at.columns]
        handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            options: dict[str, Any] = _one_logit(self.model) | {"use_cache": False}
            self.model(input_ids=ids, **options)
        finally:
            handle.remove()
        return seen[0][at.rows, at.columns]

    def _recomposed(self, ids: Tensor) -> Tensor:
        run = self._trace_of(_Pass(ids, None, Positions(ids[:0, 0], ids[:0, 0]), False))
        return self._embedding_sum(ids, run) + self.writers(ids)[self.graph.embeddings :].sum(dim=0)

    @torch.no_grad()
    def _check(self) -> None:
        """Refuse a model whose logits all gates at 1 do not reproduce."""
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.randint(vocabulary, (2, 6), generator=generator).to(self.device)
        at = Positions(*(torch.tensor(index, device=self.device) for index in ([0, 1], [5, 5])))
        theirs = self.model(input_ids=ids).logits[at.rows, at.columns]
        ours = self.logits(ids, self.writers(ids.flip(0)), self.ones(), at)
        off, allowed = float((ours - theirs).abs().max()), SELF_TEST.get(self.dtype, SELF_TEST_HALF)
        if not off <= allowed * max(1.0, float(theirs.abs().max())):
            raise UnsupportedArchitecture(
                f"with all gates open the logits are off by {off:.3g}",
                place=f"model type '{self.model.config.model_type}'",
                remedy="Load it in float32; if that does not help, circuits cannot be found in it.",
            )
        self._buffers.clear()


def _behind(job: _Pass, prefix: Prefix) -> _Pass:
    """The pass over the places behind a prefix."""
    first = prefix.length

    def cut(x: Tensor | None) -> Tensor | None:
        return x if x is None or x.shape[2] == 1 else x[:, :, first:]

    at = Positions(job.at.rows, job.at.columns - first)
    return replace(
        job, clean=job.clean[:, first:], at=at, stand_ins=cut(job.stand_ins), scoring=cut(job.scoring), prefix=prefix
    )


def _one_logit(model: PreTrainedModel) -> dict[str, Any]:
    # The vocabulary's product is the largest of a small model, and nobody reads it here.
    return {"logits_to_keep": 1} if "logits_to_keep" in model.forward.__code__.co_varnames else {}


class _Gated(torch.autograd.Function):
    """The gated stream as one step of autograd: the sites' own graphs are walked in reverse by hand.

    A read's gradient is added to one buffer as large as that of the differences, instead of one copy a reader.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, constants: Tensor | None, masked: MaskedModel, job: _Pass) -> Tensor:
        stream = masked._forward(gates, job)
        if job.record:
            ctx.masked, ctx.job, ctx.constants = masked, job, constants
            ctx.save_for_backward(gates)
        return stream

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gates,) = ctx.saved_tensors
        of_gates, of_constants = ctx.masked._backward(gates, ctx.job, flow.detach(), ctx.constants)
        learned = None if ctx.constants is None else of_constants.to(ctx.constants.dtype)
        return of_gates, learned, None, None


class _Gather(torch.autograd.Function):
    """Logits as they are; on the way back the sharded weights of the head are gathered before its own gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, masked: MaskedModel) -> Tensor:
        ctx.masked = masked
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, flow: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        ctx.masked.shards.open(*ctx.masked._head)
        return flow, None
