"""Clients of a server process: those that leave, those that wait, and those that come too late."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

from serve_fakes import ANSWER, FAKES
from serve_process import CHAT, Server, serving


def start(folder: Path, **options: Any) -> Any:
    return serving([FAKES, json.dumps(options)], folder / "log")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("serve"), queue=4) as running:
        yield running


def test_a_client_that_leaves_ends_its_answer(server: Server) -> None:
    """Within one token: the steps of the model are counted."""
    cancelled = server.metric("answers_total", model="endless", ended="cancelled")
    connection = server.open_stream("endless", "x", max_tokens=390)
    connection.getresponse().read(1000)  # a few tokens
    connection.close()
    server.wait_for("answers_total", cancelled + 1, model="endless", ended="cancelled", seconds=3)
    assert server.chat("endless", "y", max_tokens=2).status == 200, "the next one is answered"


def test_a_client_that_leaves_without_a_stream_does_too(server: Server) -> None:
    cancelled = server.metric("answers_total", model="endless", ended="cancelled")
    connection = server.connect()
    messages = [{"role": "user", "content": "z"}]
    body = json.dumps({"model": "endless", "messages": messages, "max_tokens": 390})
    connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
    time.sleep(0.3)
    connection.close()
    server.wait_for("answers_total", cancelled + 1, model="endless", ended="cancelled", seconds=3)


def test_a_full_queue_says_when_to_come_back(server: Server) -> None:
    streams = [server.open_stream("endless", "x", max_tokens=390, user="a")]
    streams[0].getresponse().read(1000)  # it has begun
    streams += [server.open_stream("endless", "x", max_tokens=390, user=u) for u in "abb"]
    server.wait_for("queue_length", 3)
    streams.append(server.open_stream("endless", "x", max_tokens=390, user="c"))
    server.wait_for("queue_length", 4)
    refused = server.chat("fake", "x")
    assert refused.status == 429 and refused.error["code"] == "queue_full"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    for stream in streams:
        stream.close()
    server.wait_for("queue_length", 0)
    server.wait_for("answering", 0)
    assert server.chat("fake", "x").text == ANSWER


def test_one_client_cannot_take_the_whole_queue(server: Server) -> None:
    streams = [server.open_stream("endless", "x", max_tokens=390)]
    streams[0].getresponse().read(1000)  # it has begun
    streams += [server.open_stream("endless", "x", max_tokens=390) for _ in range(2)]
    server.wait_for("queue_length", 2)
    refused = server.chat("fake", "x")
    assert refused.status == 429 and "of this client" in refused.error["message"]
    other = threading.Thread(target=lambda: server.chat("fake", "x", user="other"))
    other.start()
    for stream in streams:
        stream.close()
    other.join(10)
    server.wait_for("answering", 0)


def test_the_time_of_a_request_is_limited(tmp_path: Path) -> None:
    with start(tmp_path, timeout_s=0.5, step_s=0.02) as server:
        late = server.chat("endless", "x", max_tokens=390)
        assert (late.status, late.error["code"]) == (504, "timeout")
        chunks = server.stream("endless", "x", max_tokens=390)
        assert chunks[-1]["error"]["code"] == "timeout"
        server.wait_for("answering", 0, seconds=2)


def test_a_signal_lets_answers_end_and_refuses_new_ones(tmp_path: Path) -> None:
    with start(tmp_path, step_s=0.02) as server:
        running = server.open_stream("endless", "x", max_tokens=60)
        response = running.getresponse()
        first = response.read(1000)
        server.process.terminate()
        end = time.monotonic() + 5
        while server.get("/health").status != 503 and time.monotonic() < end:
            time.sleep(0.02)
        refused = server.chat("fake", "x")
        assert (refused.status, refused.error["code"]) == (503, "draining")
        rest = (first + response.read()).decode()
        assert rest.rstrip().endswith("data: [DONE]") and rest.count("data: ") > 55
        assert server.process.wait(10) == 0
        response.close()
        running.close()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with start(tmp_path, step_s=0.05) as server:
        running = server.open_stream("endless", "x", max_tokens=390)
        response = running.getresponse()
        response.read(1000)
        server.process.terminate()
        time.sleep(0.3)
        began = time.monotonic()
        assert server.end() == 128 + 15
        assert time.monotonic() - began < 2
        response.close()
        running.close()
