"""A server model against a real HTTP server on this machine, which also fails, stalls, streams and cuts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from cases.scripted_server import HELLO, Handler, Server, answer, failing, scripted_server

from glassworks.errors import OptionError, ServerError
from glassworks.foundations.generation import Sampling, ServerModel, open_language_model


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("GLASSWORKS_API_KEY", raising=False)
    with scripted_server() as server:
        yield server


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
    running, seen = [], []

    def slow(handler: Handler) -> None:
        running.append(handler)
        seen.append(len(running))
        time.sleep(0.05)
        running.remove(handler)  # before the answer, after which the client may ask again
        answer(handler)

    server.script = [slow] * 12
    ServerModel.open(server.reference, concurrency=3).generate(["x"] * 12)
    assert max(seen) == 3


def test_the_first_failure_cancels_the_rest(server: Server) -> None:
    server.script = [failing(400)]
    with pytest.raises(ServerError, match="prompt 0"):
        ServerModel.open(server.reference, concurrency=1).generate(["x"] * 50)
    assert len(server.requests) < 50


@pytest.mark.parametrize("prompt", ["hello", HELLO])
def test_stream_gives_pieces_and_may_be_closed(server: Server, prompt: Any) -> None:
    model = ServerModel.open(server.reference)
    pieces = list(model.stream(prompt))
    assert "".join(pieces) == "echo: hello"
    assert len(pieces) == len("echo: hello")
    stream = model.stream(prompt)
    next(stream)
    stream.close()


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
