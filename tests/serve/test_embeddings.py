"""Rows of texts over HTTP: an encoder behind `handglass serve`, asked with OpenAI's client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_process import Server, bundle_command, serving

from handglass.runtime.serve.embedder import AskedRows, Embedder, Rows
from handglass.runtime.serve.embeddings_body import embeddings, read_embeddings
from handglass.runtime.serve.limits import TEXT_PER_POSITION, TEXTS
from handglass.runtime.serve.refusal import Refusal

PATH = "/v1/embeddings"
LENGTH = 4


class Letters:
    """An encoder whose tokens are letters, and whose row counts them."""

    text_length, text_tokens, texts_cut = LENGTH, 0, 0

    def text(self, text: str) -> np.ndarray:
        self.text_tokens += min(len(text), LENGTH)
        self.texts_cut += len(text) > LENGTH
        return np.array([len(text), 1], np.float32)


def embedder() -> Embedder:
    encoder: Any = Letters()
    return Embedder("letters", encoder, 0)


def test_rows_and_tokens_of_one_request() -> None:
    served = embedder()
    for texts in (("abc", "", "abcd"), ("a",)):
        stream = served.ready(AskedRows("letters", texts)).stream
        assert list(stream.items()) == [] and stream.answer is not None
        assert stream.answer.rows.tolist() == [[len(text), 1] for text in texts]
        assert stream.answer.tokens == sum(map(len, texts))


def test_who_leaves_gets_no_rows() -> None:
    stream = embedder().ready(AskedRows("letters", ("a", "b"))).stream
    stream.close()
    assert list(stream.items()) == [] and stream.answer is None


def test_a_text_that_is_too_long_is_refused_and_not_cut() -> None:
    served = embedder()
    stream = served.ready(AskedRows("letters", ("abcd", "abcde"))).stream
    with pytest.raises(Refusal, match=r"input\[1\] is longer than the 4 tokens"):
        list(stream.items())
    assert stream.answer is None
    with pytest.raises(Refusal, match=r"input\[0\] is longer"):
        served.ready(AskedRows("letters", ("a" * (TEXT_PER_POSITION * LENGTH + 1),)))


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ({"model": "m"}, "input must be"),
    "no texts": ({"model": "m", "input": []}, "input must be"),
    "tokens": ({"model": "m", "input": [1, 2]}, "tokens are not taken"),
    "lists of tokens": ({"model": "m", "input": [[1, 2]]}, "tokens are not taken"),
    "too many": ({"model": "m", "input": ["x"] * (TEXTS + 1)}, "at most 2048"),
    "dimensions": ({"model": "m", "input": "x", "dimensions": 8}, "dimensions"),
    "format": ({"model": "m", "input": "x", "encoding_format": "int8"}, "encoding_format"),
    "unknown": ({"model": "m", "input": "x", "truncate": True}, "'truncate'"),
    "no object": (["x"], "an object"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bodies_that_cannot_be_followed(what: str) -> None:
    body, message = REFUSED[what]
    with pytest.raises(Refusal, match=message) as refused:
        read_embeddings(body)
    assert refused.value.status == 400


def test_rows_are_told_as_numbers_or_packed() -> None:
    rows = Rows(np.array([[0.6, 0.8], [1, 0]], np.float32), 5)
    for packing in ("float", "base64"):
        body = {"model": "m", "input": ["a", "b"], "encoding_format": packing, "user": "me"}
        told = embeddings(read_embeddings(body), rows)
        assert told["usage"] == {"prompt_tokens": 5, "total_tokens": 5} and told["model"] == "m"
        assert [entry["index"] for entry in told["data"]] == [0, 1]
        given = [entry["embedding"] for entry in told["data"]]
        if packing == "base64":
            given = [np.frombuffer(base64.b64decode(row), "<f4").tolist() for row in given]
        np.testing.assert_array_equal(np.array(given, np.float32), rows.rows)


@pytest.fixture(scope="module")
def encoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("tvm", "transformers", "openai", "uvicorn", "llguidance"):
        pytest.importorskip(package)
    from single_checkpoints import sentences

    from handglass.compiler.build import compile_model

    folder = tmp_path_factory.mktemp("encoder")
    sentences(folder / "checkpoint")
    compile_model(folder / "checkpoint", folder / "texts", quantization="f32")
    return folder / "texts"


@pytest.fixture(scope="module")
def server(
    encoder_bundle: Path, small_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A model that answers questions, and an encoder beside it."""
    log = tmp_path_factory.mktemp("serve") / "log"
    command = bundle_command(small_bundle, encoder_bundle, "--threads", 1)
    with serving(command, log) as running:
        yield running
        assert running.end() == 0
    assert "texts (cpu): parameters" in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.compiler
@pytest.mark.slow
def test_the_official_client_gets_the_rows_of_the_encoder(
    server: Server, encoder_bundle: Path
) -> None:
    import openai

    from handglass.runtime.search.encoder import Encoder

    texts = ["two cats", "", "a cat, playing"]
    alone = Encoder.load(encoder_bundle, threads=1)
    expected = np.stack([alone.text(text) for text in texts])
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["bundle", "texts"]
        assert client.models.retrieve("texts").id == "texts"
        packed = client.embeddings.create(model="texts", input=texts)
        plain = client.embeddings.create(model="texts", input=texts[0], encoding_format="float")
        with pytest.raises(openai.BadRequestError, match=r"input\[1\] is longer"):
            client.embeddings.create(model="texts", input=["a", "cat " * 99])
        with pytest.raises(openai.NotFoundError, match="served: bundle, texts"):
            client.embeddings.create(model="other", input="x")
    given = np.array([row.embedding for row in packed.data], np.float32)
    np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(np.array(plain.data[0].embedding, np.float32), expected[0])
    assert packed.usage.prompt_tokens == alone.text_tokens
    assert server.metric("tokens_total", model="texts", kind="prompt") > alone.text_tokens


@pytest.mark.compiler
@pytest.mark.slow
def test_each_is_asked_where_it_answers(server: Server) -> None:
    asked = server.chat("texts", "Hello")
    assert asked.status == 400 and "ask it at /v1/embeddings" in asked.error["message"]
    rows = server.post(PATH, {"model": "bundle", "input": "x"})
    assert rows.status == 400 and rows.error["code"] == "unsupported_capability"
    assert server.chat("bundle", "Hello", max_tokens=2).status == 200


def test_an_encoder_of_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handglass.errors import InputError
    from handglass.runtime.serve import plan

    class Pictures:
        reads_texts = False

    monkeypatch.setattr(plan.Encoder, "load", lambda *_: Pictures())
    with pytest.raises(InputError, match="pictures alone"):
        plan.load_encoder(tmp_path, plan.Options())
