"""Kills `compile`, `tune` and the saving of a chat with SIGKILL at random moments.

Each function runs a verb as people do, kills it some times, and returns what was lost: each time,
what was there before must be there, whole, and the next run must go on. soak_all.py calls them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from handglass.errors import HandglassError
from handglass.runtime.answer.saved_conversation import read_conversation
from handglass.runtime.bundle.reader import MANIFEST, Bundle

HANDGLASS = (sys.executable, "-m", "handglass.cli.main")
LONGEST_S = 1800.0
GONE_S = 20.0
"""Seconds in which the helpers of a killed process must have noticed that it is gone."""
CONTEXTS = (96, 128)
"""Of every other bundle, so that the old one and the new one differ."""
MOST_TRIALS = 10_000
SAVES = 40
"""Saves after each answer of a chat."""
MOST_QUESTIONS = 10
"""Of a conversation that is gone on with; a context has an end."""
EDGE_S = 0.02
"""Seconds in which a bundle that is written is about to be put in its place."""


@dataclass
class Killed:
    """`middle`: kills in the middle of the work, or of a file; `lost`: what was found wrong."""

    what: str
    kills: int = 0
    middle: int = 0
    lost: list[str] = field(default_factory=list)

    def check(self, is_right: bool, wrong: str) -> None:
        if not is_right:
            self.lost.append(f"{self.what}: kill {self.kills}: {wrong}")


class Verb:
    """A verb in a session of its own, whose helpers can be looked for when it is dead."""

    def __init__(self, *words: object, talks: bool = False) -> None:
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [*HANDGLASS, *map(str, words)],
            stdin=pipe,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.errors: list[str] = []
        self._reading = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reading.start()

    def _read(self, stream: IO[str] | None) -> None:
        for line in stream or ():
            self.errors.append(line.rstrip("\n"))

    def tell(self, *lines: str) -> None:
        """Write lines to its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write("".join(f"{line}\n" for line in lines))
            self.process.stdin.flush()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def ended(self) -> int:
        """The exit code, once it has ended by itself."""
        code = self.process.wait(LONGEST_S)
        self._close()
        return code

    def _close(self) -> None:
        self._reading.join(GONE_S)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def leaves_nobody(self) -> bool:
        """Whether no process of its session is left soon after it."""
        end = time.monotonic() + GONE_S
        while time.monotonic() < end:
            if not any(session_of(number) == self.process.pid for number in processes()):
                return True
            time.sleep(0.1)
        return False


def processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def session_of(number: int) -> int | None:
    try:
        return os.getsid(number)
    except OSError:
        return None


def wait_until(seen: Callable[[], bool], verb: Verb, seconds: float = LONGEST_S) -> None:
    """Wait for something, at most until the verb ends."""
    end = time.monotonic() + seconds
    while not seen() and verb.runs and time.monotonic() < end:
        time.sleep(0.001)


def kill_compile(checkpoint: Path, folder: Path, kills: int, draw: random.Random) -> Killed:
    """Every other kill is aimed at the moment in which a bundle is put in place of the old one."""
    found, path = Killed("compile"), folder / "bundle"
    old: int | None = None
    seconds = 0.0
    for number in range(kills + 1):
        context = CONTEXTS[number % 2]
        start = time.monotonic()
        verb = Verb(*_compile_words(checkpoint, path, context))
        if number > 0:
            found.kills += 1
            _wait_for_compile(verb, path, number, draw.uniform(0, seconds), draw.random() * EDGE_S)
            found.middle += verb.runs
            verb.kill()
        else:
            code = verb.ended()
            found.check(code == 0, f"the first run ended with {code}: {verb.errors[-1:]}")
            seconds = time.monotonic() - start
        is_done = verb.process.returncode == 0
        old = _check_bundle(found, path, [context] if is_done else [old, context])
    code = Verb(*_compile_words(checkpoint, path, CONTEXTS[0])).ended()
    found.check(code == 0, f"the next run ended with {code}")
    _check_bundle(found, path, [CONTEXTS[0]])
    left = sorted(one.name for one in folder.iterdir())
    found.check(left == [path.name], f"the next run leaves {left}")
    return found


def _compile_words(checkpoint: Path, path: Path, context: int) -> list[object]:
    return ["compile", "-m", checkpoint, "-o", path, "-c", context, "--overwrite"]


def _wait_for_compile(verb: Verb, path: Path, number: int, moment: float, edge: float) -> None:
    if number % 2:
        wait_until(lambda: False, verb, moment)
    else:
        written = f".{path.name}.partial-*/{MANIFEST}"
        wait_until(lambda: any(path.parent.glob(written)), verb)
        time.sleep(edge)


def _check_bundle(found: Killed, path: Path, expected: Sequence[int | None]) -> int | None:
    """The context of the bundle that is there; every file is read and compared with its hash."""
    try:
        context = Bundle.open(path).manifest.state.context
    except HandglassError as error:
        found.check(False, str(error))
        return None
    found.check(context in expected, f"the bundle is of {context} positions, not of {expected}")
    return context


