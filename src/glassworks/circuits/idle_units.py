"""Which heads and MLP blocks change nothing? A model that was pruned before has such units.

No gradient tells a search of them, and while the gates are noisy another unit may be closed in their stead. So a search
asks first: a unit is idle if closing it alone leaves every logit of the examples as it was, bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glassworks.circuits.encoder_decoder import existing_units
from glassworks.circuits.head_masks import UnitGates
from glassworks.circuits.sentence_pairs import Encoded, stretches

FIRST = 8
"""Examples of the first look, which nearly every unit changes; only those that it leaves see more."""


@torch.no_grad()
def idle_units(unit_gates: UnitGates, data: Encoded, *, limit: int = 1024, batch_size: int = 128) -> Tensor:
    """Which units change no logit of the first `limit` examples when they are closed alone, bool [layers, heads + 1].

    The model is expected in evaluation mode; all gates are open afterwards. A unit that does not exist is not idle.
    """
    parts = unit_gates.parts
    exists = existing_units(parts)
    idle = torch.ones(parts.num_layers, parts.num_heads + 1, dtype=torch.bool) if exists is None else exists.clone()
    end = min(limit, len(data))
    for chosen in [range(min(FIRST, end)), *stretches(0, end, batch_size)]:
        left = idle.nonzero().tolist()
        if not left:
            break
        batch = data.batch(chosen, parts.model.device)
        mask = batch.get("attention_mask")
        unit_gates.set(None)
        whole = parts.model(**batch).logits
        for layer, unit in left:
            z = torch.ones(idle.shape)
            z[layer, unit] = 0
            unit_gates.set(z, mask)
            idle[layer, unit] = torch.equal(parts.model(**batch).logits, whole)
    unit_gates.set(None)
    return idle
