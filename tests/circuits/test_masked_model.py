"""The gated forward pass against the model itself, against a naive version, and against finite differences."""

import pytest
import torch
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from torch import Tensor

from glassworks.circuits.masked_model import MaskedModel, Positions
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.recompose import normed, trace

AT = Positions(torch.tensor([0, 1, 1]), torch.tensor([8, 7, 5]))
CLEAN, CORRUPTED = random_tokens(2, 9, seed=1), random_tokens(2, 9, seed=2)


@pytest.fixture(autouse=True)
def _all_of_it_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    # RMSNorm and rotary code of transformers computes in float32 whatever its input, which would drown differences.
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def random_gates(masked: MaskedModel, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(masked.graph.exists.shape, generator=generator, dtype=torch.float64) * masked.ones()


def model_logits(masked: MaskedModel, ids: Tensor, at: Positions = AT) -> Tensor:
    with torch.no_grad():
        return masked.model(input_ids=ids).logits[at.rows, at.columns]


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


@pytest.mark.parametrize("family", DECODERS)
def test_gates_of_1_are_the_model_and_gates_of_0_the_corrupted_run(family: str) -> None:
    masked = MaskedModel(tiny_model(family))
    stand_ins = masked.writers(CORRUPTED)
    with torch.no_grad():
        assert largest(masked.logits(CLEAN, stand_ins, masked.ones(), AT) - model_logits(masked, CLEAN)) < 1e-12
        assert largest(masked.plain_logits(CLEAN, AT) - model_logits(masked, CLEAN)) < 1e-12
        closed = masked.logits(CLEAN, stand_ins, 0 * masked.ones(), AT)
        assert largest(closed - model_logits(masked, CORRUPTED)) < 1e-12
        nothing_zeroed = masked.logits(CLEAN, None, masked.ones(), AT)
        assert largest(nothing_zeroed - model_logits(masked, CLEAN)) < 1e-12


@pytest.mark.parametrize("family", DECODERS)
def test_gate_gradients_are_central_differences(family: str) -> None:
    masked = MaskedModel(tiny_model(family))
    stand_ins = masked.writers(CORRUPTED)

    def metric(gates: Tensor) -> Tensor:
        return masked.logits(CLEAN, stand_ins, gates, AT).log_softmax(-1)[:, 5].sum()

    gates = random_gates(masked).requires_grad_()
    (gradient,) = torch.autograd.grad(metric(gates), gates)
    edges = masked.graph.exists.nonzero()
    with torch.no_grad():
        for row, column in edges[torch.randperm(len(edges))[:8]].tolist():
            step = torch.zeros_like(gates)
            step[row, column] = 1e-5
            difference = (metric(gates + step) - metric(gates - step)) / 2e-5
            assert float(difference) == pytest.approx(float(gradient[row, column]), rel=1e-4, abs=1e-8)
    assert all(parameter.grad is None for parameter in masked.model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "mixtral"])
@pytest.mark.parametrize("embeddings", [0, 1])
def test_equal_prompts_make_every_gate_idle(family: str, embeddings: int) -> None:
    masked = MaskedModel(tiny_model(family), embeddings=embeddings)
    gates = random_gates(masked).requires_grad_()
    logits = masked.logits(CLEAN, masked.writers(CLEAN), gates, AT)
    assert largest(logits.detach() - model_logits(masked, CLEAN)) < 1e-12
    (gradient,) = torch.autograd.grad(logits.square().sum(), gates)
    assert largest(gradient) < 1e-11


def naive_logits(masked: MaskedModel, clean: Tensor, stand_ins: Tensor, gates: Tensor) -> Tensor:
    """GPT-2's gated pass reader by reader with z x + (1 - z) x', written from the model's weights alone."""
    graph, model = masked.graph, masked.model.transformer
    ids = torch.arange(clean.shape[1])
    found = [model.wte(clean) + model.wpe(ids)]

    def read(name: str) -> Tensor:
        column, total = graph.reader_index(name), 0
        for row, x in enumerate(found):
            if graph.exists[row, column]:
                total = total + gates[row, column] * x + (1 - gates[row, column]) * stand_ins[row]
        return total

    for layer, block in enumerate(model.h):
        heads = []
        for head in range(graph.heads):
            parts = []
            for offset, part in enumerate("qkv"):
                x, columns = block.ln_1(read(f"a{layer}.h{head}.{part}")), slice(32 * offset + 8 * head, None)
                columns = slice(columns.start, columns.start + 8)
                parts.append(x @ block.attn.c_attn.weight[:, columns] + block.attn.c_attn.bias[columns])
            q, k, v = parts
            score = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
            rows = slice(8 * head, 8 * head + 8)
            write = score.softmax(-1) @ v @ block.attn.c_proj.weight[rows] + block.attn.c_proj.bias / graph.heads
            heads.append(write)
        found += heads
        found.append(block.mlp(block.ln_2(read(f"m{layer}"))))
    return masked.model.lm_head(model.ln_f(read("resid_post")))[AT.rows, AT.columns]


