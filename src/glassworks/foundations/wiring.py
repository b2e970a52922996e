"""How the tensors of one block combine: which norm stands where, what is added to what, times which number.

The module `parts` draws the form that every block is matched with. Inputs: the recorded calls of one block.
Output: a Wiring. Raises Unexplained where a tensor of the block is none that the form allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from glassworks.foundations.dataflow import Call, Unexplained, coefficients, same


@dataclass(frozen=True)
class Wiring:
    """norms: role in `parts.Layer` -> module; parallel: attention and MLP read the same residual stream."""

    norms: dict[str, nn.Module]
    parallel: bool = False
    attention_multiplier: float = 1.0
    mlp_multiplier: float = 1.0


@dataclass
class BlockTensors:
    """The tensors of one block, each [batch, seq, hidden].

    stream, out: what the block reads and returns. attention_in, mlp_in: what the two sub-layers read after their
    norms. attention_out, mlp_out: what they write, before and, once `place_norms` has run, behind their own norm.
    """

    stream: Tensor
    out: Tensor
    attention_in: Tensor
    attention_out: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    norm_inputs: dict[str, Tensor] = field(default_factory=dict)

    def place_norms(self, calls: Sequence[Call]) -> dict[str, nn.Module]:
        """The role of each called norm of the block."""
        placed: dict[str, nn.Module] = {}
        for call in calls:
            for role in self._roles(call):
                if role in placed:
                    raise Unexplained(f"two norms in the place of {role}")
                placed[role] = call.module
                self.norm_inputs[role] = call.read
        return placed

    def _roles(self, call: Call) -> list[str]:
        if same(call.input, self.attention_out):
            self.attention_out = call.output
            return ["post_attention_norm"]
        if same(call.input, self.mlp_out):
            self.mlp_out = call.output
            return ["post_mlp_norm"]
        # One norm may feed both sub-layers of a parallel block (GPT-J, Cohere).
        reads = {"pre_attention_norm": self.attention_in, "pre_mlp_norm": self.mlp_in}
        roles = [role for role, read in reads.items() if same(call.output, read)]
        if not roles and same(call.output, self.out):
            return ["mlp_sum_norm"]
        if not roles:
            raise Unexplained(f"the norm {call.name} is before or after neither attention nor MLP")
        return roles


def wire(tensors: BlockTensors, norm_calls: Sequence[Call], known: Sequence[float]) -> Wiring:
    """The wiring of one block; known: numbers of the configuration that a multiplier may be."""
    norms = tensors.place_norms(norm_calls)
    if "mlp_sum_norm" in norms:
        return _norms_of_sums(tensors, norms, known)
    read = tensors.norm_inputs.get("pre_attention_norm", tensors.attention_in)
    if not same(read, tensors.stream):
        raise Unexplained("the attention does not read the block's input or its norm")
    middle = tensors.norm_inputs.get("pre_mlp_norm", tensors.mlp_in)
    # Attention that wrote nothing on the probe says nothing of the order; one after the other is then assumed.
    if same(middle, tensors.stream) and bool(tensors.attention_out.any()):
        numbers = _sum(tensors.out, [tensors.stream, tensors.attention_out, tensors.mlp_out], known, "output")
        return Wiring(norms, True, numbers[1], numbers[2])
    attention = _sum(middle, [tensors.stream, tensors.attention_out], known, "stream after attention")
    mlp = _sum(tensors.out, [middle, tensors.mlp_out], known, "output")
    return Wiring(norms, False, attention[1], mlp[1])


def _norms_of_sums(tensors: BlockTensors, norms: dict[str, nn.Module], known: Sequence[float]) -> Wiring:
    """BERT's form: each sub-layer's write is added to the stream, then the sum is normed."""
    if "pre_mlp_norm" not in norms or len(norms) != 2:
        raise Unexplained(f"the block's output is normed, but its norms are {sorted(norms)}")
    first = _sum(tensors.norm_inputs["pre_mlp_norm"], [tensors.stream, tensors.attention_out], known, "first sum")
    second = _sum(tensors.norm_inputs["mlp_sum_norm"], [tensors.mlp_in, tensors.mlp_out], known, "second sum")
    renamed = {"attention_sum_norm": norms["pre_mlp_norm"], "mlp_sum_norm": norms["mlp_sum_norm"]}
    return Wiring(renamed, False, first[1], second[1])


def _sum(target: Tensor, terms: Sequence[Tensor], known: Sequence[float], what: str) -> list[float]:
    numbers = coefficients(target, terms, known)
    if numbers is None:
        raise Unexplained(f"a block's {what} is not the stream it reads plus what attention and MLP write")
    if numbers[0] != 1.0:
        raise Unexplained(f"a block's {what} holds its stream times {numbers[0]:.6g}, not once")
    return numbers
