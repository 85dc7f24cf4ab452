"""Requests that are wrong or meant to harm: each is refused in words, and nothing breaks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import picture_bombs
import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

from scripted_model import picture
from serve_fakes import ANSWER, FAKES
from serve_process import CHAT, RESPONSES, Reply, Server, data_url, serving, shown

from handglass.runtime.serve.limits import BODY_S, UPLOADS

USER = {"role": "user", "content": "x"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = {"pictures": 2, "body_bytes": 2 << 20, "cors": ["https://friend.example"]}
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving([FAKES, json.dumps(options)], log) as running:
        yield running
        assert running.chat("fake", "x").text == ANSWER, "it still answers"
    assert "Traceback" not in log.read_text()


def check_error(
    reply: Reply, status: int, param: str | None = None, code: str | None = None
) -> str:
    assert reply.status == status, reply.data
    assert set(reply.error) == {"message", "type", "param", "code"}
    if param is not None:
        assert reply.error["param"] == param
    if code is not None:
        assert reply.error["code"] == code
    return str(reply.error["message"])


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'{"model": "fake"', b"\xff\xfe", b'{"a": NaN}', b"[" * 5000,
     b'{"a": 1, "a": 2}', b'{"n": 1' + b"0" * 400 + b"}", b'"' + b"x" * 100000, b"null"],
)  # fmt: skip
def test_bodies_that_are_no_questions(server: Server, body: bytes) -> None:
    check_error(server.post(CHAT, body), 400)
    check_error(server.post(RESPONSES, body), 400)


def test_a_body_of_many_small_things_is_not_unpacked(server: Server) -> None:
    assert "items" in check_error(server.post(CHAT, b"[" + b"[]," * 300_000 + b"[]]"), 400)


def test_a_body_that_is_too_large(server: Server) -> None:
    check_error(server.post(CHAT, b" " * (3 << 20)), 413, code="body_too_large")
    connection = server.connect()
    connection.putrequest("POST", CHAT)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(1 << 40))  # which never comes
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_of_unknown_length_is_bounded_too(server: Server) -> None:
    connection = server.connect()
    parts = (b" " * (1 << 18) for _ in range(12))
    headers = {"Content-Type": "application/json"}
    connection.request("POST", CHAT, parts, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_other_content_types_would_need_no_preflight(server: Server) -> None:
    body = json.dumps({"model": "fake", "messages": [USER]}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        check_error(server.post(CHAT, body, **{"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": -5}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"schema": {}}}, "response_format.type"),
        ({"response_format": {"type": "text", "pattern": "a"}}, "response_format.pattern"),
        ({"response_format": {"type": "grammar", "definition": "start: x"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"stream": "yes"}, "stream"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"surprise": 1}, "surprise"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{**USER, "magic": 1}]}, "messages[0].magic"),
        ({"messages": [{**USER, "content": [{"type": "audio"}]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_followed(server: Server, fields: Any, param: str) -> None:
    body = {"model": "fake", "messages": [USER], **fields}
    assert check_error(server.post(CHAT, body), 400, param)


def test_harmless_fields_are_ignored(server: Server) -> None:
    fields: Any = {"n": 1, "user": "me", "metadata": {"a": "b"}, "store": False, "tools": []}
    more: Any = {"frequency_penalty": 0, "tool_choice": "auto", "logit_bias": {}, "top_k": None}
    assert server.chat("fake", "x", **fields, **more).text == ANSWER


def test_thinking_where_the_model_cannot(server: Server) -> None:
    assert "no thinking mode" in check_error(server.chat("fake", "x", enable_thinking=True), 400)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "x"}],
        [USER, {"role": "assistant", "content": "y"}],
        [{"role": "user", "content": ""}],
        [USER, {"role": "system", "content": "late"}, USER],
        [{"role": "user", "content": "(<image>./</image>)"}],
        [{"role": "assistant", "content": shown(picture(1))}, USER],
    ],
)
def test_conversations_that_are_none(server: Server, messages: Any) -> None:
    check_error(server.post(CHAT, {"model": "fake", "messages": messages}), 400)


def test_too_much_text(server: Server) -> None:
    code = "context_length_exceeded"
    check_error(server.chat("fake", "word " * 2000), 400, "messages", code)
    check_error(server.chat("fake", "x" * 1_000_000), 400, "messages", code)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png;base64,!!!!", "invalid_base64"),
        ("data:image/png;base64,AAA", "invalid_base64"),
        ("data:image/png;base64,", "invalid_image"),
        ("data:image/png;base64,\u00e9", "invalid_base64"),
        ("data:text/html;base64,AAAA", "invalid_image_url"),
        ("data:,x", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("/etc/passwd", "invalid_image_url"),
        ("http://127.0.0.1/", "invalid_image_url"),
        ("http://169.254.169.254/latest/meta-data", "invalid_image_url"),
        ("https://[::1]/a.png", "invalid_image_url"),
    ],
)
def test_urls_that_show_no_picture(server: Server, url: str, code: str) -> None:
    param = "messages[0].content[0].image_url.url"
    message = check_error(server.chat("fake", shown(url)), 400, param, code)
    assert "root:" not in message


def test_bombs_as_pictures(server: Server) -> None:
    before = server.metric("peak_resident_bytes")
    bombs = [
        picture_bombs.png(30000, 30000, bits=1, colour=0),
        picture_bombs.encoded(picture(1), "PNG")[:60],
        b"GIF89a" + b"\xff" * 1000,
        b"not a picture",
    ]
    for data in bombs:
        check_error(server.chat("fake", shown(data_url(data))), 400, code="invalid_image")
    assert server.metric("peak_resident_bytes") - before < 300e6


def test_too_many_pictures(server: Server) -> None:
    assert "limit" in check_error(server.chat("fake", shown(*map(picture, range(3)))), 400)


def test_names_and_paths_that_do_not_exist(server: Server) -> None:
    check_error(server.chat("gpt-5", "x"), 404, "model", "model_not_found")
    check_error(server.get("/v1/models/gpt-5"), 404, "model", "model_not_found")
    check_error(server.get("/v1/files"), 404, code="unknown_url")
    check_error(server.get(CHAT), 405, code="unknown_url")
    check_error(server.get("/../../etc/passwd"), 404)
    vector = server.post("/v1/embeddings", {"model": "fake", "input": "x"})
    assert "encode_text" in check_error(vector, 400, code="unsupported_capability")


def test_responses_that_need_a_memory(server: Server) -> None:
    for fields in ({"previous_response_id": "resp_1"}, {"conversation": "c"}, {"background": True}):
        (param,) = fields
        check_error(server.post(RESPONSES, {"model": "fake", "input": "x", **fields}), 400, param)


def test_a_page_on_the_internet_cannot_ask(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"
    body = {"model": "fake", "messages": [USER]}
    assert server.post(CHAT, body, Origin=own).status == 200
    check_error(server.post(CHAT, body, Origin="https://evil.example"), 403)
    check_error(server.post(CHAT, body, Host="evil.example"), 421)
    check_error(server.post(CHAT, body, Host=f"evil.example:{server.port}"), 421)
    check_error(server.post(CHAT, body, Origin="null"), 403)


def test_a_page_that_is_allowed_can(server: Server) -> None:
    friend, body = "https://friend.example", {"model": "fake", "messages": [USER]}
    reply = server.post(CHAT, body, Origin=friend)
    assert reply.status == 200 and reply.headers["Access-Control-Allow-Origin"] == friend
    connection = server.connect()
    headers = {"Origin": friend, "Access-Control-Request-Method": "POST"}
    connection.request("OPTIONS", CHAT, None, headers)
    response = connection.getresponse()
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == friend
    connection.close()
    plain = server.get("/health")
    assert plain.headers["Access-Control-Allow-Origin"] is None


def test_slow_bodies_make_nobody_wait(server: Server) -> None:
    slow = [server.connect() for _ in range(UPLOADS)]
    for connection in slow:
        connection.putrequest("POST", CHAT)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")  # which never come
        connection.endheaders()
        connection.send(b"{")
    connection = server.connect(timeout=BODY_S / 4)
    body = json.dumps({"model": "fake", "messages": [USER]})
    connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    for one in (connection, *slow):
        one.close()  # before the bodies are complete, which is no bug of ours
    server.wait_for("requests_total", UPLOADS, path=CHAT, status="499")


def test_bytes_that_are_no_http(server: Server, tmp_path: Path) -> None:
    import socket

    for data in (b"\x16\x03\x01" + bytes(100), b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000):
        with socket.create_connection(("127.0.0.1", server.port), 5) as raw:
            try:
                raw.sendall(data)
                raw.recv(100)
            except OSError:
                pass  # it hung up
