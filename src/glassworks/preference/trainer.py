"""The one Trainer of all preference methods: a pair's prompt computed once, the mean over the pairs of a step.

Question: how are the ten losses of `losses` trained so that batch layout, accumulation and processes change nothing
(SimPO spec, section 6)? Input: a policy, `TokenizedPair`s with reference sums where the method needs them. Output: what
`StepMeanTrainer` gives, with the logged keys of the field. Sums and lengths over the whole step (token-mean NLL, KTO's
z) are gathered before its first backward. Falls back to a copy of the prompt for each response where sharing is
not exact for the model, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from glassworks.errors import OptionError
from glassworks.foundations.packing import Group, PackedBatch, pack
from glassworks.foundations.prefix_sharing import disable_dropout, supports_prefix_sharing
from glassworks.foundations.training import StepMeanTrainer, Sums
from glassworks.preference.losses import PairLogProbs, method_of, settings_of
from glassworks.preference.pairs import TokenizedPair
from glassworks.preference.policy import packed_log_probs

log = logging.getLogger(__name__)

_SHARING: WeakSet[nn.Module] = WeakSet()
"""Models that were found to allow shared prompts: training their weights does not change that, and the probe costs."""

MEANS = ("simpo", "rrhf", "orpo", "ipo", "dpo-norm")
"""Methods whose logged `logps/*` are means per token, as official SimPO code and TRL log them; others log sums."""


@dataclass(frozen=True)
class Example:
    """A pair with what the reference says of it, nats: reference sums of both responses, None without a reference.

    mismatched_ids: another pair's chosen response, [response tokens], for KTO; reference_mismatched: its sum.
    """

    pair: TokenizedPair
    reference_chosen: float | None = None
    reference_rejected: float | None = None
    mismatched_ids: Sequence[int] = ()
    reference_mismatched: float | None = None


def as_group(pair: TokenizedPair) -> Group:
    """The pair as sequences that share a prompt: chosen first, then rejected."""
    return Group((pair.chosen_ids, pair.rejected_ids), pair.prompt_ids, name=pair.name)


def mismatched_pairs(pairs: Sequence[TokenizedPair]) -> list[list[int]]:
    """For each pair the chosen response of the next one, the last of the first: KTO's mismatched responses."""
    return [pairs[(at + 1) % len(pairs)].chosen_ids for at in range(len(pairs))]


