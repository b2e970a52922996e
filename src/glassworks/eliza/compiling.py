"""A script as weights: machine, program, model, and the circuit that the weights are known to be.

Friedman et al. 2025 (arXiv 2407.10949) leave the element-wise parts open; here every part is compiled. Input: a
Script or a Machine, and Options. Output: Compiled. Verb `eliza compile` is in `compile_verb`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from glassworks.eliza.induction import induction_copy
from glassworks.eliza.interpreter import Copy
from glassworks.eliza.layers import Options
from glassworks.eliza.machine import Machine, machine_of
from glassworks.eliza.modeling import FLOAT32_POSITIONS, CompiledElizaConfig, CompiledElizaForCausalLM
from glassworks.eliza.program import SOFT_COUNT, SOFT_LEN, Program, sparse_weights
from glassworks.eliza.reply_layers import build
from glassworks.eliza.script import END, Script
from glassworks.errors import OptionError

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Dtype = Literal["float32", "float64"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled machine: its program, whose dimensions have names, and the model that runs it."""

    machine: Machine
    program: Program
    model: CompiledElizaForCausalLM
    options: Options

    def encode(self, tokens: list[str] | tuple[str, ...]) -> list[int]:
        """Token ids. Raises OptionError for a word that the program does not know."""
        index = {token: number for number, token in enumerate(self.program.tokens)}
        if unknown := [token for token in tokens if token not in index]:
            raise OptionError(f"the compiled script has no word '{unknown[0]}'", place="conversation")
        return [index[token] for token in tokens]

    def decode(self, ids: list[int]) -> list[str]:
        """Tokens of ids."""
        return [self.program.tokens[number] for number in ids]


def compile_script(
    script: Script | Machine, options: Options | None = None, *, dtype: Dtype = "float32", superposed: bool = False
) -> Compiled:
    """Compile a script to a model that answers as the script does, token for token.

    superposed: rotate the residual stream at random, so that no dimension has a meaning of its own; float64 only.
    Raises OptionError where the options cannot do what the script asks.
    """
    options = options or Options()
    check_options(options, dtype, superposed)
    machine = machine_of(script) if isinstance(script, Script) else script
    if options.attention == "soft" and len(machine.starts) > 1:
        raise OptionError(
            "a script that rewrites inputs has turns of two words, which soft attention does not tell apart",
            place="attention",
            remedy="Compile with --mechanisms.attention hard.",
        )
    program = build(machine, options)
    return Compiled(machine, program, model_of(program, options, dtype, superposed), options)


def symbolic_copy(options: Options) -> Copy:
    """What the compiled mechanism of copying makes of a group: the group, or what an induction head makes of it."""
    return partial(induction_copy, context=options.context) if options.copy == "induction" else list


def check_options(options: Options, dtype: str, superposed: bool) -> None:
    """Refuse bounds that the arithmetic cannot hold. Raises OptionError."""
    if dtype not in DTYPES:
        raise OptionError(f"a compiled script runs in float32 or float64, not {dtype}", place="dtype")
    if dtype == "float32" and options.max_len > FLOAT32_POSITIONS:
        raise OptionError(
            f"float32 holds {FLOAT32_POSITIONS} positions, not {options.max_len}",
            place="max_len",
            remedy="Compile with --dtype float64.",
        )
    for name, value, low, high in (
        ("max_len", options.max_len, 8, 8 * FLOAT32_POSITIONS),
        ("max_count", options.max_count, 1, 256),
    ):
        if not low <= value <= high:
            raise OptionError(f"expected {low} to {high}, received {value}", place=name)
    is_long = options.max_len > SOFT_LEN or options.max_count > SOFT_COUNT
    if options.attention == "soft" and (options.copy == "induction" or is_long):
        raise OptionError(
            f"soft attention holds for copying by position, max_len to {SOFT_LEN} and max_count to {SOFT_COUNT}",
            place="attention",
            remedy="Lower these, or compile with --mechanisms.attention hard.",
        )
    if superposed and dtype != "float64":
        raise OptionError(
            "a rotated residual stream mixes flags with squared positions, which float32 cannot hold",
            place="superposed",
            remedy="Compile with --dtype float64.",
        )


def model_of(program: Program, options: Options, dtype: Dtype, superposed: bool) -> CompiledElizaForCausalLM:
    """The model whose weights are a program."""
    names = program.dimensions
    config = CompiledElizaConfig(
        vocab_size=len(program.tokens),
        hidden_size=len(names),
        intermediate_size=program.neurons,
        num_hidden_layers=len(program.layers),
        num_attention_heads=program.heads,
        head_dim=program.head_dim,
        max_position_embeddings=program.max_len,
        max_count=options.max_count,
        superposed=superposed,
        eos_token_id=program.tokens.index(END),
        dtype=dtype,
    )
    model = CompiledElizaForCausalLM(config)
    model.to(DTYPES[dtype])  # type: ignore[arg-type]
    weights = {name: weight.to_dense() for name, weight in sparse_weights(program).items()}
    weights["model.overflow"] = torch.zeros(len(names), dtype=torch.float64)
    if "overflow" in names:
        weights["model.overflow"][names.index("overflow")] = 1.0
    if superposed:
        weights = _rotated(weights, len(names))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    model.eval()
    return model


def _rotated(weights: dict[str, torch.Tensor], width: int) -> dict[str, torch.Tensor]:
    """The same program in a random orthogonal basis of the residual stream."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    writes = ("o_proj.weight", "down_proj.weight")
    turned = {}
    for name, weight in weights.items():
        if name.endswith(writes):
            turned[name] = basis.T @ weight
        else:
            turned[name] = weight if name.endswith("bias") else weight @ basis
    return turned
