"""A compiled bundle behind `handglass serve`, asked with OpenAI's client, two clients at once."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="compiles a bundle")
pytest.importorskip("openai", reason="the official client")
pytest.importorskip("uvicorn", reason="answers over HTTP: handglass[serve]")
pytest.importorskip("llguidance", reason="answers over HTTP: handglass[serve]")

import openai
from picture_bombs import noise
from serve_process import Server, bundle_command, serving, shown

from handglass.runtime.answer.model import Model

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

TOKEN = "a token of the tests 0123".replace(" ", "-")
LENGTH = 6  # tokens of an answer


@pytest.fixture(scope="module")
def server(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    flags = ["--conversations", 3, "--token-file", token, "--threads", 1]
    with serving(bundle_command(small_bundle, *flags), folder / "log") as running:
        yield running
        assert running.end() == 0
    log = (folder / "log").read_text()
    assert "3 conversations of " in log and "Traceback" not in log


@pytest.fixture(scope="module")
def alone(small_bundle: Path) -> Model:
    return Model.load(small_bundle, threads=1)


def client(server: Server, token: str = TOKEN) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=token, max_retries=0)


def talk(server: Server, pictures: list[Any], questions: list[str]) -> list[str]:
    """The answers of a conversation whose first turn shows the pictures."""
    asking, messages, answers = client(server), list[Any](), list[str]()
    with asking:
        for number, question in enumerate(questions):
            content = shown(*pictures, text=question) if number == 0 else question
            messages.append({"role": "user", "content": content})
            reply = asking.chat.completions.create(
                model="bundle", messages=messages, max_tokens=LENGTH
            )
            answers.append(reply.choices[0].message.content)
            messages.append({"role": "assistant", "content": answers[-1]})
    return answers


def told_alone(model: Model, pictures: list[Any], questions: list[str]) -> list[str]:
    messages, answers = list[Any](), list[str]()
    for number, question in enumerate(questions):
        content: Any = [*pictures, question] if number == 0 else question
        messages.append({"role": "user", "content": content})
        answers.append(model.chat(messages, max_tokens=LENGTH).text)
        messages.append({"role": "assistant", "content": answers[-1]})
    return answers


def test_two_clients_at_once_get_what_they_would_get_alone(server: Server, alone: Model) -> None:
    talks = [([noise(30, 40)], ["What?", "And?"]), ([], ["Who?", "Why?", "So?"])]
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        found[number] = talk(server, *talks[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(talks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == [told_alone(alone, *given) for given in talks]


def test_a_picture_in_common_is_computed_once(server: Server, alone: Model) -> None:
    picture = noise(33, 44)
    with client(server) as asking:
        for number, question in enumerate(["What is it?", "How large?", "What is it?"]):
            content = shown(picture, text=question)
            reply = asking.chat.completions.create(
                model="bundle",
                messages=[{"role": "user", "content": content}],
                max_tokens=LENGTH,
            )
            assert reply.choices[0].message.content == alone.chat([
                {"role": "user", "content": [picture, question]}
            ], max_tokens=LENGTH).text  # fmt: skip
            details = reply.usage.prompt_tokens_details
            assert (details.cached_tokens > details.image_tokens) == (number > 0)


def test_streams_and_responses_of_the_official_client(server: Server, alone: Model) -> None:
    expected = alone.chat("Hello", max_tokens=LENGTH).text
    with client(server) as asking:
        chunks = asking.chat.completions.create(
            model="bundle",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=LENGTH,
            stream=True,
            stream_options={"include_usage": True},
        )
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(pieces) == expected
        whole = asking.responses.create(model="bundle", input="Hello", max_output_tokens=LENGTH)
        assert whole.output_text == expected
        with asking.responses.stream(
            model="bundle", input="Hello", max_output_tokens=LENGTH
        ) as events:
            told = list(events)
        assert "".join(e.delta for e in told if e.type.endswith("text.delta")) == expected
        assert told[-1].type == "response.incomplete", "it is cut"
        assert told[-1].response.output[0].content[0].text == expected


def test_answers_in_a_schema_are_parsed_by_the_official_client(server: Server) -> None:
    import pydantic

    class Seen(pydantic.BaseModel):
        count: int
        red: bool

    with client(server) as asking:
        reply = asking.chat.completions.parse(
            model="bundle",
            messages=[{"role": "user", "content": "What?"}],
            response_format=Seen,
            max_tokens=60,
            temperature=1,
            seed=3,
        )
    assert isinstance(reply.choices[0].message.parsed, Seen)


def test_errors_are_those_that_the_official_client_knows(server: Server) -> None:
    ask = {"model": "bundle", "messages": [{"role": "user", "content": "x"}]}
    stranger = client(server, "another-token-0123456789")
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(**ask)
    with client(server) as asking:
        assert [model.id for model in asking.models.list()] == ["bundle"]
        with pytest.raises(openai.NotFoundError):
            asking.chat.completions.create(**{**ask, "model": "other"})
        with pytest.raises(openai.BadRequestError) as error:
            asking.chat.completions.create(**ask, n=2)
        assert error.value.param == "n"


def test_several_conversations_in_this_process_match_one(small_bundle: Path, alone: Model) -> None:
    """Their states are apart, and what is copied between them is right."""
    several, picture = Model.load(small_bundle, threads=1, conversations=3), noise(30, 40)
    lines = [[], [picture], [picture], []]
    for turn in ("One?", "Two?", "One?"):
        for number, line in enumerate(lines):
            messages = [{"role": "user", "content": [*line, f"{turn}{number % 2}"]}]
            fields: Any = {"max_tokens": LENGTH}
            assert several.chat(messages, **fields).tokens == alone.chat(messages, **fields).tokens
    assert all(several.conversations.held)


def test_what_is_missing_is_said(handglass: Any, small_bundle: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = handglass("serve", small_bundle)
    assert result.code == 2 and "pip install 'handglass[serve]'" in result.err
    assert os.linesep not in result.err.rstrip()
