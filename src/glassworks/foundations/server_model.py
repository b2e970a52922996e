"""A language model behind an OpenAI-compatible server (vLLM, TGI, llama.cpp, Ollama, a commercial API).

Input: the server's address and its name for the model, 'http://host:port/v1#model'. Conversations go to
/chat/completions, where the server's template renders them; texts go to /completions, as they are. Requests run
side by side in a bounded pool, are repeated after failures that may pass, and come back in order. The API key is
read from an environment variable when a request is made, goes to this address only, and appears in no message.
A server shows the top of its next-token distributions at most, so whole ones and scores raise ServerError.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tqdm import tqdm

from glassworks.errors import OptionError, ServerError, check_at_least
from glassworks.foundations.language_model import ContinuationScore, FinishReason, Generation, Prompt, Sampling
from glassworks.foundations.model_server_http import Retries, event_stream, post_json

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
API_KEY_VARIABLE = "GLASSWORKS_API_KEY"


class ServerModel:
    """A `LanguageModel` that asks a server.

    base_url: http(s) address up to and including the version ('/v1' is added where there is no path). model: the
    server's name for it. api_key_variable: environment variable that holds the key; unset is fine for servers
    without one. concurrency: requests at a time. log_probs: ask for token log-probabilities when generating.
    retries: how often and how patiently. Raises OptionError for an address that cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_variable: str = API_KEY_VARIABLE,
        concurrency: int = 8,
        log_probs: bool = False,
        retries: Retries = Retries(),
    ) -> None:
        check_at_least(1, concurrency=concurrency)
        self.base_url = _checked_address(base_url)
        self.model = model
        self.name = f"{self.base_url}#{model}"
        self.concurrency = concurrency
        self.log_probs = log_probs
        self._key_variable = api_key_variable
        self._retries = retries

    @classmethod
    def open(cls, reference: str, **options: Any) -> ServerModel:
        """The model that 'http(s)://host:port/v1#model' names. options: those of the class."""
        address, _, model = reference.partition("#")
        if not model:
            raise OptionError(
                "the server's address does not say which model",
                place=_checked_address(address),
                remedy="Add it behind '#', as in http://127.0.0.1:8000/v1#my-model.",
            )
        return cls(address, model, **options)

    @property
    def chat(self) -> bool:
        """Servers take conversations."""
        return True

    def generate(self, prompts: Sequence[Prompt], options: Sampling = Sampling()) -> list[Generation]:
        """One generation a prompt, in order. Raises ServerError, naming the prompt, once it has given up."""

        def ask(index: int) -> Generation:
            reply = self._post(prompts[index], _sampling(options, index) | self._log_prob_request(prompts[index]))
            return self._reading(reply, lambda: _generation(reply, options))

        return self._side_by_side(ask, len(prompts))

    def stream(self, prompt: Prompt, options: Sampling = Sampling()) -> Iterator[str]:
        """Pieces of the text as they arrive; may be closed early.

        A failure before the first piece is repeated as in `generate`; later ones raise ServerError.
        """
        path, body = self._request(prompt, _sampling(options, 0) | {"stream": True})
        finished, received = False, 0
        for event in event_stream(self.base_url + path, body, self._key(), self._retries, place=self.name):
            piece, last = self._reading(event, partial(_piece, event))
            finished = finished or last
            received += len(piece)
            if piece:
                yield piece
        if not finished:
            raise ServerError(
                f"the stream ended after {received} characters without saying that the text is complete",
                place=self.name,
                remedy="Look at the server's log; ask again.",
            )

    def top_next_tokens(self, prompts: Sequence[Prompt], k: int = 5) -> list[dict[str, float]]:
        """The k most likely next tokens of each prompt: token text -> log-probability, best first.

        Raises ServerError where the server does not give them. Most allow k up to 20 or 5.
        """

        def ask(index: int) -> dict[str, float]:
            options = {"max_tokens": 1, "temperature": 0.0}
            chat = not isinstance(prompts[index], str)
            options |= {"logprobs": True, "top_logprobs": k} if chat else {"logprobs": k}
            reply = self._post(prompts[index], options)
            return self._reading(reply, lambda: _top_tokens(reply))

        return self._side_by_side(ask, len(prompts))

    def next_token_log_probs(self, prompts: Sequence[Prompt], continuation: Sequence[int] = ()) -> Tensor:
        """Raises ServerError: a server gives the top of the distribution at most, see `top_next_tokens`."""
        raise self._unsupported("whole next-token distributions")

    def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Raises ServerError: the protocol has no log-probabilities of a given text."""
        raise self._unsupported("log-probabilities of given texts")

    def _unsupported(self, feature: str) -> ServerError:
        return ServerError(
            f"a model server does not give {feature}",
            place=self.name,
            remedy="Use local weights, or a method that needs text only (keyword aggregation, voting).",
        )

    def _side_by_side(self, ask: Callable[[int], _Answer], count: int) -> list[_Answer]:
        """ask(0..count-1), at most `concurrency` at a time; the first failure cancels what has not begun."""

        def named(index: int) -> _Answer:
            try:
                return ask(index)
            except ServerError as error:
                place = f"{error.place}, prompt {index}"
                raise ServerError(error.problem, place=place, remedy=error.remedy) from error

        progress = tqdm(total=count, desc="ask", leave=False, disable=None if count > 1 else True)
        with progress, ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(named, index) for index in range(count)]
            answers = []
            try:
                for future in futures:
                    answers.append(future.result())
                    progress.update()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return answers

    def _post(self, prompt: Prompt, options: Mapping[str, object]) -> Any:
        path, body = self._request(prompt, options)
        return post_json(self.base_url + path, body, self._key(), self._retries, place=self.name)

    def _request(self, prompt: Prompt, options: Mapping[str, object]) -> tuple[str, dict[str, object]]:
        if isinstance(prompt, str):
            return "/completions", {"model": self.model, "prompt": prompt, **options}
        return "/chat/completions", {"model": self.model, "messages": prompt, **options}

    def _log_prob_request(self, prompt: Prompt) -> dict[str, object]:
        if not self.log_probs:
            return {}
        return {"logprobs": 0} if isinstance(prompt, str) else {"logprobs": True}

    def _reading(self, reply: object, read: Callable[[], _Answer]) -> _Answer:
        try:
            return read()
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ServerError(
                f"an answer out of protocol ({type(error).__name__}: {error}): {str(reply)[:200]}",
                place=self.name,
                remedy="Check that the address belongs to an OpenAI-compatible server that gives what is asked.",
            ) from error

    def _key(self) -> str | None:
        key = os.environ.get(self._key_variable, "").strip()
        if not key.isascii() or not key.isprintable():
            raise OptionError("the key holds characters that no header can carry", place=f"${self._key_variable}")
        return key or None


def _checked_address(base_url: str) -> str:
    """The address without a trailing slash, '/v1' added to a bare host. Its text is not repeated in errors."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query:
        raise OptionError(
            "a server's address is expected, as in http://127.0.0.1:8000/v1", place="base_url", remedy="Correct it."
        )
    if parts.username is not None or parts.password is not None:
        raise OptionError(
            "the address holds a user name or password",
            place="base_url",
            remedy=f"Put the key in the environment variable {API_KEY_VARIABLE}.",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _sampling(options: Sampling, index: int) -> dict[str, object]:
    body: dict[str, object] = {"max_tokens": options.max_new_tokens, "temperature": options.temperature}
    if options.temperature > 0:
        # Equal prompts must not get equal samples, so the index goes into the seed.
        body |= {"top_p": options.top_p, "seed": (options.seed * 1_000_003 + index) % 2**31}
    return body | ({"stop": list(options.stop)} if options.stop else {})


def _piece(event: Any) -> tuple[str, bool]:
    """The text of a stream's event, and whether it is the last."""
    choice = (event["choices"] or [{}])[0]
    piece = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return piece, choice.get("finish_reason") is not None


def _generation(reply: Any, options: Sampling) -> Generation:
    choice = reply["choices"][0]
    text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
    cuts = [place for place in (text.find(stop) for stop in options.stop) if place >= 0]
    reason: FinishReason = "length" if choice.get("finish_reason") == "length" and not cuts else "stop"
    if choice.get("finish_reason") not in ("length", "stop"):
        _log.warning("The server ended a text for the reason %r.", choice.get("finish_reason"))
    values = _token_log_probs(choice.get("logprobs"))
    return Generation(
        text=text[: min(cuts)] if cuts else text,
        token_ids=(),
        finish_reason=reason,
        prompt_tokens=int((reply.get("usage") or {}).get("prompt_tokens") or 0),
        log_prob=None if values is None else sum(values),
        token_log_probs=values,
    )


def _token_log_probs(log_probs: Any) -> tuple[float, ...] | None:
    if not log_probs:
        return None
    if "content" in log_probs:
        return tuple(float(token["logprob"]) for token in log_probs["content"] or ())
    return tuple(float(value) for value in log_probs["token_logprobs"])


def _top_tokens(reply: Any) -> dict[str, float]:
    log_probs = reply["choices"][0]["logprobs"]
    if "content" in log_probs:
        top = {token["token"]: token["logprob"] for token in reversed(log_probs["content"][0]["top_logprobs"])}
    else:
        top = log_probs["top_logprobs"][0]
    return dict(sorted(((text, float(value)) for text, value in top.items()), key=lambda pair: -pair[1]))