def test_equals_a_naive_pass_written_from_the_weights() -> None:
    masked = MaskedModel(tiny_model("gpt2"))
    stand_ins, gates = masked.writers(CORRUPTED), random_gates(masked, 3)
    ours, theirs = gates.clone().requires_grad_(), gates.clone().requires_grad_()
    first, second = masked.logits(CLEAN, stand_ins, ours, AT), naive_logits(masked, CLEAN, stand_ins, theirs)
    assert largest((first - second).detach()) < 1e-12
    mine, reference = (
        torch.autograd.grad(x.square().sum(), gates)[0] for x, gates in ((first, ours), (second, theirs))
    )
    assert largest(mine - reference) < 1e-10


def test_an_edge_whose_difference_is_zero_changes_nothing() -> None:
    masked = MaskedModel(tiny_model("llama"))
    half = CORRUPTED.clone()
    half[:, :4] = CLEAN[:, :4]  # causal: nothing differs at the first four places
    early = Positions(torch.tensor([0, 1]), torch.tensor([3, 3]))
    with torch.no_grad():
        logits = masked.logits(CLEAN, masked.writers(half), random_gates(masked), early)
    assert largest(logits - model_logits(masked, CLEAN, early)) < 1e-12


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_gradient_at_open_gates_is_difference_times_gradient_of_the_read(family: str) -> None:
    masked = MaskedModel(tiny_model(family))
    stand_ins = masked.writers(CORRUPTED)
    gates = masked.ones().requires_grad_()
    target = torch.tensor([5, 6, 7])
    logits = masked.logits(CLEAN, stand_ins, gates, AT)
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), gates)
    # The final read and the last MLP's, by the model itself.
    difference = masked.writers(CLEAN) - stand_ins
    final, mlp = [], []
    layer = masked.parts.layers[-1]
    hooks = [
        masked.parts.head.final_norm.register_forward_pre_hook(lambda _, args: final.append(args[0])),
        (layer.pre_mlp_norm or layer.mlp.modules[0]).register_forward_pre_hook(lambda _, args: mlp.append(args[0])),
    ]
    masked.model.get_input_embeddings().weight.requires_grad_()
    run = trace(masked.parts, CLEAN, activations=False)
    value = run.logits[AT.rows, AT.columns].gather(1, target[:, None]).sum()
    of_final, of_mlp = torch.autograd.grad(value, [final[0], mlp[0]])
    for hook in hooks:
        hook.remove()
    masked.model.requires_grad_(False)
    # Through the final read alone: what reaches it directly; the MLP's read also reaches it through the residual,
    # which is not part of its own edge.
    expected = torch.einsum("wbsd,bsd->w", difference, of_final)
    assert largest(gradient[:, -1] - expected) < 1e-9
    visible = int(masked.graph.visible[-2])
    expected = torch.einsum("wbsd,bsd->w", difference[:visible], of_mlp - of_final)
    assert largest(gradient[:visible, -2] - expected) < 1e-9


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gpt_neox"])
def test_cleanup_changes_no_logit(family: str) -> None:
    masked = MaskedModel(tiny_model(family))
    graph = masked.graph
    kept = (torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(4)) < 0.1) & graph.exists
    nodes = torch.ones(graph.n_writers, dtype=torch.bool)
    nodes[[2, 7]] = False
    circuit = Circuit(graph, kept, nodes=nodes)
    cleaned = circuit.prune_dead()
    assert cleaned.n_edges < circuit.n_edges
    stand_ins = masked.writers(CORRUPTED)
    with torch.no_grad():
        raw, clean = (
            masked.logits(CLEAN, stand_ins, one.effective.to(torch.float64), AT) for one in (circuit, cleaned)
        )
    assert largest(raw - clean) < 1e-12


def test_neither_padding_nor_company_changes_an_example() -> None:
    masked = MaskedModel(tiny_model("mistral"))
    gates = random_gates(masked)
    alone = Positions(torch.tensor([0]), torch.tensor([6]))
    many = Positions(torch.tensor([0, 1]), torch.tensor([6, 8]))
    padded, other = (torch.cat([ids[:1, :7], torch.zeros(1, 2, dtype=torch.long)], 1) for ids in (CLEAN, CORRUPTED))
    with torch.no_grad():
        single = masked.logits(CLEAN[:1, :7], masked.writers(CORRUPTED[:1, :7]), gates, alone)
        stand_ins = masked.writers(torch.cat([other, CORRUPTED[1:]]))
        batch = masked.logits(torch.cat([padded, CLEAN[1:]]), stand_ins, gates, many)
    assert largest(single[0] - batch[0]) < 1e-12


