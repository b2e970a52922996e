"""A language model that runs here: batched and streamed generation, scoring, next-token distributions.

Input: a decoder-only transformers model and its tokenizer. Prompts are sorted by length, batched under a token
budget and given back in order; a beginning that prompts share is computed once (`prefix_store`). With
`batch_invariant`, each prompt is computed alone: its result is the same, bit for bit, whatever stands beside it
and whatever was asked before, as a certificate about the served function needs (RobustRAG, section on
determinism). It holds on one machine with one thread count and one version of torch. Knows no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.errors import OptionError, PromptTooLong, check_at_least
from glassworks.foundations.causal_forward import CausalForward
from glassworks.foundations.chat import encode, render
from glassworks.foundations.decoding import Decoding, text_log_probs
from glassworks.foundations.language_model import ContinuationScore, Generation, Message, Prompt, Sampling
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.foundations.prefix_store import PrefixStore
from glassworks.foundations.sampling import Continuation, choose_tokens


class LocalModel:
    """A transformers model as a `StepwiseModel`.

    max_batch_tokens: prompts and new tokens together in one batch. batch_invariant: see the module.
    prefix_tokens: how many tokens' keys and values of prompts' beginnings are remembered from call to call; 0,
    the default, remembers none, since the caller may change the model in between.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        max_batch_tokens: int = 8192,
        batch_invariant: bool = False,
        prefix_tokens: int = 0,
    ) -> None:
        check_at_least(1, max_batch_tokens=max_batch_tokens)
        self.name = name or getattr(model, "name_or_path", "") or type(model).__name__
        self.model = model
        self.tokenizer = tokenizer
        self.max_batch_tokens = max_batch_tokens
        self.batch_invariant = batch_invariant
        self._forward = CausalForward(model)
        self._prefixes = PrefixStore(self._forward, capacity=prefix_tokens)
        ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None) or []
        ends = [ends] if isinstance(ends, int) else list(ends)
        self._stop_ids = frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_tokens: int = 8192,
        batch_invariant: bool = False,
        prefix_tokens: int = 8192,
    ) -> LocalModel:
        """Load weights and tokenizer of `name`; shared beginnings are remembered from call to call.

        Raises ModelNotFound, NotAModel or UnsafeCheckpoint before loading.
        """
        return cls(
            load_model(name, device=device, dtype=dtype),
            load_tokenizer(name),
            name=name,
            max_batch_tokens=max_batch_tokens,
            batch_invariant=batch_invariant,
            prefix_tokens=prefix_tokens,
        )

    @property
    def chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def stop_ids(self) -> frozenset[int]:
        """The token ids that end a generation."""
        return self._stop_ids

    @property
    def context(self) -> int | None:
        """How many tokens a prompt and its continuation may have together; None: no limit is known."""
        return self._forward.limit

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, special tokens once and never an end-of-text token after a text.

        A conversation is rendered by the chat template and left open for the assistant; one that ends with an
        assistant's message is left open inside it. Raises TemplateError, or OptionError for an empty prompt.
        """
        ids = self._encode_text(prompt) if isinstance(prompt, str) else self._encode_chat(prompt)
        if not ids:
            start = self.tokenizer.bos_token_id
            start = self.tokenizer.eos_token_id if start is None else start
            if start is None:
                raise OptionError("the prompt is empty and the tokenizer has no start token", place=self.name)
            ids = [start]
        return ids

    def _encode_text(self, text: str) -> list[int]:
        ids = list(self.tokenizer(text, add_special_tokens=True)["input_ids"])
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        # A text rendered by a template may bring its own start token.
        if begin is not None and ids[:2] == [begin, begin] and text.startswith(str(self.tokenizer.bos_token)):
            ids = ids[1:]
        if end is not None and ids[1:] and ids[-1] == end and not text.endswith(str(self.tokenizer.eos_token)):
            ids = ids[:-1]
        return ids

    def _encode_chat(self, messages: list[Message]) -> list[int]:
        answering = bool(messages) and messages[-1].get("role") == "assistant"
        turns = messages[:-1] if answering else messages
        ids: list[int] = encode(
            self.tokenizer, render(self.tokenizer, turns, add_generation_prompt=True, place=self.name)
        )
        # What the assistant has said so far is read as if it had been generated: after the prompt's own tokens.
        return ids + (encode(self.tokenizer, messages[-1]["content"]) if answering else [])

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def generate(self, prompts: Sequence[Prompt], options: Sampling = Sampling()) -> list[Generation]:
        """One generation a prompt, in order. Raises PromptTooLong, naming the row, before any work."""
        rows = self._rows(prompts, room=1)
        batches = self._batches([len(row) + options.max_new_tokens for row in rows])
        results: dict[int, Generation] = {}
        progress = tqdm(total=len(rows), desc="generate", leave=False, disable=True if len(batches) < 2 else None)
        with progress:
            for batch in batches:
                started = {index: self._start(index, len(rows[index]), options) for index in batch}
                state = self._open([rows[index] for index in batch])
                self._finish(state, list(started.values()), options)
                results |= {index: continuation.result() for index, continuation in started.items()}
                progress.update(len(batch))
        return [results[index] for index in range(len(rows))]

    def stream(self, prompt: Prompt, options: Sampling = Sampling()) -> Iterator[str]:
        """Pieces of the text as they are generated; may be closed early. Raises as `generate`, at once."""
        row = self._rows([prompt], room=1)[0]
        return self._pieces(row, self._start(0, len(row), options), options)

    def _pieces(self, row: list[int], continuation: Continuation, options: Sampling) -> Iterator[str]:
        state, told = self._open([row]), 0
        while True:
            token = self._step(state, [continuation], options)[0]
            text = continuation.certain_text()
            if len(text) > told:
                yield text[told:]
                told = len(text)
            if continuation.finish_reason:
                return
            state.append(token)

    def _finish(self, state: Decoding, active: list[Continuation], options: Sampling) -> None:
        """Continue every row to its end; rows that have ended leave the batch."""
        while active:
            tokens = self._step(state, active, options)
            going = [row for row, continuation in enumerate(active) if not continuation.finish_reason]
            if len(going) < len(active):
                state, active = state.select(going) if going else state, [active[row] for row in going]
            if active:
                state.append([tokens[row] for row in going])

    @staticmethod
    def _step(state: Decoding, active: list[Continuation], options: Sampling) -> list[int]:
        """Draw the next token of every row and tell it to its continuation; the tokens [rows]."""
        log_probs = state.log_probs
        chosen = choose_tokens(log_probs, options, [continuation.draw() for continuation in active])
        values = log_probs.gather(1, chosen[:, None])[:, 0].tolist()
        tokens: list[int] = chosen.tolist()
        for continuation, token, value in zip(active, tokens, values, strict=True):
            continuation.add(token, value)
        return tokens

    def _start(self, index: int, prompt_tokens: int, options: Sampling) -> Continuation:
        room = options.max_new_tokens
        if self.context is not None:
            room = min(room, self.context - prompt_tokens)
        return Continuation(self.decode, self.stop_ids, options, room=room, index=index, prompt_tokens=prompt_tokens)

    def open_decoding(self, prompts: Sequence[Prompt]) -> Decoding:
        """The prompts as one batch, read and ready for the first token (batch-invariant: each by itself)."""
        return self._open(self._rows(prompts, room=1))

    def next_token_log_probs(self, prompts: Sequence[Prompt], continuation: Sequence[int] = ()) -> Tensor:
        """log p(next token | prompt, continuation), float32 [prompts, vocab], on the model's device.

        To go on token by token use `open_decoding`, which keeps the caches.
        """
        rows = self._rows(prompts, room=1 + len(continuation))
        found: dict[int, Tensor] = {}
        for batch in self._batches([len(row) + len(continuation) for row in rows]):
            state = self._open([rows[index] for index in batch])
            for token in continuation:
                state.append(token)
            found |= dict(zip(batch, state.log_probs, strict=True))
        if not rows:
            return torch.zeros(0, self._forward.vocabulary, device=self._forward.device)
        return torch.stack([found[index] for index in range(len(rows))])

    def top_next_tokens(self, prompts: Sequence[Prompt], k: int = 5) -> list[dict[str, float]]:
        """The k most likely next tokens of each prompt: token text -> log-probability, best first.

        Token ids with the same text (a special token's is kept) are one entry, with their summed probability.
        """
        check_at_least(1, k=k)
        log_probs = self.next_token_log_probs(prompts)
        best = log_probs.topk(min(k, log_probs.shape[-1]), dim=-1)
        found: list[dict[str, float]] = []
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            entry: dict[str, float] = {}
            for token, value in zip(ids, values, strict=True):
                text = str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))
                known = entry.get(text)
                entry[text] = value if known is None else float(torch.tensor([known, value]).logsumexp(0))
            found.append(entry)
        return found

    def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Log-probabilities of each continuation after the prompt, which is read once.

        A continuation is tokenised together with a text prompt where that leaves the prompt's tokens as they are,
        by itself otherwise. Raises OptionError for a continuation without tokens, PromptTooLong as `generate`.
        """
        row = self.encode(prompt)
        targets = [self._continuation_ids(prompt, row, text) for text in continuations]
        for index, (text, ids) in enumerate(zip(continuations, targets, strict=True)):
            if not ids:
                raise OptionError(f"{text!r} has no tokens to score", place=f"continuation {index}")
            self._check_length(index, len(row) + len(ids), room=0)
        state = self._open([row])
        found: dict[int, list[float]] = {}
        for batch in self._batches([len(row) + len(ids) for ids in targets]):
            values = state.score([targets[index] for index in batch])
            found |= dict(zip(batch, values, strict=True))
        return [
            ContinuationScore(text, tuple(ids), tuple(found[index]))
            for index, (text, ids) in enumerate(zip(continuations, targets, strict=True))
        ]

    def token_log_probs(
        self, texts: Sequence[Prompt], *, window: int | None = None, stride: int | None = None
    ) -> list[tuple[float, ...]]:
        """log p(token | those before it in its window) of every token but the first of each text, nats.

        window: tokens that the model sees at once (default and maximum: its context). stride: tokens that are
        scored a window (default: half the window), so each has window - stride tokens before it where the text
        has them. exp(-mean) is the perplexity. Raises OptionError.
        """
        rows = [self.encode(text) for text in texts]
        longest = max((len(row) for row in rows), default=1)
        window = min(window or longest, self.context or longest)
        stride = window // 2 if stride is None else stride
        if not 1 <= stride < max(window, 2):
            raise OptionError(f"expected 1 to {window - 1}, received {stride}", place="stride")
        spans = [(index, *span) for index, row in enumerate(rows) for span in _windows(len(row), window, stride)]
        found: list[list[float]] = [[] for _ in rows]
        scored: dict[int, list[float]] = {}
        for batch in self._batches([stop - start for _, start, _, stop in spans]):
            pieces = [rows[index][start:stop] for index, start, _, stop in (spans[i] for i in batch)]
            scored |= dict(zip(batch, text_log_probs(self._forward, pieces, alone=self.batch_invariant), strict=True))
        for number, (index, start, first, _) in enumerate(spans):
            found[index].extend(scored[number][first - start - 1 :])
        return [tuple(values) for values in found]

    def _rows(self, prompts: Sequence[Prompt], *, room: int) -> list[list[int]]:
        """Token ids of every prompt, each with `room` tokens to spare in the model's context."""
        rows = [self.encode(prompt) for prompt in prompts]
        for index, row in enumerate(rows):
            self._check_length(index, len(row), room=room)
        return rows

    def _check_length(self, index: int, tokens: int, *, room: int) -> None:
        if self.context is not None and tokens + room > self.context:
            raise PromptTooLong(index, tokens, self.context, room=room)

    def _continuation_ids(self, prompt: Prompt, row: list[int], text: str) -> list[int]:
        if isinstance(prompt, str):
            together = self._encode_text(prompt + text)
            if together[: len(row)] == row:
                return together[len(row) :]
        return encode(self.tokenizer, text)

    def _open(self, rows: Sequence[Sequence[int]]) -> Decoding:
        return Decoding(self._forward, self._prefixes, rows, alone=self.batch_invariant)

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Row numbers in batches of similar length, longest first so that too little memory shows at once."""
        batches: list[list[int]] = []
        for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= self.max_batch_tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    def clear_prefixes(self) -> None:
        """Forget remembered beginnings: to be called after the model has changed."""
        self._prefixes.clear()


def _windows(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, first scored, stop) of the windows over a text of `length` tokens; token 0 is never scored."""
    spans, first = [], 1
    while first < length:
        stop = min(length, window if first == 1 else first + stride)
        spans.append((max(0, stop - window), first, stop))
        first = stop
    return spans
