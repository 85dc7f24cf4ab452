"""Checks of `handglass doctor BUNDLE`: whether this machine can run it, then one question.

The question runs in a child process, so a crash of compiled code is reported as a failed check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from handglass.runtime.system.packages import installed_version

from .checks import Check
from .output import size_text

if TYPE_CHECKING:
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.bundle.reader import Bundle

ASK = """
import sys
from handglass.errors import HandglassError
from handglass.runtime.system.printable import printable
device = (sys.argv + [None])[2]
try:
    {}
except HandglassError as error:
    print(printable(error), file=sys.stderr)
    raise SystemExit(error.exit_code)
"""


CHAT = """
    from handglass.runtime.answer.model import Model
    Model.load(sys.argv[1], device=device).chat("Hello", max_tokens=2)
""".strip()
ENCODE = """
    from handglass.runtime.search.encoder import Encoder
    import numpy
    encoder = Encoder.load(sys.argv[1], device=device)
    if encoder.reads_texts:
        encoder.text("Hello")
    if encoder.reads_pictures:
        encoder.picture(numpy.zeros((9, 9, 3), numpy.uint8))
""".strip()
APPLY = """
    from handglass.runtime.engine.graph import GraphSession
    import numpy
    session = GraphSession.load(sys.argv[1], device=device)
    session.apply({e.name: numpy.zeros(e.shape, e.dtype) for e in session.graph.inputs})
""".strip()


def trial(manifest: Manifest) -> tuple[str, str, str]:
    """What a bundle is tried with: the name of the check, its code, and the word for success."""
    if manifest.graph is not None:
        return "zeros", APPLY, "applied"
    if manifest.encoders is not None:
        return "one row", ENCODE, "encoded"
    return "a question", CHAT, "answered"


def bundle_checks(bundle: Bundle, device: str | None, gpu: Sequence[Check]) -> list[Check]:
    """Checks of the bundle. `gpu` holds the checks of the GPU that it runs on, if any."""
    size = sum(entry.size for entry in bundle.manifest.files.values())
    checks = [
        Check("bundle", f"{bundle.path}: {size_text(size)}, all files match the manifest", True),
        floor_check(bundle),
        *(version_check(bundle, name, package) for name, package in PACKAGES.items()),
        memory_check(bundle),
        *gpu,
    ]
    sound = all(check.ok is not False for check in checks)
    return [*checks, question_check(bundle, device, sound)]


PACKAGES = {"tvm_ffi": "apache-tvm-ffi", "tvm": "apache-tvm"}


def floor_check(bundle: Bundle) -> Check:
    """Check the required instructions; without one of them the code would end with SIGILL."""
    from handglass.errors import DeviceError
    from handglass.runtime.bundle.requirements import check_target
    from handglass.runtime.system.machine import this_machine

    target = bundle.manifest.target
    try:
        check_target(target, *this_machine())
    except DeviceError as error:
        return Check(
            "required instructions",
            f"missing on this CPU (target {target.name})",
            False,
            str(error),
        )
    promised = " ".join(target.features) or "none beyond the baseline"
    return Check("required instructions", f"present (target {target.name}): {promised}", True)


def version_check(bundle: Bundle, name: str, package: str) -> Check:
    """Check that the installed package fits, unless the bundle contains the library."""
    from handglass.runtime.bundle.reader import RUNTIME_LIBRARY

    wanted = bundle.manifest.versions.get(name)
    if wanted is None:
        return Check(f"{package} for the bundle", "any version", True)
    if name == "tvm" and RUNTIME_LIBRARY in bundle.manifest.files:
        return Check(f"{package} for the bundle", f"{wanted}, in the bundle", True)
    found = installed_version(package)
    if found is None:
        hint = f"pip install --no-deps {package}=={wanted}, or use 'handglass deploy'"
        return Check(f"{package} for the bundle", f"not installed, {wanted} is needed", False, hint)
    same = wanted.split(".")[:2] == found.split(".")[:2]
    hint = "" if same else f"pip install --no-deps {package}=={wanted}, or compile again"
    return Check(
        f"{package} for the bundle",
        f"{found} is installed, the bundle is compiled with {wanted}",
        same,
        hint,
    )


def memory_check(bundle: Bundle) -> Check:
    from handglass.runtime.system.hardware import read_machine

    need, have = bundle.manifest.resident_bytes, read_machine().memory
    text = f"weights and cache take {size_text(need)}"
    if have is None:
        return Check("memory for the bundle", f"{text}; the memory size of this machine is unknown")
    hint = "" if need <= have else bundle.manifest.lighter(have)
    return Check(
        "memory for the bundle", f"{text}, this machine has {size_text(have)}", need <= have, hint
    )


def question_check(bundle: Bundle, device: str | None, sound: bool) -> Check:
    from handglass.runtime.system.isolated import run_isolated

    name, code, done = trial(bundle.manifest)
    if not sound:
        return Check(name, "not run")
    ended = run_isolated(ASK.replace("{}", code), str(bundle.path), *([device] if device else []))
    if ended.code == 0:
        return Check(name, done, True)
    last = (ended.err.strip().splitlines() or [""])[-1]
    hint = CRASHES.get(ended.words, last)
    return Check(name, f"the process ended with {ended.words}", False, hint)


CRASHES = {
    "SIGILL": "the compiled code uses an instruction that this CPU lacks and that the manifest "
    "does not list; compile for another target, see 'handglass targets'",
    "SIGSEGV": "the compiled code or a library crashed; compile the bundle again, and please "
    "report this with the output of 'handglass doctor'",
    "SIGKILL": "the system killed the process, usually for lack of memory",
}
"""Hints by the signal that ended the process."""
