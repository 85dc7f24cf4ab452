"""Many callers of one model: threads, an HTTP server, forks. None hangs or crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from tiny_library import build_library, manifest, write_bundle

ROOT = Path(__file__).parents[2]
START = """
import json, os, sys, threading, time
import handglass
model = handglass.load(sys.argv[1], threads=2)
def ask(text="What is it?", n=9):
    return list(model.chat(text, max_tokens=n).tokens)
def tasks():
    return len(os.listdir("/proc/self/task"))
right = ask()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return write_bundle(folder / "bundle", build_library(folder / "lib.so"), manifest()).path


def run(bundle: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A process with a loaded model, `ask` and the `right` answer; a crash would be its own."""
    command = [sys.executable, "-c", START + textwrap.dedent(code), str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def result(bundle: Path, code: str) -> object:
    done = run(bundle, code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_sixty_threads_get_the_right_answer_and_leave_no_thread(bundle: Path) -> None:
    code = """
    before, answers = tasks(), []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(60)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    end = time.monotonic() + 20  # a joined thread is listed until the kernel has ended it
    while tasks() > before and time.monotonic() < end: time.sleep(0.01)
    print(json.dumps([sum(a == right for a in answers), tasks() - before]))
    """
    assert result(bundle, code) == [60, 0]


def test_threads_that_stream_at_once_each_get_their_own_answer(bundle: Path) -> None:
    code = """
    def stream(text): return "".join(model.chat(text, stream=True, max_tokens=9))
    texts = ["What is it?", "What?", "is it", "a b"] * 5
    alone, answers = {text: model.chat(text, max_tokens=9).text for text in texts}, {}
    def work(n): answers[n] = stream(texts[n])
    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(texts))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(json.dumps([answers[n] == alone[text] for n, text in enumerate(texts)]))
    """
    assert result(bundle, code) == [True] * 20


def test_a_threading_http_server(bundle: Path) -> None:
    code = """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from urllib.request import urlopen
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(ask()).encode())
        def log_message(self, *_): pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = []
    def call(): answers.append(json.load(urlopen(f"http://127.0.0.1:{server.server_port}")))
    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    server.shutdown()
    print(json.dumps(sum(a == right for a in answers)))
    """
    assert result(bundle, code) == 20


def test_a_server_that_forks_after_loading(bundle: Path) -> None:
    """The children share the memory of the parameters and start threads of their own."""
    code = """
    children = []
    for _ in range(4):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps([ask() for _ in range(3)]).encode())
            os._exit(0)
        os.close(write)
        children.append(read)
    answers = [json.loads(os.read(read, 65536)) for read in children]
    print(json.dumps([answers == [[right] * 3] * 4, ask() == right]))
    """
    assert result(bundle, code) == [True, True]


def test_multiprocessing_by_fork(bundle: Path) -> None:
    code = """
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(json.dumps(sum(a == right for a in pool.map(ask, ["What is it?"] * 9))))
    """
    assert result(bundle, code) == 9


def test_an_interrupted_caller_does_not_wait_for_the_step(bundle: Path) -> None:
    """Ctrl-C arrives while a step runs: the caller has it at once, and the process ends."""
    code = """
    import signal
    from handglass.runtime.engine.worker import LAST_STEP_S
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    def endless():
        while True: time.sleep(0.05)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    try:
        model.session.worker.run(endless)
    except KeyboardInterrupt:
        print(json.dumps("interrupted"), flush=True)
    """
    done = run(bundle, code)
    assert (done.returncode, done.stdout) == (130, '"interrupted"\n'), done.stderr


def test_the_command_line_ends_with_the_code_of_the_signal(bundle: Path) -> None:
    code = """
    import signal
    from handglass.cli import main as cli
    def endless():
        while True: time.sleep(0.05)
    def execute(_):
        try:
            model.session.worker.run(endless)
        except SystemExit as ended:
            cli.ended_by()
            return ended.code
    cli.execute = execute
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    cli.main()
    """
    done = run(bundle, code)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, ""), done.stderr


def test_an_error_in_the_thread_is_raised_where_the_caller_waits(bundle: Path) -> None:
    code = """
    from handglass.errors import InputError
    try:
        model.session.embed([10**9])
    except InputError as error:
        print(json.dumps([str(error), ask() == right]))
    """
    seen = result(bundle, code)
    assert isinstance(seen, list)
    assert "1000000000" in seen[0]
    assert seen[1] is True


def test_no_thread_is_pinned_and_idle_ones_sleep(bundle: Path) -> None:
    code = """
    def field(task, name):
        lines = open(f"/proc/self/task/{task}/status").read().splitlines()
        return next(line.split()[1] for line in lines if line.startswith(name + ":"))
    time.sleep(0.5)
    others = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    allowed = {field(task, "Cpus_allowed_list") for task in others}
    print(json.dumps([len(others) >= 1, allowed == {field(os.getpid(), "Cpus_allowed_list")},
                      {field(task, "State") for task in others} == {"S"}]))
    """
    assert result(bundle, code) == [True, True, True]