class PairCollator:
    """Examples -> {"packed", "pairs", "reference", "mismatched", "reference_mismatched"}, one micro-batch.

    reference: fp32 [pairs, 2] or None; mismatched: a PackedBatch of (prompt, another's response) or None.
    """

    def __init__(self, *, pad_token_id: int = 0, share_prefix: bool = True, budget: int | None = None) -> None:
        self.pad_token_id, self.share_prefix, self.budget = pad_token_id, share_prefix, budget

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Pack one micro-batch."""
        batch: dict[str, Any] = {
            "packed": self._pack([as_group(example.pair) for example in examples]),
            "pairs": len(examples),
            "reference": None,
            "mismatched": None,
        }
        if examples[0].reference_chosen is not None:
            sums = [(example.reference_chosen, example.reference_rejected) for example in examples]
            batch["reference"] = torch.tensor(sums, dtype=torch.float32)
        if examples[0].mismatched_ids:
            groups = [Group((e.mismatched_ids,), e.pair.prompt_ids, name=e.pair.name) for e in examples]
            batch["mismatched"] = self._pack(groups)
            batch["reference_mismatched"] = torch.tensor([e.reference_mismatched for e in examples])
        return batch

    def _pack(self, groups: list[Group]) -> PackedBatch:
        return pack(groups, self.budget, pad_token_id=self.pad_token_id, share_prefix=self.share_prefix)


class PreferenceTrainer(StepMeanTrainer):
    """Trains a policy on pairs with any method of `losses.LOSSES`; an item is a pair.

    method: its name; settings: its options. train_dataset, eval_dataset: sequences of `Example`. Dropout is
    switched off in the policy, which shared prompts and references need. Other arguments are Trainer's; a
    data_collator of one's own must give the keys of `PairCollator`.
    Raises OptionError where the method needs a reference and the examples have none.
    """

    def __init__(
        self,
        model: nn.Module,
        *args: Any,
        method: str = "simpo",
        settings: dict[str, Any] | None = None,
        pad_token_id: int = 0,
        budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.method, self.settings = method_of(method), settings_of(method, settings or {})
        self.method_name = method
        self._check_references(kwargs.get("train_dataset"))
        self._check_references(kwargs.get("eval_dataset"))
        disable_dropout(model)
        if "data_collator" not in kwargs:
            share = share_prompts(model)
            kwargs["data_collator"] = PairCollator(pad_token_id=pad_token_id, share_prefix=share, budget=budget)
        self._mean_chosen_length: Tensor | None = None
        self._mismatch: Tensor | None = None
        super().__init__(model, *args, **kwargs)

    def count_items(self, batch: dict[str, Any]) -> int | Tensor:
        """Pairs in the micro-batch."""
        return int(batch["pairs"])

    def summed_loss(self, model: nn.Module, batch: dict[str, Any]) -> Sums:
        """The method's loss in its own unit, and the logged keys, each summed over the pairs."""
        pairs = self.pair_log_probs(model, batch)
        result = self.method.function(pairs, **self.settings)
        metrics = pair_metrics(pairs, result.chosen_rewards, result.rejected_rewards, self.method_name)
        if self.method_name == "simpo":
            metrics["sigmoid_of_minus_margin"] = torch.sigmoid(result.rejected_rewards - result.chosen_rewards)
        return Sums(result.losses.sum(), {name: value.detach().sum() for name, value in metrics.items()})

    def pair_log_probs(self, model: nn.Module, batch: dict[str, Any]) -> PairLogProbs:
        """Sums and lengths of both responses, each [pairs], with reference and step-wide figures where known."""
        packed = batch["packed"].to(self.args.device)
        sums, lengths = packed_log_probs(model, self.accelerator.unwrap_model(model), packed)
        chosen, rejected = sums.reshape(-1, 2).unbind(1)
        chosen_lengths, rejected_lengths = lengths.reshape(-1, 2).unbind(1)
        reference = batch["reference"]
        if reference is None:
            return PairLogProbs(
                chosen, rejected, chosen_lengths, rejected_lengths, mean_chosen_length=self._mean_chosen_length
            )
        first, second = reference.to(self.args.device).unbind(1)
        return PairLogProbs(
            chosen,
            rejected,
            chosen_lengths,
            rejected_lengths,
            first,
            second,
            self._mismatch if batch["mismatched"] is None or self._mismatch is not None else self._mismatch_of([batch]),
            self._mean_chosen_length,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The micro-batches of one step, after the figures that its losses share were taken over all processes."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            tokens = torch.as_tensor(sum(_chosen_tokens(batch["packed"]) for batch in batches), device=device)
            if self.accelerator.num_processes > 1:
                tokens = self.accelerator.gather(tokens.reshape(1)).sum()
            assert count is not None
            self._mean_chosen_length = tokens / count
            self._mismatch = self._mismatch_of(batches) if self.method.needs_mismatch else None
        return batches, count

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As in StepMeanTrainer, with token means over the whole data set."""
        lengths = [len(example.pair.chosen_ids) for example in dataloader.dataset]  # type: ignore[attr-defined]
        before = self._mean_chosen_length, self._mismatch
        self._mean_chosen_length = torch.tensor(sum(lengths) / max(len(lengths), 1), device=self.args.device)
        self._mismatch = None
        try:
            return super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self._mean_chosen_length, self._mismatch = before

    @torch.no_grad()
    def _mismatch_of(self, batches: Sequence[dict[str, Any]]) -> Tensor:
        """KTO's z over these micro-batches and all processes, nats, scalar []: max(0, mean log-ratio)."""
        assert self.model is not None
        total, count = self._new_scalar(), self._new_scalar()
        for batch in batches:
            with self.compute_loss_context_manager():
                packed = batch["mismatched"].to(self.args.device)
                sums, _ = packed_log_probs(self.model_wrapped, self.accelerator.unwrap_model(self.model), packed)
            ratios = sums - batch["reference_mismatched"].to(self.args.device)
            total, count = total + ratios.sum(), count + len(ratios)
        both = torch.stack([total, count])
        if self.accelerator.num_processes > 1:
            both = self.accelerator.gather(both[None]).sum(0)
        return (both[0] / both[1]).clamp_min(0).float()

    def _check_references(self, examples: Sequence[Example] | None) -> None:
        if not self.method.needs_reference or not examples:
            return
        for example in examples:
            missing = example.reference_chosen is None or example.reference_rejected is None
            if missing or (self.method.needs_mismatch and example.reference_mismatched is None):
                raise OptionError(
                    f"{self.method_name} compares with a reference model, and this pair has no reference log-probs",
                    place=example.pair.name,
                    remedy="Compute them with reference.with_reference.",
                )


def share_prompts(model: nn.Module) -> bool:
    """Whether a pair's prompt may be computed once; where not, the reason is logged."""
    from_hub: Any = model
    base: nn.Module = getattr(from_hub, "get_base_model", lambda: from_hub)()
    if base in _SHARING:
        return True
    support = supports_prefix_sharing(base)  # type: ignore[arg-type]
    if support.supported:
        _SHARING.add(base)
    else:
        log.warning("Each response gets its own copy of the prompt: %s.", support.reason)
    return support.supported


def pair_metrics(
    pairs: PairLogProbs, chosen_rewards: Tensor, rejected_rewards: Tensor, method: str
) -> dict[str, Tensor]:
    """The logged figures of each pair, [pairs]: the field's keys; accuracy counts ties as wrong.

    chosen_rewards, rejected_rewards: implicit rewards, [pairs].
    """
    by_mean = method in MEANS
    return {
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/accuracies": (chosen_rewards > rejected_rewards).float(),
        "rewards/margins": chosen_rewards - rejected_rewards,
        "logps/chosen": pairs.chosen_means if by_mean else pairs.chosen,
        "logps/rejected": pairs.rejected_means if by_mean else pairs.rejected,
        "sft_loss": -pairs.chosen_means,
        "likelihood_accuracies": (pairs.chosen_means > pairs.rejected_means).float(),
        "lengths/chosen": pairs.chosen_lengths.float(),
        "lengths/rejected": pairs.rejected_lengths.float(),
    }


def _chosen_tokens(batch: PackedBatch) -> int:
    """Predicted tokens of the chosen responses: sequences 0, 2, 4, ..."""
    return int((batch.predictions().sequences % 2 == 0).sum())
