"""Deployment of a bundle, from examining the device to its first answer, or to its trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Any

from handglass.errors import DeviceError, UsageError
from handglass.runtime.bundle.reader import MANIFEST, Bundle
from handglass.runtime.system.tilde import check_expanded

from .adb import Adb
from .device import Device, ask_device, check_fits, free_bytes
from .folder import Folder
from .push import Item, Tell, look, push
from .question import first_prompt, native_files, native_question, python_question
from .runtime import Runtime, is_this_machine, missing_packages, python_runtime, unpack
from .ssh import Ssh
from .start import BUNDLE, PACKAGES
from .transport import Transport, run
from .trial import trial


@dataclass
class Deployment:
    """The result of a deployment; `answer` is what `handglass run --json` printed on the device.

    Of a bundle that answers no questions, `trial` has the name and the result of the check with
    which `handglass doctor` tried it there.
    """

    where: str
    folder: str
    target: str
    python: str
    sent: list[str] = field(default_factory=list)
    kept: int = 0
    """Number of files and packages that were already on the device."""
    bytes_sent: int = 0
    answer: dict[str, Any] | None = None
    trial: dict[str, str] | None = None
    command: str = ""
    """The command to run on the device."""
    why_not_run: str = ""


def deploy(
    bundle: Path,
    to: str,
    *,
    prompt: str | None = None,
    images: Sequence[Path] = (),
    python: str | None = None,
    offline: Path | None = None,
    native: Path | None = None,
    tell: Tell = lambda phase, done, total: None,
) -> Deployment:
    """Send missing files to the device, ask one question there and return the answer.

    A bundle that answers no questions is tried instead (trial.py). Raises DeviceError if the device
    cannot be reached or cannot run the bundle, MismatchError if the hash of a file does not match,
    UsageError for what the bundle does not take, or `native` for one that answers no questions.
    Files that have arrived are kept for the next attempt.
    """
    opened = Bundle.open(bundle)
    answers = opened.manifest.answers
    if native and not answers:
        raise UsageError("--native: the program without Python only runs models that answer")
    asked = first_prompt(prompt, images)
    question = python_question(asked, images) if answers else trial(opened.manifest, prompt, images)
    transport = open_transport(to)
    device, why_not = examine(transport, opened)
    runtime = (
        Runtime(files=native_files(native))
        if native
        else python_runtime(transport.where, opened.manifest, device, python, offline)
    )
    target = opened.manifest.target.name
    done = Deployment(transport.where, transport.folder, target, runtime.python)
    with TemporaryDirectory(prefix="handglass-deploy-") as name:
        scratch = Path(name)
        if native:
            question = native_question(bundle, asked, images, scratch)
        send(transport, opened, runtime, question.files, scratch, done, tell)
        done.command = f"cd {quote(transport.folder)} && {question.command}"
        done.why_not_run = why_not
        if not why_not:
            phase = "ask" if answers else "try"
            tell(phase, 0, 1)
            script = f"cd {quote(transport.folder)} && {question.script} < /dev/null"
            result = question.read(transport.where, transport.shell(script))
            done.answer, done.trial = (result, None) if answers else (None, result)
            tell(phase, 1, 1)
    return done


def open_transport(to: str) -> Transport:
    """The transport for the prefix of `to`: ssh:, adb:, or else a folder."""
    kind, colon, rest = to.partition(":")
    if colon and kind == "ssh":
        return Ssh(rest)
    if colon and kind == "adb":
        return Adb(rest)
    if not to:
        raise UsageError("--to: must be a folder, ssh:[USER@]HOST[:PATH] or adb:SERIAL")
    check_expanded(to)
    return Folder(Path(to))


def examine(transport: Transport, bundle: Bundle) -> tuple[Device | None, str]:
    """The device, and why the bundle cannot run there ("" if it can).

    The device is None for a folder that is meant for another machine.
    """
    manifest = bundle.manifest
    if not isinstance(transport, Folder):
        device = ask_device(transport)
        check_fits(transport.where, device, manifest)
        return device, ""
    if not is_this_machine(manifest):
        return None, f"the bundle is for {manifest.target.name}, not for this machine"
    device = ask_device(transport)
    try:
        check_fits(transport.where, device, manifest)
    except DeviceError as error:
        return device, str(error)
    return device, ""


def send(
    transport: Transport,
    bundle: Bundle,
    runtime: Runtime,
    question: Sequence[Item],
    scratch: Path,
    done: Deployment,
    tell: Tell,
) -> None:
    """Send packages, then the bundle. Its manifest is last and marks the bundle complete."""
    packages = missing_packages(transport, runtime.packages)
    archives = {}
    for package in packages:
        archive = scratch / f"{package.folder}.tar.gz"
        package.write(archive)
        archives[package.folder] = Item.of(f"{PACKAGES}/{archive.name}", archive)
    items = [*archives.values(), *runtime.files, *question, *scripts(runtime, scratch)]
    items += bundle_items(bundle)
    there = look(transport, items)
    unpacked = sum(package.size for package in packages)
    check_space(transport, there.bytes_to_send(items) + unpacked)
    done.bytes_sent = there.bytes_to_send(items)
    if items[-1] in there.missing(items):
        run(transport, f"rm -f {quote(f'{transport.folder}/{items[-1].name}')}", "replacing")
    done.sent = push(transport, items[: len(archives)], there, tell, "packages")
    for package in packages:
        unpack(transport, package, archives[package.folder].name)
    done.sent += push(transport, items[len(archives) :], there, tell)
    done.kept = len(items) + len(runtime.packages) - len(packages) - len(done.sent)


def bundle_items(bundle: Bundle) -> list[Item]:
    files = [
        Item(f"{BUNDLE}/{name}", bundle.path / name, entry.sha256)
        for name, entry in bundle.manifest.files.items()
    ]
    return [*files, Item.of(f"{BUNDLE}/{MANIFEST}", bundle.path / MANIFEST)]


def scripts(runtime: Runtime, scratch: Path) -> list[Item]:
    items = []
    for name, text in runtime.scripts.items():
        file = scratch / name
        file.write_text(text, "utf-8")
        items.append(Item.of(name, file, executable=True))
    return items


def check_space(transport: Transport, need: int) -> None:
    """Raise DeviceError before anything is sent if fewer than `need` bytes are free."""
    listed = run(transport, f"df -Pk {quote(transport.folder)}", "checking disk space")
    free = free_bytes(listed.splitlines()[-1])
    if need > free:
        raise DeviceError(
            f"{transport.where}: {free / 1e6:.0f} MB are free in {transport.folder}, "
            f"{need / 1e6:.0f} MB are needed"
        )
