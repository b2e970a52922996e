"""A judge over HTTP on this machine: it says what it was asked, and prefers the second answer by 3 to 1."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Says 'verdict on: <prompt>' and prefers M by 3 to 1."""

    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(body)
        text = f"verdict on: {body['messages'][-1]['content']}"
        choice: dict[str, Any] = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        top = [{"token": "M", "logprob": -0.2876820724517809}, {"token": "m", "logprob": -1.3862943611198906}]
        choice["logprobs"] = {"content": [{"token": "M", "logprob": -0.28, "top_logprobs": top}]}
        reply = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def judge_server() -> Iterator[str]:
    """The address of a running judge; it forgets earlier requests."""
    Handler.requests = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}#judge"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
