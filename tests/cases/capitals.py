"""A small world for retrieval: documents on capitals, questions with known answers, and a server that can read.

The server speaks the OpenAI protocol on this machine. It answers "What is the capital of X?" from the passages of
the prompt, says that it does not know where they do not tell, and cites nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

CAPITALS = {
    "Kenya": "Nairobi",
    "France": "Paris",
    "Japan": "Tokyo",
    "Peru": "Lima",
    "Norway": "Oslo",
    "Cuba": "Havana",
    "Chad": "Ndjamena",
    "Egypt": "Cairo",
    "Ghana": "Accra",
    "Iran": "Tehran",
}
ASKED = "What is the capital of {}?"


def write_documents(folder: Path) -> Path:
    """One text file a country, and one about nothing that is asked."""
    folder.mkdir()
    for country, capital in CAPITALS.items():
        text = (
            f"# {country}\n\n{country} has many rivers and hills. The capital of {country} is {capital}. It is warm.\n"
        )
        (folder / f"{country}.md").write_text(text, encoding="utf-8")
    (folder / "glass.md").write_text("# Glass\n\nGlass is made of sand, soda and lime.\n", encoding="utf-8")
    return folder


def write_questions(path: Path) -> Path:
    """One question a country, with its answer and the title of its document."""
    rows = [
        {"id": country, "question": ASKED.format(country), "answers": [capital], "titles": [country]}
        for country, capital in CAPITALS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_model(folder: Path, *, chat: bool) -> str:
    """A random model with a tokenizer of bytes, as a folder."""
    model = tiny_model("llama", vocab_size=BYTE_VOCABULARY, max_position_embeddings=2048, dtype=torch.float32)
    model.save_pretrained(folder)
    byte_tokenizer(chat=chat).save_pretrained(folder)
    return str(folder)


class _Reader(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = "\n".join(message["content"] for message in body["messages"])
        self.server.prompts.append(prompt)  # type: ignore[attr-defined]
        if len(self.server.prompts) > self.server.patience:  # type: ignore[attr-defined]
            self.send_error(400, "no more")
            return
        text = _read(prompt)
        self.send_response(200)
        if body.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for piece in [*re.findall(r"\s*\S+", text), None]:
                delta, finish = ({"content": piece}, None) if piece else ({}, "stop")
                event = json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]})
                self.wfile.write(f"data: {event}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")
            return
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        reply = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7}}).encode()
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


def _read(prompt: str) -> str:
    country = prompt.rpartition("capital of ")[2].partition("?")[0]
    told = re.search(rf"The capital of {country} is (\w+)\.", prompt)
    return f"The capital of {country} is {told[1]}. That is all." if told else "I do not know."


@contextmanager
def reading_server(patience: int = 10_000) -> Iterator[tuple[str, list[str]]]:
    """The server's model reference and the prompts it was sent. patience: requests before it refuses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Reader)
    server.prompts, server.patience = [], patience  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}#reader", server.prompts  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
