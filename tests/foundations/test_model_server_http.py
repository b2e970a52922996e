"""Failures that may pass are repeated with patience, others say what to do, and the key goes nowhere else."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator

import pytest
from cases.scripted_server import HELLO, QUICK, Handler, Server, failing, hanging_up, scripted_server, stalling

from glassworks.errors import OptionError, ServerError
from glassworks.foundations.generation import ServerModel
from glassworks.foundations.model_server_http import Retries, event_stream, post_json


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("GLASSWORKS_API_KEY", raising=False)
    with scripted_server() as server:
        yield server


@pytest.mark.parametrize("failure", [failing(429), failing(503), stalling, hanging_up])
def test_failures_that_may_pass_are_repeated(server: Server, failure: Callable[[Handler], None]) -> None:
    server.script = [failure, failure]
    model = ServerModel.open(server.reference, retries=QUICK)
    assert model.generate(["x"])[0].text == "echo: x"
    assert len(server.requests) == 3


def test_the_pause_that_a_server_asks_for_is_kept(server: Server) -> None:
    server.script = [failing(429, **{"Retry-After": "1"})]
    start = time.monotonic()
    ServerModel.open(server.reference, retries=QUICK).generate(["x"])
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize(
    ("failure", "attempts", "words"),
    [
        (failing(400, "too many tokens"), 1, r"HTTP 400 .*: too many tokens"),
        (failing(401), 1, r"HTTP 401 .*environment variable"),
        (failing(404), 1, r"HTTP 404 .*model's name"),
        (failing(500), 3, r"HTTP 500 .*after 3 attempts.*log"),
        (failing(302, Location="http://127.0.0.1:1/"), 1, r"HTTP 302"),
        (stalling, 3, r"no answer within 0.5 s.*after 3 attempts.*Raise the time-out"),
        (hanging_up, 3, r"connection broke"),
        (lambda handler: handler.reply(200, "<html>"), 1, r"not JSON.*OpenAI-compatible"),
        (lambda handler: handler.reply(200, '{"choices": []}'), 1, r"out of protocol \(IndexError"),
    ],
)
def test_failures_that_stay_say_where_and_what_to_do(
    server: Server, failure: Callable[[Handler], None], attempts: int, words: str
) -> None:
    server.script = [failure] * 3
    model = ServerModel.open(server.reference, retries=QUICK, concurrency=1)
    with pytest.raises(ServerError, match=words) as caught:
        model.generate(["x"])
    assert caught.value.place == f"{model.name}, prompt 0"
    assert caught.value.remedy
    assert len(server.requests) == attempts


def test_nothing_at_the_address() -> None:
    with pytest.raises(ServerError, match=r"nothing answers.*Start the server"):
        ServerModel("http://127.0.0.1:1", "m", retries=Retries(attempts=1)).generate(["x"])


def test_streams_that_break(server: Server) -> None:
    model = ServerModel.open(server.reference, retries=QUICK)
    piece = json.dumps({"choices": [{"delta": {"content": "ab"}}]})
    server.script = [failing(503), lambda handler: handler.events(piece)]
    received = []
    with pytest.raises(ServerError, match="ended after 2 characters"):
        received.extend(model.stream(HELLO))
    assert len(server.requests) == 2  # repeated before the first piece, never after it

    def stalled(handler: Handler) -> None:
        handler.events(piece)
        time.sleep(1.0)

    server.script = [stalled]
    with pytest.raises(ServerError, match="no answer within"):
        list(model.stream(HELLO))
    server.script = [lambda handler: handler.events(piece, '{"error": "out of memory"}')]
    with pytest.raises(ServerError, match="out of memory"):
        list(model.stream(HELLO))
    assert len(server.requests) == 4


def test_the_key_goes_into_the_header_and_nowhere_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = ServerModel.open(server.reference, retries=QUICK)
    model.generate(["x"])
    assert "Authorization" not in server.requests[0][1]
    monkeypatch.setenv("GLASSWORKS_API_KEY", "sk-secret\n")
    server.script = [failing(503, "bad key sk-secret"), failing(401, "bad key sk-secret")]
    with caplog.at_level(logging.DEBUG), pytest.raises(ServerError, match=r"bad key \*\*\*") as caught:
        model.generate(["x"])
    assert server.requests[1][1]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in caplog.text + str(caught.value) + repr(vars(model))
    monkeypatch.setenv("GLASSWORKS_API_KEY", "sk-se\ncret")
    with pytest.raises(OptionError, match="GLASSWORKS_API_KEY") as refused:
        model.generate(["x"])
    assert "cret" not in str(refused.value)


def test_a_proxy_is_not_asked_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert ServerModel.open(server.reference).generate(["x"])[0].text == "echo: x"


def test_pauses_double_and_neither_they_nor_the_server_exceed_a_minute(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.script = [
        failing(503),
        failing(503),
        failing(429, **{"Retry-After": "3600"}),
        failing(503, **{"Retry-After": "soon"}),
    ]
    url = server.reference.partition("#")[0]
    received = post_json(url, {"prompt": "x", "max_tokens": 9}, None, Retries(first_pause=2.0), place="here")
    assert received["choices"][0]["text"] == "echo: x"
    assert pauses == [2.0, 4.0, 60.0, 16.0]


def test_a_redirect_takes_no_key_to_another_address(server: Server) -> None:
    with scripted_server() as other:
        elsewhere = other.reference.partition("#")[0]
        for status in (301, 302, 303, 307, 308):
            server.script = [failing(status, Location=elsewhere)]
            with pytest.raises(ServerError, match=f"here: HTTP {status}"):
                post_json(server.reference.partition("#")[0], {}, "sk-secret", QUICK, place="here")
        assert other.requests == []
    assert len(server.requests) == 5


def test_events_end_at_done_or_with_the_connection_and_other_lines_are_passed_over(server: Server) -> None:
    def talk(handler: Handler) -> None:
        handler.reply(200, ': comment\nevent: x\ndata:{"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\ndata: {"n": 3}\n')

    server.script = [talk, lambda handler: handler.events('{"n": 1}')]
    url = server.reference.partition("#")[0]
    assert list(event_stream(url, {}, None, QUICK, place="here")) == [{"n": 1}, {"n": 2}]
    assert list(event_stream(url, {}, None, QUICK, place="here")) == [{"n": 1}]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_pause": -1.0}, {"timeout": 0.0}])
def test_impossible_patience_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=r"attempts >= 1, first_pause >= 0, timeout > 0"):
        Retries(**wrong)  # type: ignore[arg-type]
