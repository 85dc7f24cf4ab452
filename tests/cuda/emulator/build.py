"""Kernels of a PTX file to files for the machine, made when a kernel is first needed.

The machine is one shared object. A kernel's file lists its instructions by their forms (slots.py),
and those that no kernel had before are compiled together. All are cached by the hash of what they
were made of, of this folder's files and of the compiler's flags. Several processes may ask for the
same: each makes a file of its own and renames it when complete.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MACHINE = ("kernel_file.cc", "memory.cc", "counts.cc", "copies.cc", "warps.cc", "launch.cc")
COMPILER = os.environ.get("CXX", "g++")
FLAGS = (
    *("-std=c++20", "-O3", "-march=native", "-fPIC", "-w"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    "-fwrapv",
)
MOST_SECONDS = 600
"""Processor time for the forms of one kernel: hundreds take some seconds."""
MOST_MEMORY = 4 << 30
"""Bytes of the compiler's address space."""


def command() -> str:
    """A shell's command for this package; its arguments are those of `__main__`."""
    python = f"{shlex.quote(sys.executable)} -S"  # without site, which takes as long as all else
    return f"PYTHONPATH={shlex.quote(str(HERE.parent))} {python} -m emulator"


def cache_folder() -> Path:
    """A folder of this user alone; HANDGLASS_CUDA_EMULATOR_CACHE names another."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    chosen = os.environ.get("HANDGLASS_CUDA_EMULATOR_CACHE")
    folder = Path(chosen or f"{base}/handglass/cuda-emulator")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder}: must belong to this user, and not be writable by others")
    return folder


def keep(ptx: str) -> Path:
    """Put a PTX text into the cache. Returns its path, from which those of its kernels follow."""
    path = cache_folder() / f"{_hash(ptx, '.h', '.cc', '.py')}.ptx"
    if not path.exists():
        unfinished = _unfinished(path)
        unfinished.write_text(ptx, "utf-8")
        unfinished.rename(path)
    return path


def file_of(kept: Path, kernel: str) -> Path:
    """Where the file of a kernel is, or will be. The emulated driver knows this, too."""
    return kept.with_name(f"{kept.stem}-{kernel}.kernel")


def machine() -> Path:
    """The shared object that runs kernels, compiled once."""
    path = cache_folder() / f"machine-{_hash('machine')}.so"
    if not path.exists():
        links = ["-shared", f"-Wl,-soname,{path.name}", f"-I{HERE}", "-x", "c++", "-", "-ldl"]
        _make(path, [COMPILER, *FLAGS, *links], "\n".join(f'#include "{n}"' for n in MACHINE))
    return path


def build(kept: Path, kernel: str) -> Path:
    """The file of a kernel of a kept PTX text, for `load_kernel` of the machine that it names.

    Raises PtxError for unknown PTX, RuntimeError if the compiler fails or exceeds its limits.
    """
    path = file_of(kept, kernel)
    if not path.exists():
        from .translate import translate  # in a process that needs nothing else of it

        (found,) = translate(kept.read_text("utf-8"), kernel).values()
        names = {form: _hash(form) for form in found.forms}
        _compile({name: form for form, name in names.items() if not _form(name).exists()})
        lines = [f"machine {machine().name}", *found.lines(names)]
        unfinished = _unfinished(path)
        unfinished.write_text("\n".join(lines) + "\n", "utf-8")
        unfinished.rename(path)
    return path


def _form(name: str) -> Path:
    """A link to the shared object with this form."""
    return cache_folder() / f"form-{name}.so"


def _compile(forms: Mapping[str, str]) -> None:
    """Forms of instructions by name, into one shared object."""
    if not forms:
        return
    path = cache_folder() / f"forms-{_hash(' '.join(forms))}.so"
    source = "\n".join(_function(*each) for each in forms.items())
    links = ["-x", "c++", "-", "-x", "none", str(machine()), "-Wl,-rpath,$ORIGIN"]
    _make(path, [COMPILER, *FLAGS, "-include", str(prelude()), "-shared", "-s", *links], source)
    for name in forms:
        unfinished = _unfinished(_form(name))
        unfinished.symlink_to(path.name)
        unfinished.rename(_form(name))


def prelude() -> Path:
    """The header of all forms, which is compiled once, too: it takes longer than most forms."""
    header = cache_folder() / f"prelude-{_hash('prelude')}.h"
    compiled = header.with_name(f"{header.name}.gch")
    if not compiled.exists():
        header.write_text(f'#include "{HERE / "matrix.h"}"\n', "utf-8")
        _make(compiled, [COMPILER, *FLAGS, "-x", "c++-header", str(header)])
    return header


def _function(name: str, body: str) -> str:
    parameters = "Warp& w, const u32 m, const u64* const o"
    return f'extern "C" bool form_{name}({parameters}) {{ const u32 (&on)[32] = w.on; {body} }}'


def _hash(text: str, *suffixes: str) -> str:
    """Names what is made of a text and of this folder's files; of those in C++ if compiled."""
    made_of = _environment(*suffixes or (".h", ".cc"))
    return hashlib.sha256(made_of + text.encode()).hexdigest()[:24]


@cache
def _environment(*suffixes: str) -> bytes:
    """Everything that a result depends on, but for its text."""
    files = sorted(path for path in HERE.iterdir() if path.suffix in suffixes)
    found = hashlib.sha256(" ".join((COMPILER, *FLAGS, _cpu())).encode())
    for path in files:
        found.update(path.read_bytes() + b"\0")
    return found.digest()


def _cpu() -> str:
    """What -march=native depends on: a folder may be shared by machines."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _unfinished(path: Path) -> Path:
    """Others never see a file that is not complete."""
    return path.with_name(f"{path.name}-{os.getpid()}.part")


def _make(path: Path, command: Sequence[str], source: str = "") -> None:
    """Run a compiler, which gets limits of time and memory."""
    unfinished = _unfinished(path)
    done = subprocess.run(
        [*command, "-o", str(unfinished)],
        input=source,
        capture_output=True,
        text=True,
        preexec_fn=_limit,
    )
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        why = done.stderr[:2000] or f"exit status {done.returncode}"
        raise RuntimeError(f"{path}: {COMPILER} failed: {why}")
    unfinished.rename(path)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
