"""Soak test of `handglass serve`: many pictures and tokens, and clients that vanish.

    python benchmarks/soak_serve.py BUNDLE [--pictures 1000] [--tokens 10000] [--device vulkan:0]

Two clients ask the server at once, each with conversations of two turns about a new picture; a
third leaves in the middle of every answer. The server counts pictures, tokens and memory. Prints
one JSON object; the exit code is 1 if memory grew after the first fifth of the pictures, an answer
was lost or differed when it was repeated, a client that left was answered to the end, or the server
did not end with 0 after SIGTERM.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WARM = 0.2
"""Fraction of the pictures after which memory is compared."""
SLACK_BYTES = 8 << 20
EVERY_S = 0.5
"""Between two readings of the metrics."""
CHAT = "/v1/chat/completions"
CACHES = ("encoded_tile_bytes", "prepared_picture_bytes")
"""Bounded caches, whose filling is no growth."""
CACHE_MB = 4
"""Small, so that it is full before memory is compared."""
LENGTH = 24  # tokens of an answer at most
LONG = 400  # of the answer that nobody waits for


def main() -> int:
    options = arguments()
    result = soaked(options.bundle, options.pictures, options.tokens, options.device)
    print(json.dumps(result, indent=1))
    return 0 if result["ok"] else 1


def soaked(bundle: Path, pictures: int, tokens: int, device: str | None = None) -> dict[str, Any]:
    with server(bundle, "--picture-cache", CACHE_MB, device=device) as (process, port):
        soak = Soak(port, pictures, tokens)
        soak.run()
        result = soak.result()
        process.terminate()
        result["exit_code"] = process.wait(60)
    return {**result, "ok": result["ok"] and result["exit_code"] == 0}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=10000)
    return parser.parse_args()


@contextmanager
def server(
    bundle: Path, *flags: object, device: str | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server and its port; it is killed in the end."""
    words = [sys.executable, "-m", "handglass.cli.main", "serve", str(bundle)]
    words += ["--port", "0", "--json", *map(str, flags), *(["--device", device] if device else [])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["port"]
    finally:
        process.kill()
        process.wait()


class Soak:
    def __init__(self, port: int, pictures: int, tokens: int) -> None:
        self.port, self.pictures, self.tokens = port, pictures, tokens
        self.model = self.get("/v1/models")["data"][0]["id"]
        self.readings: list[dict[str, float]] = []
        self.answers = self.lost = self.different = self.left = 0
        self.shown = 0  # pictures, each once
        self.over = threading.Event()
        self.lock = threading.Lock()

    def run(self) -> None:
        start = time.monotonic()
        clients = [(self.talk, "one"), (self.talk, "two"), (self.vanish, "three")]
        threads = [threading.Thread(target=call, args=(name,)) for call, name in clients]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads[:2]):
            self.readings.append(self.metrics())
            if self.is_enough(self.readings[-1]):
                self.over.set()
            time.sleep(EVERY_S)
        self.over.set()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - start

    def is_enough(self, counted: dict[str, float]) -> bool:
        return counted["pictures"] >= self.pictures and counted["tokens"] >= self.tokens

    def talk(self, user: str) -> None:
        """Conversations of two turns about a new picture each; every eighth is repeated."""
        while not self.over.is_set():
            number = self.next_picture()
            first = self.conversation(number, user)
            if number % 8 == 0 and first != self.conversation(number, user):
                self.different += 1

    def conversation(self, number: int, user: str) -> list[str]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": content(number)}]
        answers: list[str] = []
        for question in (None, "How many are there?"):
            if question is not None:
                messages.append({"role": "assistant", "content": answers[-1]})
                messages.append({"role": "user", "content": question})
            answers.append(self.ask(messages, user))
        return answers

    def ask(self, messages: list[dict[str, Any]], user: str) -> str:
        """The answer; waits where the queue is full."""
        body = {"model": self.model, "messages": messages, "user": user, "max_tokens": LENGTH}
        while True:
            status, data = self.post(body)
            if status != 429:
                break
            time.sleep(0.05)
        self.answers += 1
        if status != 200 or not data["choices"][0]["finish_reason"]:
            self.lost += 1
            return ""
        return str(data["choices"][0]["message"]["content"])

    def vanish(self, user: str) -> None:
        """Ask for long answers and leave after their first bytes."""
        rng = random.Random(5)
        while not self.over.is_set():
            messages = [{"role": "user", "content": content(self.next_picture())}]
            body = {"model": self.model, "messages": messages, "user": user, "stream": True}
            connection = self.connect()
            with_limit = json.dumps({**body, "max_tokens": LONG, "temperature": 2})
            connection.request("POST", CHAT, with_limit, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read(rng.randrange(1, 600))
            response.close()
            connection.close()
            self.left += 1
            time.sleep(rng.random() / 4)

    def next_picture(self) -> int:
        with self.lock:
            self.shown += 1
            return self.shown

    def metrics(self) -> dict[str, float]:
        connection = self.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        found = {name.removeprefix("handglass_"): float(value) for name, value in rows}
        total = lambda start, label: sum(  # noqa: E731
            value for name, value in found.items() if name.startswith(start) and label in name
        )
        return {
            "pictures": total("pictures_total", 'rows="encoded"'),
            "tokens": total("tokens_total", 'kind="completion"'),
            "cached": total("tokens_total", 'kind="cached"'),
            "cancelled": total("answers_total", 'ended="cancelled"'),
            "resident": found["resident_bytes"],
            "growing": found["resident_bytes"] - sum(found[name] for name in CACHES),
        }

    def result(self) -> dict[str, Any]:
        last = self.metrics()
        warm = [one for one in self.readings if one["pictures"] < WARM * self.pictures]
        most = max(one["growing"] for one in warm or self.readings[:1])
        grown = max(one["growing"] for one in self.readings) - most
        return {
            "seconds": round(self.seconds, 1),
            "pictures": int(last["pictures"]),
            "tokens": int(last["tokens"]),
            "cached_tokens": int(last["cached"]),
            "answers": self.answers,
            "lost": self.lost,
            "different": self.different,
            "left": self.left,
            "cancelled": int(last["cancelled"]),
            "resident_mb": [round(one["resident"] / 1e6, 1) for one in thinned(self.readings)],
            "grown_mb": round(grown / 1e6, 2),
            "ok": not self.lost
            and not self.different
            and self.is_enough(last)
            and last["cancelled"] > 0
            and grown <= SLACK_BYTES,
        }

    def post(self, body: Any) -> tuple[int, Any]:
        connection = self.connect()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body), headers)
        response = connection.getresponse()
        data = json.loads(response.read())
        connection.close()
        return response.status, data

    def get(self, path: str) -> Any:
        connection = self.connect()
        connection.request("GET", path)
        data = json.loads(connection.getresponse().read())
        connection.close()
        return data

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)


def content(number: int) -> list[dict[str, Any]]:
    """A question about a picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (14, 14, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((150, 150)).save(out, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    question = {"type": "text", "text": "What is this picture?"}
    return [{"type": "image_url", "image_url": {"url": url}}, question]


def thinned(readings: list[dict[str, float]], count: int = 12) -> list[dict[str, float]]:
    step = max(1, len(readings) // count)
    return readings[::step]


if __name__ == "__main__":
    sys.exit(main())
