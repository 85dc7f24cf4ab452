"""Disks that are full or cannot be written: running needs none, compiling reports one line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="needs the TVM compiler")
ROOT = Path(__file__).parents[2]
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


def compiling(checkpoint: Path, output: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "handglass.cli.main", "compile", "--quantization", "f32"),
        *("-m", str(checkpoint), "-o", str(output), "-c", "128"),
    ]


@needs_mounts
@pytest.mark.large
def test_a_full_folder_for_temporary_files_does_not_matter(
    text_checkpoint: Path, tmp_path: Path
) -> None:
    disk, output = tmp_path / "disk", tmp_path / "bundle"
    disk.mkdir()
    done = with_small_disk(disk, "4k", *compiling(text_checkpoint, output))
    assert done.returncode == 0, done.stderr
    assert (output / "lib.so").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "disk"]


@needs_mounts
@pytest.mark.parametrize(
    "size",  # that of the first weights, of all weights and a part of the library, of the library
    ["8k", "1400k", "3m"],
)
@pytest.mark.large
def test_a_full_disk_is_one_line(text_checkpoint: Path, tmp_path: Path, size: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = with_small_disk(disk, size, *compiling(text_checkpoint, disk / "bundle"))
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 4, done.stderr
    assert len(errors) == 1 and "No space left on device" in errors[0]
    assert str(disk) in errors[0] and done.stderr.endswith(errors[0] + "\n")
    assert done.stdout == ""


@needs_mounts
def test_a_bundle_runs_where_nothing_can_be_written(small_bundle: Path, tmp_path: Path) -> None:
    root, picture = tmp_path / "root", ROOT / "examples" / "pictures" / "scene-4132-0.png"
    root.mkdir()
    (tmp_path / "home").mkdir()
    mounting = f'mount --rbind / "{root}" && mount -o remount,ro,bind "{root}"'
    hidden = "for d in /dev/shm /run; do mount -t tmpfs -o ro tmpfs $d; done"
    inside = f'{hidden}; cd "{tmp_path}"; touch home/x && exit 99; exec "$@"'
    script = f"{mounting} && exec chroot {root} sh -c '{inside}' sh \"$@\""
    question = ("-p", "What is it?", "--image", str(picture), "-n", "5")
    command = [sys.executable, "-m", "handglass.cli.main", "run", "-m", str(small_bundle)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", *command, *question],
        capture_output=True,
        text=True,
        env={**environment, "HOME": str(tmp_path / "home")},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Read-only file system" in done.stderr and "decode" in done.stderr
