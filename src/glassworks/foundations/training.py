"""The transformers Trainer with a loss that is the mean over a whole optimiser step, and that stops when it must.

Question: how is a model trained so that neither the split into micro-batches, nor the number of processes, nor an
interruption changes the result (SimPO spec, section 2: the mean is over the pairs of the whole step)?
Input: a model, transformers' TrainingArguments and data sets. A subclass says what an item is (a token, a pair)
and what the loss summed over a micro-batch is. Output: checkpoints, metrics in a Run, the trained model.
Frozen weights are checked bit for bit, NaN stops the training, resuming is exact (`resuming`). One process, DDP,
FSDP2 and `accelerate launch` are the same code. Knows no method: those are subclasses in the systems.
"""

from __future__ import annotations

import inspect
import itertools
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from glassworks.errors import EmptyResponse, NonFiniteLoss, OptionError
from glassworks.foundations.frozen import FrozenWeights
from glassworks.foundations.log_probs import IGNORED
from glassworks.foundations.packing import PackedBatch
from glassworks.foundations.resuming import WholeCheckpoints, check_whole, last_whole_checkpoint
from glassworks.foundations.runs import Run
from glassworks.foundations.unembedding import language_model_of

SMALLEST_LOW_PRECISION_RATE = 1e-5
"""Below this learning rate an update of a bf16 weight mostly rounds to nothing (SimPO spec, section 3, note 7)."""


class Sums(NamedTuple):
    """What one micro-batch adds to a step: loss and metrics, each summed over its items (scalars)."""

    loss: Tensor
    metrics: dict[str, Tensor]


def training_arguments(output: str | Path, *, device: str = "auto", **settings: Any) -> TrainingArguments:
    """transformers' TrainingArguments with what a StepMeanTrainer needs; `settings` are its own names.

    device: "auto", "cpu" or "cuda". At least two checkpoints are kept, since the older one is the last whole
    one while the newer is being written.
    """
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    limit = settings.pop("save_total_limit", None)
    values: dict[str, Any] = {
        "report_to": "none",
        "logging_first_step": True,
        **settings,
        "output_dir": str(output),
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "save_total_limit": None if limit is None else max(2, limit),
    }
    return TrainingArguments(**values)


