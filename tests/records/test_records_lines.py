"""Files of lines: truncation, a full disk, concurrent writers, and what is read afterwards."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handglass.compiler.records.lines import MAX_LINE, Line, Refused, append_line, read_lines
from handglass.errors import DeviceError, InputError


def read(path: Path) -> list[Line | Refused]:
    return list(read_lines(path))


def test_lines_come_back(tmp_path: Path) -> None:
    path = tmp_path / "made" / "lines.jsonl"
    for text in ("one", "zwei", "三"):
        append_line(path, text)
    assert read(path) == [Line(1, "one"), Line(2, "zwei"), Line(3, "三")]
    assert path.read_bytes() == "one\nzwei\n三\n".encode()


@pytest.mark.parametrize("text", ["two\nlines", "a\rb", "x" * MAX_LINE])
def test_what_would_not_come_back_is_not_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=str(MAX_LINE)):
        append_line(tmp_path / "lines", text)
    append_line(tmp_path / "lines", "y" * (MAX_LINE - 1))
    assert read(tmp_path / "lines") == [Line(1, "y" * (MAX_LINE - 1))]


def test_each_fault_costs_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    torn, zeros = b'{"torn', b"\0" * 40
    path.write_bytes(
        b"one\r\n\n   \n" + b"\xff\xfe\n" + b"a" * (5 * MAX_LINE) + b"\n" + torn + b"\n" + zeros
    )
    first, bad, long, middle, last = read(path)
    assert first == Line(1, "one")
    assert isinstance(bad, Refused) and bad.line == 4 and "UTF-8" in bad.reason
    assert long == Refused(5, f"longer than {MAX_LINE} bytes")
    assert middle == Line(6, '{"torn')
    assert last == Line(7, "\0" * 40)


def test_after_a_torn_line_a_new_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'one\n{"to')
    append_line(path, "two")
    assert read(path) == [Line(1, "one"), Line(2, '{"to'), Line(3, "two")]


def test_an_endless_line_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("wb") as file:
        file.truncate(400 << 20)  # a sparse file of zeros
    append_line(path, "end")
    code = f"""
import resource, sys
from pathlib import Path
from handglass.compiler.records.lines import read_lines
resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))
print(list(read_lines(Path({str(path)!r}))))
"""
    found = run_python(code)
    assert str(MAX_LINE) in found and "Line(number=2, text='end')" in found


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: "):
        read(tmp_path / "nothing")
    with pytest.raises(InputError, match="a folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: .*pipe"):
        read(tmp_path / "pipe")


def test_who_reads_may_append(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "one")
    for line in read_lines(path):
        assert isinstance(line, Line)
        append_line(path, line.text + " more")
    assert read(path) == [Line(1, "one"), Line(2, "one more")]


def run_python(code: str) -> str:
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    return child.stdout


APPEND = """
import sys
from pathlib import Path
from handglass.compiler.records.lines import append_line
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for i in range(count):
    append_line(path, f"{name} {i} " + name * 3000)
    if i == 0:
        print("begun", flush=True)
"""


def appender(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPEND, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    children = [appender(path, name, 150) for name in "ab"]
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    texts = [line.text for line in read(path) if isinstance(line, Line)]
    for name in "ab":
        own = [text for text in texts if text.startswith(name)]
        assert own == [f"{name} {i} " + name * 3000 for i in range(150)]
    assert len(texts) == 300


def test_a_kill_tears_one_line_at_most(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for round_ in range(6):
        child = appender(path, "k", 1_000_000)
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        time.sleep(0.01 * round_)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        append_line(path, f"after {round_}")
    texts = [line.text for line in read(path) if isinstance(line, Line)]
    whole = [t for t in texts if t.startswith("k ") and t.endswith("k" * 3000)]
    after = [text for text in texts if text.startswith("after")]
    assert after == [f"after {i}" for i in range(6)]
    assert len(texts) - len(whole) - len(after) <= 6


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    code = f"""
import resource
from pathlib import Path
from handglass.compiler.records.lines import append_line
from handglass.errors import DeviceError
path = Path({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
append_line(path, "second")
before = path.read_bytes()
try:
    append_line(path, "x" * 2000)  # a part of it would fit
except DeviceError as error:
    print(error)
assert path.read_bytes() == before
append_line(path, "third")
"""
    assert "File too large" in run_python(code)
    assert [line.text for line in read(path) if isinstance(line, Line)] == [
        *("first", "second", "third")
    ]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="file/lines"):
        append_line(tmp_path / "file" / "lines", "one")
