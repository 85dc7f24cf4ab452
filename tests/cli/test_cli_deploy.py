"""`handglass deploy` through a real sshd, and with the real wheels."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_device import lock_of, program
from PIL import Image

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
AcceptEnv HANDGLASS_PYTHON
"""
CLIENT = """
Host board
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/user_key
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
    SetEnv HANDGLASS_PYTHON={python}
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The host name of an ssh server started on this machine."""
    ssh = shutil.which("ssh")
    if not (SSHD and ssh):
        pytest.skip("no sshd: apt-get install openssh-server")
    folder = tmp_path / "ssh"
    folder.mkdir()
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", folder / key], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = {"port": port, "folder": folder, "python": sys.executable}
    (folder / "sshd_config").write_text(SERVER.format(**names))
    (folder / "ssh_config").write_text(CLIENT.format(**names))
    program(tmp_path / "bin", "ssh", f'#!/bin/sh\nexec {ssh} -F {folder}/ssh_config "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation directory of a root server
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"])
    wait_for(port)
    yield "board"
    server.terminate()
    server.wait()


def wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("sshd does not listen")


def test_through_a_real_sshd(
    board: str, handglass: Any, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = lock_of(tmp_path / "wheels", monkeypatch)
    there = tmp_path / "a folder; with 'signs'"
    picture = tmp_path / "my picture.png"
    Image.effect_noise((90, 40), 60).save(picture)
    flags = ("--to", f"ssh:{board}:{there}", "--offline", wheels, "--image", picture)
    result = handglass("deploy", small_bundle, *flags, "-p", "What's it?", "--json")
    assert result.code == 0, result.out + result.err
    here = handglass("run", "-m", small_bundle, "--image", picture, "-p", "What's it?", "--json")
    assert result.json["answer"]["tokens"] == here.json["tokens"]
    assert (there / "bundle" / "manifest.json").is_file()
    again = handglass("deploy", small_bundle, *flags)
    assert again.code == 0 and " 0 files sent (0 B)" in again.err
    assert "prefill" in again.err and "on the device: cd " in again.err


def test_errors_have_their_exit_codes(
    handglass: Any, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # a Python that has our packages needs no wheels
    assert handglass("deploy", small_bundle, "--to", "ssh:").code == 2
    assert handglass("deploy", tmp_path, "--to", tmp_path / "out").code == 3
    flags = ("--to", tmp_path / "out", "--offline", tmp_path)
    result = handglass("deploy", small_bundle, *flags)
    assert result.code == 4 and "--offline" in result.err


@pytest.mark.large
@pytest.mark.network
def test_the_real_wheels_and_nothing_else(
    handglass: Any, small_bundle: Path, tmp_path: Path
) -> None:
    """On a Python without any packages, as on a board."""
    result = handglass("deploy", small_bundle, "--to", tmp_path / "there", "-p", "Hello", "--json")
    assert result.code == 0, result.out + result.err
    here = handglass("run", "-m", small_bundle, "-p", "Hello", "--json").json
    assert result.json["answer"]["tokens"] == here["tokens"]
    assert not list((tmp_path / "there").rglob("libtvm_compiler.so"))
    doctor = subprocess.run(
        [tmp_path / "there" / "handglass", "doctor", tmp_path / "there" / "bundle"],
        capture_output=True,
        text=True,
    )
    assert doctor.returncode == 0, doctor.stdout
    assert "answered" in doctor.stdout