class StepMeanTrainer(Trainer):
    """A Trainer whose loss is (sum over all items of the step) / (their number), over micro-batches and processes.

    A subclass defines `count_items` and `summed_loss`; `summed_loss` must call the model itself, not its parts,
    or FSDP does not gather the weights.
    run: where metrics are logged. allow_low_precision: train bf16 or fp16 weights even at a learning rate that
    mostly rounds to nothing; else an OptionError. Other arguments are Trainer's.
    """

    loss_is_scaled_for_ga = True  # so that Trainer does not divide by the number of micro-batches

    def __init__(self, *args: Any, run: Run | None = None, allow_low_precision: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.get_tp_size() * self.get_cp_size() * self.get_sp_size() > 1:
            raise OptionError(
                "tensor, context and sequence parallelism repeat items on several processes, which this trainer "
                "would count more than once",
                place="parallelism_config",
                remedy="Use data parallelism or FSDP.",
            )
        assert self.model is not None  # Trainer has refused to start without
        if not allow_low_precision:
            check_precision(self.model, self.args.learning_rate)
        self._sums: dict[str, Tensor] = {}
        self._seen = self._new_scalar()
        self._loss_of_step = self._new_scalar()
        self._checked_callbacks(run)

    @abstractmethod
    def count_items(self, batch: dict[str, Any]) -> int | Tensor:
        """How many items (tokens or pairs) of this micro-batch the loss is the mean over."""

    @abstractmethod
    def summed_loss(self, model: nn.Module, batch: dict[str, Any]) -> Sums:
        """The loss and any metrics of a micro-batch, summed over its items, not averaged."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The micro-batches of one optimiser step and the number of items in them, over all processes."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        count = torch.as_tensor(sum(self.count_items(batch) for batch in batches), device=device)
        if self.accelerator.num_processes > 1:
            count = self.accelerator.gather(count.reshape(1)).sum()
        if batches and count == 0:
            raise EmptyResponse(
                "the step has no item to learn from",
                place=f"step {self.state.global_step + 1}",
                remedy="Drop rows that are empty after truncation, or raise the length limit.",
            )
        return batches, count

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's share of the step's mean, scalar, times the processes that gradients are averaged over."""
        sums = self.summed_loss(model, inputs)
        for name, value in sums.metrics.items():
            self._sums[name] = self._sums.get(name, self._new_scalar()) + value.detach()
        self._seen += self.count_items(inputs)
        if num_items_in_batch is None:
            num_items_in_batch = self.count_items(inputs) * self.accelerator.num_processes
        loss = sums.loss * (self.accelerator.num_processes / num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of one micro-batch; on the step's last one, stop if loss or gradient is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._loss_of_step += loss
        if self.accelerator.sync_gradients:
            self._stop_if_not_finite(model)
            self._loss_of_step = self._new_scalar()
        return loss

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean loss and metrics over all items of a data set, each item with the same weight.

        Over several processes the sampler repeats examples until each has as many; those count twice.
        """
        assert self.model is not None
        self.model.eval()
        totals: dict[str, Tensor] = {}
        items = self._new_scalar()
        for inputs in dataloader:
            batch = self._prepare_inputs(inputs)
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, metrics = self.summed_loss(self.model, batch)
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, self._new_scalar()) + value
            items += self.count_items(batch)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        means, count = self._means(totals, items)
        named = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        return EvalLoopOutput(predictions=np.empty(0), label_ids=None, metrics=named, num_samples=count)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log Trainer's values and, while training, the means of the metrics since the last log."""
        if "loss" in logs:
            logs = {**logs, **self._means(self._sums, self._seen)[0]}
            self._sums, self._seen = {}, self._new_scalar()
        super().log(logs, start_time)

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train; resume_from_checkpoint: True = the last whole checkpoint, or from the start if there is none.

        Raises RunError for a named checkpoint that is not whole, NonFiniteLoss, FrozenWeightChanged.
        """
        checkpoint: Path | None = None
        if resume_from_checkpoint is True:
            checkpoint = last_whole_checkpoint(self.args.output_dir or ".")
        elif resume_from_checkpoint:
            checkpoint = check_whole(resume_from_checkpoint)
        return super().train(str(checkpoint) if checkpoint else None, trial, ignore_keys_for_eval)

    def create_accelerator_and_postprocess(self) -> None:
        """As in Trainer; and FSDP2 on CPU processes too, which accelerate offers on accelerators only.

        torch's fully_shard works over gloo, so accelerate's state need only be told, as it tells itself elsewhere.
        """
        super().create_accelerator_and_postprocess()
        state = self.accelerator.state
        if self.args.fsdp_plugin_args is not None and state.distributed_type == DistributedType.MULTI_CPU:
            plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            if self.accelerator.mixed_precision != "no":
                plugin.set_mixed_precision(self.accelerator.mixed_precision)
            state.fsdp_plugin = plugin
            # Both: each later AcceleratorState() copies the type from PartialState.
            state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
            self.is_fsdp_enabled = True

    def _checked_callbacks(self, run: Run | None) -> None:
        # The default ones print to standard output, which belongs to the verb's result.
        for default in (ProgressCallback, PrinterCallback):
            self.remove_callback(default)
        if not self.args.disable_tqdm:
            self.add_callback(ProgressBar())
        self.add_callback(WholeCheckpoints())
        self.add_callback(FrozenWeights())
        if run is not None:
            self.add_callback(MetricsToRun(run))

    def _new_scalar(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64 if self.args.device.type != "mps" else None, device=self.args.device)

    def _means(self, sums: dict[str, Tensor], items: Tensor) -> tuple[dict[str, float], int]:
        """Sums over all processes divided by their items, and the number of items; the names must agree on all."""
        both = torch.stack([items, *sums.values()])
        if self.accelerator.num_processes > 1:
            both = self.accelerator.gather(both[None]).sum(0)
        count, *totals = both.tolist()
        return {name: total / max(count, 1) for name, total in zip(sums, totals, strict=True)}, int(count)

    def _stop_if_not_finite(self, model: nn.Module) -> None:
        norm = get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        figures = torch.stack([self._loss_of_step, norm.to(self._loss_of_step)])
        if self.accelerator.num_processes > 1:  # all stop together, or the others wait for the one that stopped
            figures = self.accelerator.gather(figures[None]).sum(0)
        loss, gradient = figures.tolist()
        if not figures.isfinite().all():
            last = last_whole_checkpoint(self.args.output_dir or ".")
            raise NonFiniteLoss(
                f"the loss is {loss} and the norm of the gradient {gradient}; the weights were not updated",
                place=f"step {self.state.global_step + 1}",
                remedy=(f"The last good state is {last}. " if last else "")
                + "Lower the learning rate or look at the rows of this step.",
            )


class CausalLMTrainer(StepMeanTrainer):
    """Next-token cross-entropy, the mean over predicted tokens of the step.

    A batch is {"packed": PackedBatch} or the model's inputs with `labels` [batch, seq], -100 = not predicted.
    """

    def count_items(self, batch: dict[str, Any]) -> int | Tensor:
        """Predicted tokens."""
        if "packed" in batch:
            return len(batch["packed"].predictions().targets)
        labels: Tensor = batch["labels"]
        return (labels[:, 1:] != IGNORED).sum()

    def summed_loss(self, model: nn.Module, batch: dict[str, Any]) -> Sums:
        """Cross-entropy in nats, fp32, summed over predicted tokens."""
        packed: PackedBatch | None = batch.get("packed")
        if packed is None:
            labels = batch["labels"][:, 1:].flatten()
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
        else:
            wanted = packed.predictions()
            labels = wanted.targets
            inner = language_model_of(self.accelerator.unwrap_model(model))
            inputs = packed.model_inputs(inner)
            if len(packed.input_ids) == 1 and "logits_to_keep" in inspect.signature(inner.forward).parameters:
                logits = model(**inputs, logits_to_keep=wanted.places).logits[0]  # of predicting places only
            else:
                logits = model(**inputs).logits.flatten(0, 1)[wanted.places]
        return Sums(F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum"), {})


class ProgressBar(ProgressCallback):
    """A progress bar on standard error with the last loss; Trainer's own writes each log to standard output."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss beside the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.4g}")


class MetricsToRun(TrainerCallback):
    """Writes what Trainer logs to a run's metrics, one line a log; a resumed run logs each step once."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop lines of steps that will be trained anew."""
        if state.is_world_process_zero:
            self.run.rewind_log(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """One line: the step and the logged values."""
        if state.is_world_process_zero and logs:
            self.run.log(step=state.global_step, **logs)


def check_precision(model: nn.Module, learning_rate: float) -> None:
    """Refuse to train bf16 or fp16 weights at a learning rate (> 0) whose updates they cannot hold.

    Raises OptionError. Mixed precision keeps fp32 weights: load in float32 and train with bf16=True.
    """
    low = {p.dtype for p in model.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)}
    if low and learning_rate < SMALLEST_LOW_PRECISION_RATE:
        raise OptionError(
            f"the trained weights are {', '.join(sorted(map(str, low)))} and the learning rate is {learning_rate:g}: "
            "most updates would be rounded away",
            place="dtype",
            remedy="Load the model in float32 (bf16=True still computes in bf16), raise the learning rate to "
            f"{SMALLEST_LOW_PRECISION_RATE:g} or set allow_low_precision.",
        )
