"""Compiling needs no /tmp; a full disk is one line, and nothing is left behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="needs the TVM compiler")
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo-checkpoint"
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


def own_mounts() -> bool:
    """Whether this machine lets a test mount file systems of its own."""
    if shutil.which("unshare") is None:
        return False
    script = "mount -t tmpfs tmpfs /mnt"
    return subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(not own_mounts(), reason="needs mounts of its own")


def with_small_disk(disk: Path, size: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where `disk` is a file system of this size; then list what is on it."""
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "{disk}" && "$@"; code=$?; ls -A "{disk}"; exit $code'
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TMPDIR": str(disk)}
    return subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def compiling(output: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "handglass.cli.main", "compile"),
        *("-m", str(DEMO), "-o", str(output)),
    ]


@needs_mounts
def test_a_full_folder_for_temporary_files_does_not_matter(tmp_path: Path) -> None:
    disk, output = tmp_path / "disk", tmp_path / "bundle"
    disk.mkdir()
    done = with_small_disk(disk, "4k", *compiling(output))
    assert done.returncode == 0, done.stderr
    assert (output / "lib.so").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "disk"]


@needs_mounts
@pytest.mark.parametrize("size", ["8k", "5m"])
def test_a_full_disk_is_one_line(tmp_path: Path, size: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = with_small_disk(disk, size, *compiling(disk / "bundle"))
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 4, done.stderr
    assert len(errors) == 1 and "No space left on device" in errors[0]
    assert str(disk) in errors[0] and done.stderr.endswith(errors[0] + "\n")
    assert done.stdout == ""
