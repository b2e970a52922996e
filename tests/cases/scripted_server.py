"""A real HTTP server on this machine that speaks the OpenAI protocol, and fails, stalls, streams and cuts on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
            act = self.server.script.pop(0) if self.server.script else answer
        act(self)

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


@contextmanager
def scripted_server() -> Iterator[Server]:
    """The server, running."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
