"""What `handglass doctor BUNDLE` looks at: whether this machine can run it, and then one question.

The question is asked in a child process, so that a crash of compiled code is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from .checks import Check
from .output import size_text

if TYPE_CHECKING:
    from handglass.runtime.bundle.reader import Bundle

ASK = """
import sys
from handglass.errors import HandglassError
from handglass.runtime.answer.model import Model
try:
    Model.load(sys.argv[1], device=(sys.argv + [None])[2]).chat("Hello", max_tokens=2)
except HandglassError as error:
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)
"""


def bundle_checks(bundle: Bundle, device: str | None, gpu: Sequence[Check]) -> list[Check]:
    """`gpu` are those of the device that it is to run on, where that is one."""
    size = sum(entry.size for entry in bundle.manifest.files.values())
    found = [
        Check("bundle", f"{bundle.path}: {size_text(size)}, every file as the manifest says", True),
        floor_check(bundle),
        *(version_check(bundle, name, package) for name, package in PACKAGES.items()),
        memory_check(bundle),
        *gpu,
    ]
    sound = all(check.ok is not False for check in found)
    return [*found, question_check(bundle, device, sound)]


PACKAGES = {"tvm_ffi": "apache-tvm-ffi", "tvm": "apache-tvm"}


def floor_check(bundle: Bundle) -> Check:
    """Without an instruction of the floor the code ends with SIGILL, so nobody tries."""
    from handglass.errors import DeviceError
    from handglass.runtime.bundle.requirements import check_target
    from handglass.runtime.system.machine import this_machine

    target = bundle.manifest.target
    try:
        check_target(target, *this_machine())
    except DeviceError as error:
        return Check("instruction floor", f"not met (target {target.name})", False, str(error))
    promised = " ".join(target.features) or "only the baseline"
    return Check("instruction floor", f"met (target {target.name}): {promised}", True)


def version_check(bundle: Bundle, name: str, package: str) -> Check:
    """A library may come with the bundle; then nothing installed has to fit."""
    from handglass.runtime.bundle.reader import RUNTIME_LIBRARY

    wanted = bundle.manifest.versions.get(name)
    if wanted is None:
        return Check(f"{package} for it", "any version will do", True)
    if name == "tvm" and RUNTIME_LIBRARY in bundle.manifest.files:
        return Check(f"{package} for it", f"{wanted}, in the bundle", True)
    try:
        found = version(package)
    except PackageNotFoundError:
        hint = f"pip install --no-deps {package}=={wanted}, or 'handglass deploy' it here"
        return Check(f"{package} for it", f"not installed, {wanted} is needed", False, hint)
    same = wanted.split(".")[:2] == found.split(".")[:2]
    hint = "" if same else f"pip install --no-deps {package}=={wanted}, or compile again"
    return Check(f"{package} for it", f"{found}, compiled with {wanted}", same, hint)


def memory_check(bundle: Bundle) -> Check:
    from handglass.runtime.system.hardware import read_machine

    need, have = bundle.manifest.resident_bytes, read_machine().memory
    words = f"weights and cache take {size_text(need)}"
    if have is None:
        return Check("memory for it", f"{words}; how much there is is not known")
    hint = "" if need <= have else "compile with fewer bits, a smaller --context or --kv-cache int8"
    return Check("memory for it", f"{words} of {size_text(have)}", need <= have, hint)


def question_check(bundle: Bundle, device: str | None, sound: bool) -> Check:
    from handglass.runtime.system.isolated import run_isolated

    name = "a question"
    if not sound:
        return Check(name, "not tried")
    ended = run_isolated(ASK, str(bundle.path), *([device] if device else []))
    if ended.code == 0:
        return Check(name, "answered", True)
    last = (ended.err.strip().splitlines() or [""])[-1]
    hint = CRASHES.get(ended.words, last)
    return Check(name, f"the process ended with {ended.words}", False, hint)


CRASHES = {
    "SIGILL": "its code has an instruction that this CPU lacks, although the floor in the manifest "
    "is met: compile for a target that fits, see 'handglass targets'",
    "SIGSEGV": "its code or a library crashed; compile it again, and please report it with the "
    "output of 'handglass doctor'",
    "SIGKILL": "the system ended it, for lack of memory as a rule",
}
"""What the end of the process means."""
