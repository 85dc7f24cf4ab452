"""Pictures in the chat page: how they are shown to a model, and what becomes of large ones."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from page_browser import MODEL, Open, picture
from page_server import PageServer
from PIL import Image

pytestmark = pytest.mark.serve


def pictures_of(request: dict[str, Any]) -> list[Image.Image]:
    """The pictures of the last message, as the server gets them."""
    urls = (part["image_url"]["url"] for part in request["messages"][-1]["content"][:-1])
    data = (url.partition(";base64,")[2] for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in data]


def test_pictures_of_a_question(open_page: Open, fake_server: PageServer, tmp_path: Path) -> None:
    """By file, pasted and dropped; one is taken away again. The next question repeats them."""
    chat = open_page()
    chat.page.set_input_files(
        "#files", [picture(tmp_path), picture(tmp_path, "wide.png", (90, 10))]
    )
    chat.see("#waiting li:nth-child(2)")
    drag = """async ([kind, target]) => {
        const canvas = new OffscreenCanvas(33, 22); canvas.getContext("2d").fillRect(0, 0, 9, 9);
        const file = await canvas.convertToBlob(), data = new DataTransfer();
        data.items.add(new File([file], kind + ".png", {type: "image/png"}));
        const at = document.querySelector(target), way = {bubbles: true, cancelable: true};
        if (kind === "paste")
            at.dispatchEvent(new ClipboardEvent("paste", {...way, clipboardData: data}));
        else for (const name of ["dragenter", "dragover", "drop"])
            at.dispatchEvent(new DragEvent(name, {...way, dataTransfer: data})); }"""
    chat.page.evaluate(drag, ["paste", "#question"])
    chat.see("#waiting li:nth-child(3)")
    chat.page.evaluate(drag, ["drop", "#thread"])
    chat.see("#waiting li:nth-child(4)")
    assert not chat.page.is_visible("#drop")
    chat.page.click("[aria-label='Remove wide.png']")
    chat.answered("Which?")
    assert [image.size for image in pictures_of(fake_server.requests[0])] == [
        (60, 40),
        (33, 22),
        (33, 22),
    ]
    assert chat.page.locator(".question img").count() == 3
    chat.answered("And the first?")
    assert [m["role"] for m in fake_server.requests[1]["messages"]] == ["user", "assistant", "user"]
    assert len(fake_server.requests[1]["messages"][0]["content"]) == 4


def test_only_a_picture_beyond_the_limit_is_made_smaller(
    open_page: Open, fake_server: PageServer, tmp_path: Path
) -> None:
    """Beyond a quarter of what a request may hold, or beyond its share, if there are many."""
    fake_server.models = [{**MODEL, "limits": {"body_bytes": 250_000, "picture_pixels": 10_000}}]
    small = picture(tmp_path, "small.png", (90, 60))
    large = picture(tmp_path, "large.png", (400, 200))
    noise = [tmp_path / f"noise {i}.png" for i in range(4)]  # few pixels, many bytes
    for path in noise:
        Image.frombytes("RGB", (100, 99), os.urandom(29_700)).save(path)
    chat = open_page()
    chat.answered("Look", pictures=[small, large, noise[0]])
    sent = pictures_of(fake_server.requests[0])
    assert [image.size for image in sent] == [(90, 60), (141, 70), (100, 99)]
    assert base64.b64encode(small.read_bytes()).decode() in json.dumps(fake_server.requests[0])
    assert sent[2].format == "JPEG"
    chat.answered("And these?", pictures=noise[1:])
    for request in fake_server.requests:
        assert len(json.dumps(request)) < 250_000


def test_what_is_no_picture_is_said(open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "fake.png"
    path.write_bytes(b"not a picture")
    chat = open_page()
    chat.page.set_input_files("#files", path)
    assert "fake.png cannot be read" in chat.see("#toast").inner_text()


def test_the_camera_takes_a_picture(open_page: Open, fake_server: PageServer) -> None:
    chat = open_page()
    chat.page.click("#open-camera")
    chat.until("document.querySelector('#camera video').videoWidth > 0")
    chat.page.click("#shoot")
    chat.see("#waiting img")
    assert chat.page.evaluate("document.querySelector('#camera video').srcObject") is None
    chat.answered("What do you see?")
    (image,) = pictures_of(fake_server.requests[0])
    assert image.format == "JPEG" and image.width >= 320