def test_grouped_keys_equal_tied_gates_of_ungrouped_ones() -> None:
    model = tiny_model("llama")
    grouped, ungrouped = MaskedModel(model), MaskedModel(model, ungrouped=True)
    gates = random_gates(grouped)
    tied = torch.zeros(ungrouped.graph.exists.shape, dtype=torch.float64)
    for column, name in enumerate(ungrouped.graph.reader_names):
        source = name
        if name.endswith((".k", ".v")):
            layer, head, part = name.replace("h", "").split(".")
            source = f"{layer}.h{int(head) // 2}.{part}"
        tied[:, column] = gates[:, grouped.graph.reader_index(source)]
    stand_ins = grouped.writers(CORRUPTED)
    with torch.no_grad():
        first, second = grouped.logits(CLEAN, stand_ins, gates, AT), ungrouped.logits(CLEAN, stand_ins, tied, AT)
    assert largest(first - second) < 1e-12
    assert ungrouped.graph.n_edges > grouped.graph.n_edges


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_checkpointing_gives_the_same_gradients(family: str) -> None:
    model = tiny_model(family)
    gradients = []
    for checkpointing in (False, True):
        masked = MaskedModel(model, checkpointing=checkpointing)
        gates = random_gates(masked).requires_grad_()
        logits = masked.logits(CLEAN, masked.writers(CORRUPTED), gates, AT)
        gradients.append(torch.autograd.grad(logits.square().sum(), gates)[0])
    assert torch.equal(*gradients)


def test_without_embedding_writers_the_clean_embedding_stays_in() -> None:
    masked = MaskedModel(tiny_model("gpt2"), embeddings=0)
    stand_ins = masked.writers(CORRUPTED)
    with torch.no_grad():
        opened = masked.logits(CLEAN, stand_ins, masked.ones(), AT)
        closed = masked.logits(CLEAN, stand_ins, 0 * masked.ones(), AT)
        core = masked.model.transformer
        expected = core.wte(CLEAN) + core.wpe(torch.arange(9)) + stand_ins.sum(dim=0)
        expected = masked.model.lm_head(normed(masked.parts.head.final_norm, expected))[AT.rows, AT.columns]
    assert largest(opened - model_logits(masked, CLEAN)) < 1e-12
    assert largest(closed - expected) < 1e-12
    assert largest(closed - model_logits(masked, CORRUPTED)) > 1e-3


def test_two_embedding_writers_gated_alike_are_one() -> None:
    model = tiny_model("gpt2")
    one, two = MaskedModel(model), MaskedModel(model, embeddings=2)
    gates = random_gates(one)
    doubled = torch.cat([gates[:1], gates])
    with torch.no_grad():
        first = one.logits(CLEAN, one.writers(CORRUPTED), gates, AT)
        second = two.logits(CLEAN, two.writers(CORRUPTED), doubled, AT)
    assert largest(first - second) < 1e-12


def test_gradient_of_learned_constants_is_a_central_difference() -> None:
    masked = MaskedModel(tiny_model("gpt2"))
    gates = random_gates(masked)
    constants = masked.writers(CORRUPTED).mean(dim=(1, 2)).requires_grad_()

    def metric(values: Tensor) -> Tensor:
        return masked.logits(CLEAN, None, gates, AT, constants=values).square().sum()

    (gradient,) = torch.autograd.grad(metric(constants), constants)
    with torch.no_grad():
        for row, column in ((0, 3), (4, 30), (9, 0), (15, 7)):
            step = torch.zeros_like(constants)
            step[row, column] = 1e-5
            difference = (metric(constants + step) - metric(constants - step)) / 2e-5
            assert float(difference) == pytest.approx(float(gradient[row, column]), rel=1e-4)


def test_bfloat16_model_keeps_fp32_gates() -> None:
    masked = MaskedModel(tiny_model("llama", dtype=torch.bfloat16))
    gates = torch.ones(masked.graph.exists.shape, requires_grad=True)
    logits = masked.logits(CLEAN, masked.writers(CORRUPTED), gates, AT)
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert gates.grad is not None
    assert gates.grad.dtype == gates.dtype
    assert largest(logits.detach() - model_logits(masked, CLEAN)) < 0.05 * largest(model_logits(masked, CLEAN))


def test_two_passes_before_their_backwards_do_not_share_a_buffer() -> None:
    masked = MaskedModel(tiny_model("gpt2"))
    stand_ins, gates = masked.writers(CORRUPTED), random_gates(masked).requires_grad_()
    first = masked.logits(CLEAN, stand_ins, gates, AT)
    masked.logits(CORRUPTED, stand_ins, gates, AT).sum()
    (interleaved,) = torch.autograd.grad(first.sum(), gates)
    (alone,) = torch.autograd.grad(masked.logits(CLEAN, stand_ins, gates, AT).sum(), gates)
    assert torch.equal(interleaved, alone)
