"""Which token comes next, and when a text ends: the policy beside `decoding`'s probabilities.

`choose_tokens` is a pure function of log-probabilities and one uniform number a row. `Continuation` collects
the tokens of one prompt and knows stop tokens, stop texts and the length; its numbers are a function of
(seed, index of the prompt, step), so a draw does not depend on what is batched together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from glassworks.foundations.language_model import FinishReason, Generation, Sampling

_UNFINISHED_CHARACTER = "�"


def choose_tokens(log_probs: Tensor, options: Sampling, uniforms: Sequence[float]) -> Tensor:
    """The next token of every row, int64 [rows]: the first most likely one, or drawn by inverting the CDF.

    log_probs [rows, vocab]; uniforms [rows] in [0, 1), unused when temperature is 0. Tokens are laid out from
    the most likely down; top-p keeps the fewest of them that reach the probability, always at least one.
    """
    if options.temperature == 0:
        return log_probs.argmax(dim=-1)
    probabilities, tokens = (log_probs / options.temperature).softmax(dim=-1).sort(descending=True, stable=True)
    below = probabilities.cumsum(dim=-1) - probabilities
    kept = probabilities.where(below < options.top_p, 0.0).double()
    reached = kept.cumsum(dim=-1)
    level = torch.tensor(uniforms, dtype=torch.float64, device=log_probs.device)[:, None] * reached[:, -1:]
    place = (reached <= level).sum(dim=-1, keepdim=True)
    # Rounding may put the level on the last edge; the last token that top-p keeps is then meant.
    place = torch.minimum(place, (kept > 0).sum(dim=-1, keepdim=True) - 1)
    return tokens.gather(1, place)[:, 0]


class Continuation:
    """The growing answer to one prompt.

    decode: token ids -> text. room: most tokens to take. index: the prompt's, which seeds its draws.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop_ids: frozenset[int],
        options: Sampling,
        *,
        room: int,
        index: int,
        prompt_tokens: int,
    ) -> None:
        self.finish_reason: FinishReason | None = None
        self._decode, self._stop_ids, self._stop = decode, stop_ids, options.stop
        self._room, self._prompt_tokens = room, prompt_tokens
        self._sampled = options.temperature > 0
        self._uniforms = np.random.default_rng([options.seed, index])
        self._tokens: list[int] = []
        self._log_probs: list[float] = []
        # A token is at least one byte, so a stop text that ends now began within its own length in tokens.
        self._tail = max((len(text.encode()) for text in options.stop), default=0) + 1

    def draw(self) -> float:
        """The uniform number in [0, 1) of this step."""
        return float(self._uniforms.random()) if self._sampled else 0.0

    def add(self, token: int, log_prob: float) -> None:
        """Take the step's token, and note whether the text ends with it."""
        if token in self._stop_ids:
            self.finish_reason = "stop"
            return
        self._tokens.append(token)
        self._log_probs.append(log_prob)
        if self._stop and any(text in self._decode(self._tokens[-self._tail :]) for text in self._stop):
            self.finish_reason = "stop"
        elif len(self._tokens) >= self._room:
            self.finish_reason = "length"

    def text(self) -> str:
        """Everything so far, cut where the first stop text begins."""
        text = self._decode(self._tokens)
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        return text[: min(found)] if found else text

    def certain_text(self) -> str:
        """The part of the text that later tokens cannot change: no half character and no possible stop text."""
        text = self.text()
        if self.finish_reason:
            return text
        text = text.rstrip(_UNFINISHED_CHARACTER)
        for length in range(min(len(text), max(map(len, self._stop), default=0)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return text[:-length]
        return text

    def result(self) -> Generation:
        """The finished generation."""
        assert self.finish_reason is not None
        return Generation(
            text=self.text(),
            token_ids=tuple(self._tokens),
            finish_reason=self.finish_reason,
            prompt_tokens=self._prompt_tokens,
            log_prob=sum(self._log_probs),
            token_log_probs=tuple(self._log_probs),
        )