def kill_tune(checkpoint: Path, folder: Path, kills: int, draw: random.Random) -> Killed:
    """No line of the measurements or of the records may be lost or changed."""
    found = Killed("tune")
    words = ["tune", "-m", checkpoint, "--work-dir", folder, "--tasks", 2]
    words += [word for name in _largest_kernels(checkpoint) for word in ("--kernel", name)]
    words += ["--records", folder / "records.jsonl", "--trials"]
    before: dict[str, list[str]] = {}
    first_s = 10.0
    for number in range(kills):
        found.kills += 1
        start = time.monotonic()
        verb = Verb(*words, MOST_TRIALS)
        if number == 0:  # at the first trial, whose moment the others are drawn from
            wait_until(lambda: any(_journals(folder).values()), verb)
            first_s = time.monotonic() - start
        else:
            wait_until(lambda: False, verb, draw.uniform(0, 2 * first_s))
        found.middle += verb.runs
        verb.kill()
        found.check(verb.leaves_nobody(), "processes that it started are still there")
        before = _check_journals(found, folder, before)
    trials = sum(len(lines) for name, lines in before.items() if name.startswith("trials-"))
    last = Verb(*words, trials + 2)
    code = last.ended()
    text = "\n".join(last.errors)
    found.check(code == 0 or "unsteady" in text, f"the next run ended with {code}: {text[-300:]}")
    after = _check_journals(found, folder, before)
    found.check(sum(map(len, after.values())) > trials, "the next run measured nothing")
    return found


def _largest_kernels(checkpoint: Path) -> list[str]:
    """Two, as to time all of a model takes minutes."""
    from handglass.compiler.lowering.tasks import extract_tasks
    from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input

    found = read_tuning_input(checkpoint, CompileOptions())
    tasks = extract_tasks(found.mod, found.target, found.parts)
    products = [task for task in tasks if task.rule.name == "cpu-dot"]
    return [task.name for task in sorted(products, key=lambda task: -task.size)[:2]]


def _journals(folder: Path) -> dict[str, list[str]]:
    """The complete lines of each file."""
    return {path.name: path.read_text().split("\n")[:-1] for path in folder.glob("*.jsonl")}


def _check_journals(
    found: Killed, folder: Path, before: dict[str, list[str]]
) -> dict[str, list[str]]:
    after = _journals(folder)
    for name, lines in before.items():
        found.check(after.get(name, [])[: len(lines)] == lines, f"{name} lost lines")
    for name, lines in after.items():
        cut = sum(not _is_object(line) for line in lines)  # each kill may cut off its last line
        found.check(cut <= found.kills, f"{name} has {cut} lines that cannot be read")
    return after


def _is_object(line: str) -> bool:
    """Whether it is a JSON object, or empty."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return not line


def kill_save(bundle: Path, folder: Path, kills: int, draw: random.Random) -> Killed:
    """The file holds the last conversation whose saving was reported, or the one after it."""
    found, path = Killed("save"), folder / "talk"
    number, seconds = 0, 0.0  # questions in the file, and what SAVES saves take
    for turn in range(kills + 1):
        begins_anew = number >= MOST_QUESTIONS
        verb = _chat(bundle, path, begins_anew)
        start = _save_often(verb, path, 0 if begins_anew else number)
        if turn == 0:
            wait_until(lambda: len(_reported(verb, path)) > SAVES, verb)  # noqa: B023
            seconds = time.monotonic() - start
        else:
            found.kills += 1
            wait_until(lambda: False, verb, draw.uniform(0, seconds))
        verb.kill()
        found.middle += any(folder.glob(f".{path.name}.partial-*"))
        reported = _reported(verb, path)
        number = _check_talk(found, bundle, path, reported[-1] if reported else number)
    last = _chat(bundle, path, begins_anew=False)
    last.tell("Go on.", f"/save {path}", "/exit")
    code = last.ended()
    found.check(code == 0, f"the next run ended with {code}: {last.errors[-1:]}")
    found.check(_reported(last, path) == [number + 1], "the next run does not go on")
    left = sorted(one.name for one in folder.iterdir())
    found.check(left == [path.name], f"the next run leaves {left}")
    return found


def _chat(bundle: Path, path: Path, begins_anew: bool) -> Verb:
    load = ["--load", path] if path.exists() and not begins_anew else []
    return Verb("chat", "-m", bundle, "-n", 2, *load, talks=True)


def _save_often(verb: Verb, path: Path, number: int) -> float:
    """Save after a question, and again and again after a second one. Returns when that began."""
    verb.tell("What is this?", f"/save {path}")
    wait_until(lambda: number + 1 in _reported(verb, path), verb)
    verb.tell("And now?", *[f"/save {path}"] * SAVES)
    return time.monotonic()


def _reported(verb: Verb, path: Path) -> list[int]:
    """The number of questions of each save that was reported."""
    start = f"{path}: saved ("
    lines = [line for line in verb.errors if line.startswith(start)]
    return [int(line.removeprefix(start).split()[0]) for line in lines]


def _check_talk(found: Killed, bundle: Path, path: Path, last: int) -> int:
    """The number of questions in the file, which is read to its end."""
    try:
        manifest = Bundle.open(bundle, "library").manifest
        count = len(read_conversation(path, manifest).turns)
    except HandglassError as error:
        found.check(False, str(error))
        return last
    found.check(count in (last, last + 1), f"{count} questions, but {last} were reported as saved")
    return count
