"""Standard streams that are closed, full, or in a narrow encoding are ordinary situations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redirected import FULL, ROOT, full
from redirected import shell as redirected
from thinned import thinned
from written_bundle import write


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("streams") / "bundle").path


def shell(
    redirections: str, *arguments: str | bytes, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """The command line, run by a shell with these redirections."""
    return redirected(redirections, "handglass.cli.main", *arguments, **environment)


@full
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_full_output_is_a_device_error(bundle: Path, flags: tuple[str, ...]) -> None:
    done = shell(f">{FULL}", "inspect", str(bundle), *flags)
    assert done.returncode == 4
    assert done.stderr == b"error: standard output: No space left on device\n"


@full
def test_an_error_is_told_though_the_output_is_full(tmp_path: Path) -> None:
    done = shell(f">{FULL}", "inspect", str(tmp_path / "none"), "--json")
    assert done.returncode == 3
    assert b"none" in done.stderr and done.stderr.count(b"\n") == 1


@full
def test_messages_that_cannot_be_written_are_lost_alone(bundle: Path, tmp_path: Path) -> None:
    assert b"lib.so" in shell(f"2>{FULL}", "inspect", str(bundle)).stdout
    assert shell(f"2>{FULL}", "inspect", str(tmp_path / "none")).returncode == 3
    assert shell(f"2>{FULL}", "frob").returncode == 2
    assert shell(f">{FULL} 2>{FULL}", "inspect", str(bundle)).returncode == 4


@pytest.mark.parametrize("closed", thinned(3, ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]))
def test_closed_streams_change_no_exit_code(bundle: Path, tmp_path: Path, closed: str) -> None:
    assert shell(closed, "inspect", str(bundle)).returncode == 0
    assert shell(closed, "inspect", str(tmp_path / "none"), "--json").returncode == 3
    assert shell(closed, "--help").returncode == 0


def test_input_that_cannot_be_read_is_an_input_error() -> None:
    done = shell("0>/dev/null", "run", "-m", "bundle", "-p", "-")
    assert done.returncode == 3
    assert done.stderr == b"error: standard input: Bad file descriptor\n"


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    """A message would be written into it."""
    code = (
        "import os; from handglass.runtime.system.streams import prepare_streams\n"
        "prepare_streams()\n"
        "file = open('/dev/null'); assert file.fileno() > 2; os.write(2, b'x'); print('y')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_encoding_lacks_is_escaped(tmp_path: Path, encoding: str) -> None:
    name = os.fsencode(tmp_path) + b"/\xff \xe4\xbd\xa0"  # not UTF-8, then a Chinese character
    path = os.fsdecode(name)
    text = shell("", "inspect", name, PYTHONIOENCODING=encoding)
    assert text.returncode == 3 and b"\\udcff" in text.stderr
    done = shell("", "inspect", name, "--json", PYTHONIOENCODING=encoding)
    message = json.loads(done.stdout.decode(encoding))["error"]["message"]
    assert done.returncode == 3 and message.startswith(path)
