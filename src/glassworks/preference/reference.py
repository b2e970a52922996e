"""What the reference model says of every pair, computed once and kept until anything it rests on changes.

Question: how do methods with a reference train without a second model in memory (SimPO spec, section 6)? The start
model *is* the reference, so its sums are taken before the first update, or from a model that is freed at once, and
stored by row. Input: pairs, a model and `ReferenceKey`. Output: `Example`s; a safetensors file whose metadata
names model, tokenizer, template and format, and whose rows carry a hash of their tokens. A file of another key is
refused, never used. Knows no loss.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.errors import RunMismatch
from glassworks.foundations.files import atomic_write
from glassworks.foundations.packing import Group, fill_rows, pack
from glassworks.preference.pairs import PairFormat, TokenizedPair
from glassworks.preference.policy import sums_without_gradient
from glassworks.preference.trainer import Example, as_group, mismatched_pairs, share_prompts

log = logging.getLogger(__name__)

ROW_TOKENS = 2048
"""Tokens in one forward of the reference; a longer pair has one of its own."""

CHOOSES_ROWS = ("on_invalid", "split", "test_split")
"""Fields of PairFormat that change which rows there are, not a row's tokens: rows have hashes of their own."""


@dataclass(frozen=True)
class ReferenceKey:
    """What reference sums rest on, besides the rows: hashes of model, tokenizer and template, and the pair format."""

    model: str
    tokenizer: str
    template: str
    pairs: str


def reference_key(model_sha: str, tokenizer: PreTrainedTokenizerBase, form: PairFormat) -> ReferenceKey:
    """The key of sums that `model_sha` gives under this tokenizer, its template and `form`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    tokens = {name: value for name, value in asdict(form).items() if name not in CHOOSES_ROWS}
    return ReferenceKey(
        model_sha, _sha(vocabulary), _sha(json.dumps(tokenizer.chat_template)), _sha(json.dumps(tokens))
    )


def with_reference(
    pairs: Sequence[TokenizedPair],
    model: PreTrainedModel,
    key: ReferenceKey,
    cache: Path,
    *,
    mismatched: bool = False,
) -> list[Example]:
    """Examples with the sums of `model` [pairs, 2], and for KTO of mismatched responses, from `cache` if there.

    Rows that `cache` lacks are computed and it is written anew. Raises RunMismatch where the file was made by
    another model, tokenizer, template or format, naming which.
    """
    others = mismatched_pairs(pairs) if mismatched else [[] for _ in pairs]
    names = [_row_sha(pair, other) for pair, other in zip(pairs, others, strict=True)]
    known = read_sums(cache, key) if cache.exists() else {}
    missing = [at for at, name in enumerate(names) if name not in known]
    if missing:
        sums = reference_sums([pairs[at] for at in missing], [others[at] for at in missing], model)
        known |= {names[at]: row for at, row in zip(missing, sums, strict=True)}
        write_sums(cache, key, {name: known[name] for name in names})
    else:
        log.info("reference log-probs of all %d pairs are in %s", len(pairs), cache)
    return [
        Example(
            pair,
            known[name][0].item(),
            known[name][1].item(),
            other,
            known[name][2].item() if mismatched else None,
        )
        for pair, other, name in zip(pairs, others, names, strict=True)
    ]


def reference_sums(
    pairs: Sequence[TokenizedPair], mismatched: Sequence[Sequence[int]], model: PreTrainedModel
) -> Tensor:
    """Summed log-probs of chosen, rejected and mismatched responses, nats, fp32 [pairs, 3]; 0 where not mismatched."""
    share = share_prompts(model)
    groups = [as_group(pair) for pair in pairs]
    widths = [min(group.tokens(), ROW_TOKENS) for group in groups]
    result = torch.zeros(len(pairs), 3)
    training = model.training
    model.eval()
    try:
        for members in tqdm(fill_rows(widths, ROW_TOKENS), desc="reference log-probs", unit="batch", disable=None):
            batch = pack([groups[at] for at in members], share_prefix=share).to(model.device)
            result[members, :2] = sums_without_gradient(model, model, batch).reshape(-1, 2).float().cpu()
            extra = [at for at in members if mismatched[at]]
            if extra:
                alone = [Group((mismatched[at],), pairs[at].prompt_ids, name=pairs[at].name) for at in extra]
                packed = pack(alone, share_prefix=share).to(model.device)
                result[extra, 2] = sums_without_gradient(model, model, packed).float().cpu()
    finally:
        model.train(training)
    return result


def write_sums(file: Path, key: ReferenceKey, sums: dict[str, Tensor]) -> None:
    """Store rows [3] by the hash of their tokens; the file appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {"sums": torch.stack(list(sums.values()))}
    with atomic_write(file) as partial:
        save_file(table, partial, metadata={**asdict(key), "rows": json.dumps(list(sums))})


def read_sums(file: Path, key: ReferenceKey) -> dict[str, Tensor]:
    """The stored rows, each [3], by the hash of their tokens. Raises RunMismatch where the key is another."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            table: Tensor = opened.get_tensor("sums")
    except (SafetensorError, OSError) as error:
        raise RunMismatch(
            f"is no file of reference log-probs ({error})", place=str(file), remedy="Delete it."
        ) from error
    for part, value in asdict(key).items():
        if metadata.get(part) != value:
            raise RunMismatch(
                f"these reference log-probs were made with another {part} ({metadata.get(part)}, not {value})",
                place=str(file),
                remedy="Delete the file or name another.",
            )
    return dict(zip(json.loads(metadata["rows"]), table, strict=True))


def _row_sha(pair: TokenizedPair, other: Sequence[int]) -> str:
    return _sha(json.dumps([pair.prompt_ids, pair.chosen_ids, pair.rejected_ids, list(other)]))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
