"""Serves models without compiled code, for tests: `python serve_fakes.py '{"step_s": 0.01}'`.

`fake` answers "A red circle."; `endless` writes until it is cut; `random` answers at random;
`thinker` has a system role and thinks when asked to.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from fake_session import FakeSession
from scripted_model import MANIFEST, TOKENIZER, says

from handglass.runtime.answer.model import Model
from handglass.runtime.serve.access import LOCAL, Access
from handglass.runtime.serve.limits import Limits
from handglass.runtime.serve.plan import Started, listen
from handglass.runtime.serve.served import Models
from handglass.runtime.serve.url_fetch import fetcher
from handglass.runtime.serve.web.server import run

FAKES = __file__
ANSWER = "A red circle."
THOUGHT = "It is round."


def model(script: list[int], step_s: float, context: int = 400) -> Model:
    session = FakeSession(TOKENIZER.vocab_size, context, 4, script)
    session.step_s = step_s
    return Model(session, TOKENIZER, MANIFEST, conversations=3)


def thinker() -> Model:
    import test_thoughts

    session = FakeSession(test_thoughts.TOKENIZER.vocab_size, 400, 0)
    session.script = test_thoughts.says(THOUGHT, ANSWER)
    return Model(session, test_thoughts.TOKENIZER, test_thoughts.MODEL, conversations=2)


def models(step_s: float) -> dict[str, Model]:
    return {
        "fake": model(says(ANSWER), 0.0),
        "endless": model(TOKENIZER.encode("ha "), step_s),
        "random": model([], 0.0),
        "thinker": thinker(),
    }


def main(given: dict[str, Any]) -> None:
    step_s, token = given.pop("step_s", 0.01), given.pop("token", None)
    send_buffer = given.pop("send_buffer", None)  # bytes that a socket takes unread
    origins, hosts = given.pop("cors", ()), given.pop("hosts", ())
    limits = Limits(**given, hosts=tuple(hosts))
    access = Access(token, LOCAL, tuple(origins))
    with listen("127.0.0.1", 0) as listener:
        if send_buffer is not None:  # accepted sockets have the same
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        served = Models(models(step_s), limits, fetcher(limits.hosts))
        host, port = listener.getsockname()[:2]
        started = Started(host, port, tuple(entry.name for entry in served))
        run(served, limits, access, listener, lambda: print(started.announcement(True), flush=True))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
