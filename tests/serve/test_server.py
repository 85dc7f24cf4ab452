"""The answers of a server process with models that need no compiled code."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

from scripted_model import picture
from serve_fakes import ANSWER, FAKES, THOUGHT
from serve_process import CHAT, RESPONSES, Server, data_url, events, serving, shown


def start(folder: Path, **options: Any) -> Any:
    return serving([FAKES, json.dumps(options)], folder / "log")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start(tmp_path_factory.mktemp("serve"), queue=4, pictures=3) as running:
        yield running


def test_models_and_health(server: Server) -> None:
    models = {entry["id"]: entry for entry in server.get("/v1/models").json["data"]}
    assert set(models) == {"fake", "endless", "random", "thinker"}
    assert models["fake"]["vision"] and not models["fake"]["thinking"]
    assert server.get("/v1/models/thinker").json["thinking"] is True
    assert server.get("/health").json == {"status": "ready"}


def test_an_answer_with_its_usage(server: Server) -> None:
    reply = server.chat("fake", shown(picture(3)))
    assert reply.text == ANSWER
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 4
    assert reply.json["choices"][0]["finish_reason"] == "stop"
    again = server.chat("fake", shown(picture(3)))
    cached = again.json["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == usage["prompt_tokens"] - 1


def test_a_stream_says_the_same(server: Server) -> None:
    body = {"stream_options": {"include_usage": True}}
    chunks = server.stream("fake", shown(picture(4)), **body)
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    assert "".join(d.get("content", "") for d in deltas) == ANSWER
    assert deltas[0]["role"] == "assistant" and deltas[-1] == {}
    assert chunks[-1]["usage"]["completion_tokens"] > 1 and chunks[-1]["choices"] == []
    assert {c["id"] for c in chunks} == {chunks[0]["id"]}


def test_thoughts_are_kept_apart(server: Server) -> None:
    for fields in (
        {"reasoning_effort": "high"},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ):
        message = server.chat("thinker", "What?", **fields).json["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == (THOUGHT, ANSWER)
    chunks = server.stream("thinker", "Why?", enable_thinking=True)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == THOUGHT
    assert "".join(d.get("content", "") for d in deltas) == ANSWER


def test_system_prompts_where_the_model_has_them(server: Server) -> None:
    def ask(model: str, role: str) -> Any:
        messages = [{"role": role, "content": "Be brief."}, {"role": "user", "content": "What?"}]
        return server.post(CHAT, {"model": model, "messages": messages, "enable_thinking": None})

    plain = server.chat("thinker", "What?").json["usage"]["prompt_tokens"]
    for role in ("system", "developer"):
        assert ask("thinker", role).json["usage"]["prompt_tokens"] > plain
    refused = ask("fake", "system")
    assert refused.status == 400 and "'system' is unknown" in refused.error["message"]


def test_pictures_in_any_turn(server: Server) -> None:
    messages = [
        {"role": "user", "content": shown(picture(1), picture(2))},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": [{"type": "text", "text": "And"}]},
        {"role": "user", "content": shown(picture(1), text="this?")},
    ]
    usage = server.post(CHAT, {"model": "fake", "messages": messages}).json["usage"]
    assert usage["prompt_tokens_details"]["image_tokens"] == 12


def test_sampling_stops_and_limits(server: Server) -> None:
    same = [server.chat("random", "x", temperature=1, seed=5, max_tokens=9).text for _ in "ab"]
    assert same[0] == same[1]
    assert same[0] != server.chat("random", "x", temperature=1, seed=6, max_tokens=9).text
    cut = server.chat("endless", "x", max_completion_tokens=3).json
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 3
    assert server.chat("fake", "x", stop=["circle"]).text == "A red "
    assert server.chat("fake", "x", stop="red").text == "A "


def test_log_probabilities(server: Server) -> None:
    content = server.chat("fake", "x", logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]
    entries = content["content"]
    assert b"".join(bytes(e["bytes"]) for e in entries).decode() == ANSWER
    assert all(e["logprob"] == 0 and len(e["top_logprobs"]) == 2 for e in entries)
    chunks = server.stream("fake", "x", logprobs=True)
    found = [c["choices"][0]["logprobs"] for c in chunks]
    tokens = [e["token"] for part in found if part for e in part["content"]]
    assert tokens == [e["token"] for e in entries]


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"type": "json_object"}, None),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "n",
                    "schema": {
                        "type": "object",
                        "properties": {"n": {"enum": [4, 8]}},
                        "required": ["n"],
                        "additionalProperties": False,
                    },
                },
            },
            '{"n": 4}|{"n": 8}',
        ),
        (
            {"type": "grammar", "syntax": "regex", "definition": "[ab]{3}"},
            "aaa|bbb|aab|bba|aba|bab|abb|baa",
        ),
        ({"type": "json_object", "schema": {"enum": ["ja"]}}, '"ja"'),
        ({"type": "grammar", "syntax": "lark", "definition": 'start: "yes" | "no"'}, "yes|no"),
        ({"type": "grammar", "syntax": "gbnf", "definition": 'root ::= "on" | "off"'}, "on|off"),
    ],
)
def test_answers_follow_a_format(server: Server, wanted: Any, pattern: str | None) -> None:
    reply = server.chat("random", "x", response_format=wanted, temperature=1, seed=1, max_tokens=80)
    if pattern is not None:
        assert reply.text in pattern.split("|")
        assert reply.json["choices"][0]["finish_reason"] == "stop"
    elif reply.json["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(reply.text), dict)
    assert reply.text.startswith("{") or pattern


def test_a_format_begins_after_the_thoughts(server: Server) -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "A[a-z ]+\\."}
    reply = server.chat(
        "thinker", "x", response_format=grammar, enable_thinking=True, max_tokens=60
    )
    message = reply.json["choices"][0]["message"]
    assert message["reasoning_content"] == THOUGHT and message["content"].startswith("A")


def test_responses(server: Server) -> None:
    content = [
        {"type": "input_image", "image_url": data_url(picture(5))},
        {"type": "input_text", "text": "What?"},
    ]
    whole = server.post(
        RESPONSES, {"model": "fake", "input": [{"role": "user", "content": content}]}
    )
    assert whole.json["status"] == "completed"
    assert whole.json["output"][0]["content"][0]["text"] == ANSWER
    assert whole.json["usage"]["input_tokens_details"]["image_tokens"] == 4
    cut = server.post(RESPONSES, {"model": "endless", "input": "x", "max_output_tokens": 2}).json
    assert (cut["status"], cut["incomplete_details"]["reason"]) == (
        "incomplete",
        "max_output_tokens",
    )


def test_the_events_of_a_response(server: Server) -> None:
    connection = server.connect()
    body = {"model": "thinker", "input": "x", "reasoning": {"effort": "low"}, "stream": True}
    connection.request("POST", RESPONSES, json.dumps(body), {"Content-Type": "application/json"})
    found = events(connection.getresponse())
    connection.close()
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    names = [e["type"].removeprefix("response.") for e in found]
    once = [n for i, n in enumerate(names) if i == 0 or names[i - 1] != n]
    assert once == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    texts = [item["content"][0]["text"] for item in found[-1]["response"]["output"]]
    assert texts == [THOUGHT, ANSWER]


def test_metrics(server: Server) -> None:
    before = server.metric("tokens_total", model="fake", kind="picture")
    server.chat("fake", shown(picture(77)))
    assert server.metric("tokens_total", model="fake", kind="picture") == before + 4
    assert server.metric("pictures_total", model="fake", rows="encoded") >= 1
    assert server.metric("queue_length") == 0
    assert server.metric("resident_bytes") > 1e6


def test_the_page_or_a_sentence(server: Server) -> None:
    reply = server.get("/")
    assert reply.status == 200 and b"handglass" in reply.data


def test_curl(server: Server, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = {"model": "fake", "messages": [{"role": "user", "content": shown(picture(1))}]}
    (tmp_path / "body").write_text(json.dumps(body))
    words = ["-sS", "-H", "Content-Type: application/json", "-d", f"@{tmp_path / 'body'}"]
    done = subprocess.run(["curl", *words, server.url + CHAT], capture_output=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == ANSWER
