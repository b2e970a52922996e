"""HTTP to a model server: one JSON request and answer, or a stream of events, with patience.

Input: address, JSON body, key. Output: parsed JSON. Failures that may pass (408, 429, 5xx, time-outs, broken or
refused connections) are repeated with growing pauses, or after the time that the server names. Everything else,
and what does not pass, becomes ServerError with a remedy. Redirects are refused, so that a key goes to the
address it was meant for and nowhere else. The standard library's client is used rather than the hub's, which
refuses every address while the hub is offline and sends the hub's token to any address where no key is given.
Knows nothing of prompts.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from glassworks.errors import OptionError, ServerError

_log = logging.getLogger(__name__)
_MAY_PASS = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_PAUSE = 60.0
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)
_REMEDIES = {
    400: "The server refuses what was asked; its own words are above.",
    401: "Set the environment variable with the API key.",
    403: "Set the environment variable with the API key, or ask for access.",
    404: "Check the address (does it end in /v1?) and the model's name; /completions may not be served.",
    408: "Raise the time-out or ask for fewer tokens.",
    422: "The server refuses what was asked; its own words are above.",
    429: "Lower the concurrency or wait.",
}


@dataclass(frozen=True)
class Retries:
    """attempts: at least 1. first_pause: seconds, doubled each time. timeout: seconds without a byte."""

    attempts: int = 5
    first_pause: float = 0.5
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_pause < 0 or self.timeout <= 0:
            raise OptionError(f"expected attempts >= 1, first_pause >= 0, timeout > 0, received {self}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Lets a redirect stand as the error that it is here."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """No request to follow with."""
        return


def post_json(url: str, body: dict[str, object], key: str | None, retries: Retries, *, place: str) -> Any:
    """The server's answer to `body`, parsed. Raises ServerError naming `place`."""
    for attempt in range(retries.attempts):
        try:
            with _open(url, body, key, retries.timeout) as response:
                return _parsed(response.read(), place)
        except _BROKEN as error:
            _pause_or_raise(error, attempt, retries, key, place)
    raise AssertionError("the last attempt raises")


def event_stream(url: str, body: dict[str, object], key: str | None, retries: Retries, *, place: str) -> Iterator[Any]:
    """The server-sent events that answer `body`, parsed, up to '[DONE]' or the connection's end.

    Repeated while nothing has arrived. The connection is closed with the iterator. Raises ServerError.
    """
    for attempt in range(retries.attempts):
        arrived = False
        try:
            with closing(_open(url, body, key, retries.timeout)) as response:
                for line in response:
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    event = _parsed(data, place)
                    if isinstance(event, dict) and event.get("error"):
                        raise ServerError(_without(str(event["error"]), key), place=place, remedy="Ask again.")
                    arrived = True
                    yield event
                return
        except _BROKEN as error:
            _pause_or_raise(error, retries.attempts if arrived else attempt, retries, key, place)


def _open(url: str, body: dict[str, object], key: str | None, timeout: float) -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's own servers
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parsed(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ServerError(
            f"the answer is not JSON: {text[:100]!r}",
            place=place,
            remedy="Check that the address belongs to an OpenAI-compatible server.",
        ) from error


def _pause_or_raise(error: Exception, attempt: int, retries: Retries, key: str | None, place: str) -> None:
    """Sleep before the next attempt, or raise the ServerError that `error` amounts to."""
    status = error.code if isinstance(error, urllib.error.HTTPError) else None
    problem, remedy = _described(error, retries)
    if attempt + 1 >= retries.attempts or (status is not None and status not in _MAY_PASS):
        tries = f" (after {attempt + 1} attempts)" if 0 < attempt < retries.attempts else ""
        raise ServerError(_without(problem, key) + tries, place=place, remedy=remedy) from None
    pause = retries.first_pause * 2**attempt
    if isinstance(error, urllib.error.HTTPError):
        asked = error.headers.get("Retry-After") or ""
        pause = max(pause, float(asked)) if asked.isdecimal() else pause
    pause = min(pause, _LONGEST_PAUSE)
    _log.warning("%s: %s. Trying again in %.1f s.", place, _without(problem, key), pause)
    time.sleep(pause)


def _described(error: Exception, retries: Retries) -> tuple[str, str]:
    """What happened, and what to do."""
    if isinstance(error, urllib.error.HTTPError):
        with error:
            detail = _server_words(error)
        remedy = _REMEDIES.get(error.code, "Look at the server's log.")
        return f"HTTP {error.code} {error.reason}{detail}", remedy
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {retries.timeout:g} s", _REMEDIES[408]
    if isinstance(reason, ConnectionRefusedError):
        return "nothing answers at this address", "Start the server, or correct the address."
    return f"the connection broke ({reason or type(reason).__name__})", "Look at the server's log."


def _server_words(error: urllib.error.HTTPError) -> str:
    """': ' and the message in an error's body, at most 300 characters; '' where there is none."""
    try:
        text = error.read(10_000).decode("utf-8", "replace").strip()
    except _BROKEN:
        return ""
    try:
        body = json.loads(text)
        inner = body.get("error") or body.get("detail") or body.get("message")
        text = str(inner.get("message") if isinstance(inner, dict) else inner or text)
    except (ValueError, AttributeError):
        pass
    return f": {text[:300]}" if text else ""


def _without(text: str, key: str | None) -> str:
    """The text with the key blotted out: servers like to repeat it."""
    return text.replace(key, "***") if key else text
