"""A minimal arm64 Debian for QEMU: libc and Python, unpacked without root, debootstrap or binfmt.

apt downloads the packages with separate state, so the machine's state is not modified. The tree is
cached in build/arm and rebuilt when its list of packages changes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "arm"
PYTHON = "3.11"
PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3"),
    *("libbz2-1.0", "liblzma5", "libuuid1", "libcrypt1", "libgomp1", "libsqlite3-0"),
    *(f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", f"python{PYTHON}-minimal"),
)
CONFIGURATION = """
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "1";
Dir::State "{state}";
Dir::State::lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
"""


class MissingToolError(Exception):
    """A tool is not installed; the message says how to install it."""


@dataclass(frozen=True)
class Tree:
    root: Path
    emulator: str

    def python(self, cpu: str, *options: str) -> list[str]:
        """The command of the tree's Python on an emulated `cpu`, with options of the emulator."""
        python = self.root / "usr" / "bin" / f"python{PYTHON}"
        return [self.emulator, *options, "-cpu", cpu, "-L", str(self.root), str(python)]


def arm_tree() -> Tree:
    """The tree, built on first use.

    Raises:
        MissingToolError: A tool or a package is not available.
    """
    emulator = shutil.which("qemu-aarch64")
    if emulator is None:
        raise MissingToolError("no qemu-aarch64: apt-get install qemu-user, or run make test-arm")
    key = hashlib.sha256("\n".join([CONFIGURATION, *PACKAGES]).encode()).hexdigest()[:12]
    root = BUILD / f"tree-{key}"
    if not root.is_dir():
        part = BUILD / f".tree-{key}.part"
        shutil.rmtree(part, ignore_errors=True)
        unpack(download(BUILD / "apt"), part)
        part.rename(root)
    return Tree(root, emulator)


def download(state: Path) -> list[Path]:
    configuration = configured(state)
    for command in (["update"], ["download", *PACKAGES]):
        apt(configuration, state / "debs", *command)
    return sorted((state / "debs").glob("*.deb"))


def configured(state: Path) -> Path:
    """The configuration of an apt for arm64 with a state of its own in the folder `state`."""
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    configuration = state / "apt.conf"
    configuration.write_text(CONFIGURATION.format(state=state))
    return configuration


def apt(configuration: Path, folder: Path, *command: str) -> None:
    if shutil.which("apt-get") is None:
        raise MissingToolError("no apt-get: the arm64 tree consists of Debian packages")
    environment = {"APT_CONFIG": str(configuration), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        ["apt-get", "-qq", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise MissingToolError(f"apt-get {command[0]} for arm64 failed: {done.stderr[-1000:]}")


def unpack(packages: list[Path], root: Path) -> None:
    """Unpack packages. `dpkg -x` would replace the symlink `lib` by a folder, hiding the loader."""
    for name in ("lib", "bin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        into = ["tar", "-x", "-C", str(root), "--keep-directory-symlink"]
        command = ["dpkg-deb", "--fsys-tarfile", str(package)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
            subprocess.run(into, stdin=tar.stdout, check=True)
        assert tar.returncode == 0, package
