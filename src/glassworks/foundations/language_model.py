"""What a language model can be asked, whoever runs it: prompts in, generations and probabilities out.

Inputs: prompts, each a text (tokenised as is) or a conversation (rendered by the model's own template), and
`Sampling`. Outputs: `Generation`, `ContinuationScore`, or tensors of log-probabilities. Log-probabilities are
natural, of the model itself: at temperature 1 and before top-p. This module knows no way to run a model:
`local_model` and `server_model` are the two, and `generation.open_language_model` chooses between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from glassworks.errors import OptionError
from glassworks.foundations.chat import Message

if TYPE_CHECKING:
    from torch import Tensor

Prompt = str | list[Message]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt.

    max_new_tokens: at least 1. temperature: at least 0; 0 is greedy. top_p in (0, 1]: the smallest set of
    tokens with at least this probability is kept. stop: texts that end the generation and are cut from it.
    seed: at least 0; the draw for a prompt depends on the seed and on the prompt's index, not on the batch.
    Raises OptionError, naming the field.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = {
            "max_new_tokens": ("at least 1", self.max_new_tokens >= 1),
            "temperature": ("at least 0 and finite", 0.0 <= self.temperature < float("inf")),
            "top_p": ("in (0, 1]", 0.0 < self.top_p <= 1.0),
            "stop": ("a tuple of texts that are not empty", not isinstance(self.stop, str) and all(self.stop)),
            "seed": ("at least 0", self.seed >= 0),
        }
        for field, (expected, holds) in wanted.items():
            if not holds:
                raise OptionError(f"expected {expected}, received {getattr(self, field)!r}", place=field)


@dataclass(frozen=True)
class Generation:
    """What a model wrote after one prompt.

    text: without stop text and special tokens. token_ids: the tokens drawn, without the end-of-text token, up to
    the one that completed a stop text; empty where a server does not give them. finish_reason: "stop" at an
    end-of-text token or stop text, "length" at max_new_tokens or at the model's context. token_log_probs: one a
    token, nats; log_prob: their sum; None where a server does not give them.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    log_prob: float | None = None
    token_log_probs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ContinuationScore:
    """How likely a continuation is after a prompt. token_log_probs: one a token of the continuation, nats."""

    text: str
    token_ids: tuple[int, ...]
    token_log_probs: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        """log p(continuation | prompt), nats: the sum over its tokens."""
        return sum(self.token_log_probs)

    @property
    def mean_log_prob(self) -> float:
        """The mean over the continuation's tokens, nats a token."""
        return self.log_prob / len(self.token_log_probs)


class LanguageModel(Protocol):
    """A model that continues prompts. name: what it was opened by; chat: whether it takes conversations."""

    name: str

    @property
    def chat(self) -> bool:
        """Whether conversations are understood; otherwise every prompt must be a text."""
        ...

    def generate(self, prompts: Sequence[Prompt], options: Sampling = Sampling()) -> list[Generation]:
        """One generation a prompt, in the order of the prompts."""
        ...

    def stream(self, prompt: Prompt, options: Sampling = Sampling()) -> Iterator[str]:
        """Pieces of the text as they are generated; joined they are the text of `generate([prompt])`."""
        ...

    def top_next_tokens(self, prompts: Sequence[Prompt], k: int = 5) -> list[dict[str, float]]:
        """The k most likely next tokens of each prompt: token text -> log-probability, best first."""
        ...

    def next_token_log_probs(self, prompts: Sequence[Prompt], continuation: Sequence[int] = ()) -> Tensor:
        """log p(next token | prompt, continuation), float32 [prompts, vocab].

        continuation: token ids appended to every prompt. Raises ServerError where only top tokens are known.
        """
        ...

    def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Log-probabilities of each continuation after the prompt. Raises ServerError where they are unknown."""
        ...


class DecodingState(Protocol):
    """Several prompts that are decoded step by step, each with its own key-value cache."""

    @property
    def log_probs(self) -> Tensor:
        """log p(next token) of every row, float32 [rows, vocab], on the model's device."""
        ...

    def append(self, tokens: int | Sequence[int]) -> None:
        """Append one token to every row: the same one, or one a row [rows]."""
        ...

    def select(self, rows: Sequence[int]) -> DecodingState:
        """A state with these rows in this order; self stays usable."""
        ...

    def fork(self) -> DecodingState:
        """A state that goes its own way from here: what is appended to one is not seen by the other."""
        ...


@runtime_checkable
class StepwiseModel(LanguageModel, Protocol):
    """A model whose next-token distributions are known whole, step by step: what decoding aggregation needs."""

    def open_decoding(self, prompts: Sequence[Prompt]) -> DecodingState:
        """The prompts, read and ready for the first token."""
        ...

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, with special tokens once."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of generated token ids, without special tokens."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """The token ids that end a generation."""
        ...
