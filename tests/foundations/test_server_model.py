"""A server model against a real HTTP server on this machine, which also fails, stalls, streams and cuts."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from glassworks.errors import OptionError, ServerError
from glassworks.foundations.generation import Sampling, ServerModel, open_language_model
from glassworks.foundations.model_server_http import Retries

QUICK = Retries(attempts=3, first_pause=0.01, timeout=0.5)
HELLO = [{"role": "user", "content": "hello"}]


class Server(ThreadingHTTPServer):
    """Answers 'echo: <last words>'; `script` may take over the answers to come, one function each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.script: list[Callable[[Handler], None]] = []
        self.running = self.most_running = 0
        self.lock = threading.Lock()

    @property
    def reference(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}#tiny"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), self.body))
            self.server.running += 1
            self.server.most_running = max(self.server.most_running, self.server.running)
            act = self.server.script.pop(0) if self.server.script else answer
        try:
            act(self)
        finally:
            with self.server.lock:
                self.server.running -= 1

    def reply(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body.encode())), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def events(self, *lines: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for line in lines:
            self.wfile.write(f"data: {line}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def answer(handler: Handler) -> None:
    body = handler.body
    chat = "messages" in body
    text = "echo: " + (body["messages"][-1]["content"] if chat else body["prompt"])
    if body.get("stream"):
        pieces = [{"delta": {"content": c}} if chat else {"text": c} for c in text]
        last = {"delta": {}, "finish_reason": "stop"} if chat else {"text": "", "finish_reason": "stop"}
        handler.events(*(json.dumps({"choices": [piece]}) for piece in [*pieces, last]), "[DONE]")
        return
    choice: dict[str, Any] = {"finish_reason": "stop" if body["max_tokens"] > 4 else "length"}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    if chat and body.get("logprobs"):
        top = [{"token": "m", "logprob": -2.3}, {"token": "M", "logprob": -0.1}][: body.get("top_logprobs", 0)]
        choice["logprobs"] = {"content": [{"token": "M", "logprob": -0.1, "top_logprobs": top}]}
    elif "logprobs" in body:
        choice["logprobs"] = {"token_logprobs": [-0.5, -0.25], "top_logprobs": [{"A": -0.5, "B": -1.0}]}
    handler.reply(200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7}}))


def failing(status: int, message: str = "sorry", **headers: str) -> Callable[[Handler], None]:
    body = json.dumps({"error": {"message": message}})
    return lambda handler: handler.reply(status, body, headers)


def stalling(handler: Handler) -> None:
    time.sleep(1.0)


def hanging_up(handler: Handler) -> None:
    handler.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("GLASSWORKS_API_KEY", raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_conversations_and_texts_go_to_their_own_endpoints_in_order(server: Server) -> None:
    model = open_language_model(server.reference)
    assert isinstance(model, ServerModel)
    assert model.chat
    prompts = [f"text {i}" if i % 2 else [{"role": "user", "content": f"talk {i}"}] for i in range(20)]
    answers = model.generate(prompts, Sampling(max_new_tokens=9, stop=("\n",)))
    assert [a.text for a in answers] == [f"echo: {'text' if i % 2 else 'talk'} {i}" for i in range(20)]
    assert {(a.finish_reason, a.prompt_tokens, a.log_prob) for a in answers} == {("stop", 7, None)}
    paths = {path: body for path, _, body in server.requests}
    assert set(paths) == {"/v1/chat/completions", "/v1/completions"}
    assert paths["/v1/completions"] | {"prompt": ""} == {
        "model": "tiny", "prompt": "", "max_tokens": 9, "temperature": 0.0, "stop": ["\n"],
    }  # fmt: skip


def test_stop_texts_are_cut_even_where_the_server_leaves_them(server: Server) -> None:
    answer = ServerModel.open(server.reference).generate(["a b c"], Sampling(stop=(" c", " b")))[0]
    assert (answer.text, answer.finish_reason) == ("echo: a", "stop")
    assert ServerModel.open(server.reference).generate(["a"], Sampling(max_new_tokens=3))[0].finish_reason == "length"


def test_samples_of_equal_prompts_have_seeds_of_their_own(server: Server) -> None:
    ServerModel.open(server.reference, concurrency=1).generate(["same"] * 3, Sampling(temperature=0.5, seed=2))
    assert len({body["seed"] for _, _, body in server.requests}) == 3


def test_at_most_so_many_requests_at_a_time(server: Server) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.05)
        answer(handler)

    server.script = [slow] * 12
    ServerModel.open(server.reference, concurrency=3).generate(["x"] * 12)
    assert server.most_running == 3


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


def test_the_first_failure_cancels_the_rest(server: Server) -> None:
    server.script = [failing(400)]
    with pytest.raises(ServerError, match="prompt 0"):
        ServerModel.open(server.reference, concurrency=1).generate(["x"] * 50)
    assert len(server.requests) < 50


def test_nothing_at_the_address() -> None:
    with pytest.raises(ServerError, match=r"nothing answers.*Start the server"):
        ServerModel("http://127.0.0.1:1", "m", retries=Retries(attempts=1)).generate(["x"])


@pytest.mark.parametrize("prompt", ["hello", HELLO])
def test_stream_gives_pieces_and_may_be_closed(server: Server, prompt: Any) -> None:
    model = ServerModel.open(server.reference)
    pieces = list(model.stream(prompt))
    assert "".join(pieces) == "echo: hello"
    assert len(pieces) == len("echo: hello")
    stream = model.stream(prompt)
    next(stream)
    stream.close()


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


def test_log_probs_where_the_server_gives_them(server: Server) -> None:
    model = ServerModel.open(server.reference, log_probs=True)
    talk, text = model.generate([HELLO, "hello"])
    assert (talk.token_log_probs, text.log_prob) == ((-0.1,), -0.75)
    assert model.top_next_tokens([HELLO, "hello"], k=2) == [{"M": -0.1, "m": -2.3}, {"A": -0.5, "B": -1.0}]
    server.script = [lambda handler: handler.reply(200, '{"choices": [{"text": "x", "logprobs": null}]}')]
    with pytest.raises(ServerError, match="out of protocol"):
        model.top_next_tokens(["hello"])


def test_what_no_server_gives(server: Server) -> None:
    model = ServerModel.open(server.reference)
    with pytest.raises(ServerError, match="keyword aggregation"):
        model.next_token_log_probs(["x"])
    with pytest.raises(ServerError, match="log-probabilities of given texts"):
        model.score("x", ["y"])


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


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("http://127.0.0.1:8000/v1", "which model"),
        ("http://#m", "address is expected"),
        ("http://host:99999#m", "address is expected"),
        ("http://me:hunter2@host/v1#m", "user name or password"),
        ("http://host/v1?key=hunter2#m", "address is expected"),
    ],
)
def test_addresses_are_checked_and_not_repeated(reference: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        open_language_model(reference)
    assert "hunter2" not in str(caught.value)


def test_a_server_cannot_promise_batch_invariance(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    open_language_model(server.reference, batch_invariant=True)
    assert "may depend on what it batches" in caplog.text
