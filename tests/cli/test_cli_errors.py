"""Each error class has its exit code, one line of text and one JSON object."""

import errno
import signal
import subprocess
import sys
from typing import Any

import pytest

from handglass.cli import main
from handglass.cli.errors import explain
from handglass.errors import DeviceError, HandglassError, InputError, MismatchError, UsageError

FAILURES = [
    (UsageError("no such flag value"), "usage", 2),
    (InputError("cat.jpg: not a picture"), "input", 3),
    (DeviceError("no runtime library"), "device", 4),
    (MismatchError("lib.so: wrong sha256"), "mismatch", 5),
    (MemoryError(), "device", 4),
    (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "input", 3),
    (OSError(errno.ENOSPC, "No space left on device", "/x"), "device", 4),
    (HandglassError("unclassified"), "internal", 70),
    (ZeroDivisionError("division by zero"), "internal", 70),
    (OSError("nameless"), "internal", 70),
]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken() -> list[Any]:
        raise error

    monkeypatch.setattr("handglass.cli.doctor.all_checks", broken)


@pytest.mark.parametrize(("error", "kind", "code"), FAILURES, ids=lambda value: str(value)[:20])
def test_class_and_exit_code(
    error: Exception, kind: str, code: int, handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, error)
    result = handglass("doctor")
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert "Traceback" not in result.err
    as_json = handglass("doctor", "--json")
    assert as_json.code == code
    assert as_json.json["error"]["kind"] == kind
    assert as_json.json["error"]["exit_code"] == code
    assert as_json.json["error"]["message"] == explain(error).message


def test_internal_error_says_how_to_report(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division by zero"))
    result = handglass("doctor")
    assert "ZeroDivisionError: division by zero" in result.err
    assert "handglass --debug" in result.err


@pytest.mark.parametrize("as_variable", [True, False])
def test_debug_shows_the_traceback(
    as_variable: bool, handglass: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, InputError("bad"))
    if as_variable:
        monkeypatch.setenv("HANDGLASS_DEBUG", "1")
    result = handglass("doctor") if as_variable else handglass("--debug", "doctor")
    assert result.code == 3
    assert "Traceback" in result.err
    assert "test_cli_errors.py" in result.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["runn"], "No such command 'runn'"),
        (["run"], "Missing option '--model'"),
        (["targets", "--bogus"], "No such option: --bogus"),
        (["compile", "-m", "a", "-o", "b", "-c", "0"], "(given: '0')"),
        (["compile", "-m", "a", "-o", "b", "--context=no"], "(given: 'no')"),
        (["run", "-m", "b", "-p", "hi", "--temp", "warm"], "(given: 'warm')"),
        (["run", "-m", "b", "-p", "hi", "-n", "1", "-n", "many"], "(given: 'many')"),
    ],
)
def test_usage_errors(arguments: list[str], text: str, handglass: Any) -> None:
    result = handglass(*arguments)
    assert result.code == 2
    assert text in result.err
    as_json = handglass(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.json["error"]["kind"] == "usage"


def test_interrupt_is_clean(handglass: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    result = handglass("doctor")
    assert (result.code, result.out, result.err.strip()) == (130, "", "interrupted")


SLEEPER = """
import sys, time
from handglass.cli import doctor, main
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
doctor.all_checks = wait
sys.argv = ["handglass", "doctor"]
main.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_run_the_cleanup(number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", SLEEPER]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:  # type: ignore[call-overload]
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert out == "cleaned up\n"
    assert "Traceback" not in err


def test_closed_pipe_is_quiet() -> None:
    command = (
        f"{sys.executable} -m handglass.cli.main targets --json | true; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("141", "0")  # 0: all output fit before the pipe was closed
    assert done.stderr == ""


def test_output_to_a_closed_pipe(monkeypatch: pytest.MonkeyPatch, handglass: Any) -> None:
    def closed() -> list[Any]:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("handglass.cli.doctor.all_checks", closed)
    monkeypatch.setattr(main, "broken_pipe", lambda: 141)  # the original closes pytest's stdout
    result = handglass("doctor")
    assert (result.code, result.err) == (141, "")
