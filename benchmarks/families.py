"""Which causal language models of transformers can be taken apart by structure alone?

Run: python benchmarks/families.py             every family, about 10 minutes of one core
     python benchmarks/families.py gptj opt    these only; the results file is left as it is

Each family of `AutoModelForCausalLM` is built small with random weights (two layers, width 32, four heads where its
configuration has such names, fp32), and `anatomy` looks for its parts: it is `read` if the parts, recomposed, give the
model's own logits and no slice of a head moves another head; otherwise it is refused, and the reason is kept. A family
is `not built` where these sizes make no model of it that runs on token ids within the time limit (several towers, a
library that is missing, sizes that must fit each other): nothing is said about those. A tiny random model shows the
form of a family, not that every checkpoint has it; `glassworks check-model` looks at a real one.

Results of 28 November 2026, transformers 5.24: of 139 families that were built 98 are read and 41 refused, most of them
for layers that are no softmax attention (state-space, linear, sparse) or for positions that come from no table.
"""

from __future__ import annotations

import argparse
import platform
import signal
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.files import write_json

RESULTS = Path(__file__).parent / "results" / "families.json"
SECONDS, LARGEST = 30, 50_000_000
LAYERS, WIDTH, HEADS, KEY_VALUE_HEADS, INNER = 2, 32, 4, 2, 48
SIZES: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), WIDTH),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "num_experts", "num_local_experts", "n_routed_experts"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_experts_per_tok"), KEY_VALUE_HEADS),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), INNER),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), INNER // 2),
    **dict.fromkeys(("vocab_size", "max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout_prob", "dropout_rate"), 0.0),
    **dict.fromkeys(("attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout"), 0.0),
    "head_dim": WIDTH // HEADS, "rotary_dim": 4, "sliding_window": 32, "hidden_dropout": 0.0, "is_decoder": True,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


FITTING: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["attention"] * LAYERS},
    "lfm2_moe": {"layer_types": ["full_attention"] * LAYERS, "num_dense_layers": 1},
}
"""What three families need besides, with attention in every layer."""


class TooLarge(Exception):
    """A model of more than LARGEST parameters, or one that took longer than SECONDS."""


def small_config(family: str) -> PreTrainedConfig:
    """The configuration of a family with those of SIZES that it knows."""
    usual = AutoConfig.for_model(family)
    derived = {name for name in SIZES if isinstance(getattr(type(usual), name, None), property)}
    known = {name: size for name, size in SIZES.items() if hasattr(usual, name) and name not in derived}
    known |= FITTING.get(family, {})
    config = AutoConfig.for_model(family, **known)
    kinds = getattr(config, "layer_types", None)
    if kinds and len(kinds) != LAYERS:
        config = AutoConfig.for_model(family, **known, layer_types=[kinds[0], kinds[-1]])
    return config


def small_model(family: str) -> PreTrainedModel:
    """A small random model of a family; norms and biases are random too, so that a forgotten one shows."""
    config = small_config(family)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise TooLarge(f"{size:,} parameters, since a part of it has sizes of its own")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
            else:
                parameter.normal_(0, 0.15)
        if not bool(model(input_ids=torch.arange(3, 15).reshape(1, -1)).logits.isfinite().all()):
            raise ValueError("its logits are not finite")
    return model


def judged(family: str) -> dict[str, Any]:
    """One family: outcome and reason, or how far recomposed logits are off."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLarge(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        model = small_model(family)
    except Exception as error:
        return {"outcome": "not built", "reason": f"{type(error).__name__}: {error}"[:200]}
    else:
        try:
            return {"outcome": "read", "difference": anatomy(model).difference}
        except (UnsupportedArchitecture, TooLarge) as error:
            return {"outcome": "refused", "reason": str(error).partition(" Families that work")[0]}
    finally:
        signal.alarm(0)


def main() -> None:
    """All families, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*")
    named = parser.parse_args().families
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = {}
    for family in named or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        found[family] = judged(family)
        print(family, found[family], flush=True)
    counts = Counter(one["outcome"] for one in found.values())
    print(dict(counts))
    if not named:
        about = {"date": datetime.now(UTC).date().isoformat(), "machine": platform.machine()}
        about |= {"torch": torch.__version__, "transformers": transformers.__version__}
        write_json(RESULTS, about | {"counts": counts, "families": found})


if __name__ == "__main__":
    main()
