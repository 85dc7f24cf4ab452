"""The queue: turns between clients, limits, leaving, draining."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import scripted_model

from handglass.runtime.serve.desk import Desk, Ended, Ticket
from handglass.runtime.serve.limits import Limits
from handglass.runtime.serve.refusal import Refusal


class Stream:
    """An answer of a few pieces, which may have to wait for its gate."""

    def __init__(self, gate: threading.Event | None = None, pieces: int = 3) -> None:
        self.gate, self.pieces, self.closed, self.told = gate, pieces, False, 0
        self.answer: Any = None

    def items(self) -> Iterator[str]:
        if self.gate is not None:
            assert self.gate.wait(10)
        for _ in range(self.pieces):
            if self.closed:
                return
            self.told += 1
            yield "piece"
        self.answer = "answer"

    def close(self) -> None:
        self.closed = True


class Ready:
    def __init__(self, stream: Any) -> None:
        self.stream = stream


class Heard:
    """What a client is told."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.over = threading.Event()

    def __call__(self, item: Any) -> None:
        self.items.append(item)
        if isinstance(item, Ended):
            self.over.set()


def enter(desk: Desk, client: str, stream: Any = None) -> tuple[Ticket, Heard]:
    heard = Heard()
    ready: Any = Ready(stream or Stream())
    return desk.enter(ready, client, heard), heard


def wait_until_running(desk: Desk) -> None:
    end = time.monotonic() + 5
    while desk.waiting and time.monotonic() < end:
        time.sleep(0.001)


def blocked(order: list[str] | None = None, **limits: Any) -> tuple[Desk, threading.Event]:
    """A desk whose first answer waits for a gate."""

    def note(ticket: Ticket, ended: Ended, seconds: float) -> None:
        if order is not None:
            order.append(ticket.client)

    desk, gate = Desk(Limits(**limits), note), threading.Event()
    enter(desk, "first", Stream(gate))
    wait_until_running(desk)
    return desk, gate


def test_an_answer_is_told_to_its_client() -> None:
    _, heard = enter(Desk(Limits()), "a")
    assert heard.over.wait(5)
    assert heard.items[:3] == ["piece"] * 3
    assert heard.items[3:] == [Ended("answer")]  # type: ignore[arg-type]


def test_clients_take_turns() -> None:
    order: list[str] = []
    desk, gate = blocked(order, queue=20)
    waiting = [enter(desk, client) for client in ("a", "a", "a", "b", "c", "b")]
    gate.set()
    assert all(heard.over.wait(5) for _, heard in waiting)
    assert order == ["first", "a", "b", "c", "a", "b", "a"]


def test_the_queue_and_the_share_of_a_client_are_limited() -> None:
    desk, gate = blocked(queue=4)
    enter(desk, "a")
    enter(desk, "a")
    with pytest.raises(Refusal, match="of this client") as refused:
        enter(desk, "a")
    assert refused.value.status == 429
    enter(desk, "b")
    enter(desk, "b")
    with pytest.raises(Refusal, match="4 requests are waiting") as refused:
        enter(desk, "c")
    assert refused.value.status == 429 and refused.value.retry_s
    with pytest.raises(Refusal):
        desk.check()
    gate.set()


def test_who_leaves_the_line_is_not_answered() -> None:
    order: list[str] = []
    desk, gate = blocked(order)
    stream = Stream()
    ticket, heard = enter(desk, "a", stream)
    desk.leave(ticket)
    desk.leave(ticket)
    assert desk.waiting == 0
    assert order == ["a"], "it is counted, once"
    _, other = enter(desk, "a")
    gate.set()
    assert other.over.wait(5)
    assert stream.told == 0 and not heard.items


def test_who_leaves_while_answered_ends_it() -> None:
    desk = Desk(Limits())
    gate, stream = threading.Event(), Stream(pieces=10**9)
    stream.gate = gate
    ticket, heard = enter(desk, "a", stream)
    wait_until_running(desk)
    desk.leave(ticket)
    gate.set()
    assert heard.over.wait(5)
    assert heard.items == [Ended()] and stream.told == 0


def test_an_error_of_one_answer_is_told_and_the_next_is_answered() -> None:
    class Broken(Stream):
        def items(self) -> Iterator[str]:
            raise ValueError("broken")

    desk = Desk(Limits())
    _, heard = enter(desk, "a", Broken())
    _, other = enter(desk, "b")
    assert heard.over.wait(5) and other.over.wait(5)
    assert str(heard.items[-1].error) == "broken"
    assert other.items[-1].answer == "answer"


def test_a_draining_desk_answers_those_who_wait_and_nobody_else() -> None:
    desk, gate = blocked()
    _, heard = enter(desk, "a")
    desk.drain()
    with pytest.raises(Refusal) as refused:
        enter(desk, "b")
    assert refused.value.status == 503
    assert desk.is_busy
    gate.set()
    assert heard.over.wait(5)
    end = time.monotonic() + 5
    while desk.is_busy and time.monotonic() < end:
        time.sleep(0.001)
    assert not desk.is_busy


def test_a_model_ends_within_one_token() -> None:
    model: Any = scripted_model.model(scripted_model.TOKENIZER.encode("ha "))
    model.session.step_s = 0.02
    stream = model.chat("x", stream=True, max_tokens=150)
    ready: Any = Ready(stream)
    desk, begun, heard = Desk(Limits()), threading.Event(), Heard()

    def put(item: Any) -> None:
        begun.set()
        heard(item)

    ticket = desk.enter(ready, "a", put)
    assert begun.wait(10)
    steps = len(model.session.decoded)
    desk.leave(ticket)
    assert heard.over.wait(10) and heard.items[-1] == Ended()
    assert len(model.session.decoded) <= steps + 1


def test_pictures_are_not_encoded_for_nobody() -> None:
    model: Any = scripted_model.model(scripted_model.says("Red."))
    stream = model.chat("x", [scripted_model.picture(n) for n in range(5)], stream=True)
    stream.watch(lambda done, total: stream.close() if done == 2 else None)
    assert list(stream) == [] and stream.answer is None
    assert model.session.images == 2
    assert model.chat("x", [scripted_model.picture(0)]).text == "Red."
