"""Many requests with pictures in flight at once: each is answered, and memory does not grow.

The queue is shorter than the number of requests: the others are refused with status 429, wait as
long as the server says, and try again. Every round shows the same pictures, so its answers must be
those of the first round.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

from soak_serve import CHAT, content, server

ROUNDS = 4
QUEUE = 0.25
"""Places in the queue, as a fraction of the requests."""
HELD_BYTES = 160 << 10
"""Of a request: how many wait at a moment differs, and the allocator keeps what they took."""
LENGTH = 4  # tokens of an answer at most
LONGEST_S = 1200.0
PATIENCE_S = 2.0
"""Longest wait after a 429, so that the soak does not take longer than its answers."""


class Flight:
    """`answers`: by the number of their picture, of the first round."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self.count = port, count
        self._model = self._get("/v1/models")["data"][0]["id"]
        self._lock = threading.Lock()
        self._answers: dict[int, str] = {}
        self.refused = self.answered = 0
        self.lost: list[str] = []
        self.resident: list[int] = []  # bytes after each round
        self.most_waiting = 0

    def fly(self) -> None:
        """One round: all requests are sent at the same moment."""
        together = threading.Barrier(self.count)
        threads = [
            threading.Thread(target=self._ask, args=(number, together))
            for number in range(self.count)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.most_waiting = max(self.most_waiting, int(self._metric("queue_length")))
            time.sleep(0.05)
        self.resident.append(int(self._metric("resident_bytes")))

    def _ask(self, number: int, together: threading.Barrier) -> None:
        body = json.dumps(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": content(number)}],
                "user": str(number),
                "max_tokens": LENGTH,
            }
        )
        together.wait()
        try:
            self._note(number, self._answer(body))
        except Exception as error:  # noqa: BLE001  whatever it is, the answer is lost
            with self._lock:
                self.lost.append(f"in flight: request {number}: {error!r}")

    def _answer(self, body: str) -> str:
        """The text of the answer; a refusal that says when to come back is followed."""
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            connection = self._connect()
            connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = json.loads(response.read())
            connection.close()
            if response.status == 200:
                return str(data["choices"][0]["message"]["content"])
            if response.status != 429 or data["error"]["code"] != "queue_full":
                raise ValueError(f"status {response.status}: {data}")
            with self._lock:
                self.refused += 1
            time.sleep(min(float(response.headers["Retry-After"]), PATIENCE_S))
        raise TimeoutError(f"no answer within {LONGEST_S:g} s")

    def _note(self, number: int, text: str) -> None:
        with self._lock:
            self.answered += 1
            if self._answers.setdefault(number, text) != text:
                self.lost.append(f"in flight: request {number} was answered differently")

    def _metric(self, name: str) -> float:
        connection = self._connect()
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        start = f"handglass_{name} "
        return next(float(line.split()[1]) for line in lines if line.startswith(start))

    def _get(self, path: str) -> Any:
        connection = self._connect()
        connection.request("GET", path)
        data = json.loads(connection.getresponse().read())
        connection.close()
        return data

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONGEST_S)


def flown(bundle: Path, count: int, device: str | None = None) -> Flight:
    """ROUNDS rounds of `count` requests each."""
    queue = max(2, round(count * QUEUE))
    flags = ("--queue", queue, "--timeout", LONGEST_S, "--picture-cache", 1)
    with server(bundle, *flags, device=device) as (process, port):
        flight = Flight(port, count)
        for _ in range(ROUNDS):
            flight.fly()
        process.terminate()
        if (code := process.wait(60)) != 0:
            flight.lost.append(f"in flight: the server ended with {code}")
    return flight
