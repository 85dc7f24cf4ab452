"""Builds the fuzz targets of the native readers with libFuzzer and sanitizers, and runs them.

    python tests/fuzz_native/run.py [--runs N] [--output FOLDER] [TARGET ...]

Each target starts from small valid inputs (seeds.py). A crash, a sanitizer report, a run of more
than 20 s or 1 GB fails the program; the input is kept in FOLDER/crashes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seeds import write_seeds

from handglass.runtime.system.packages import header_folders
from handglass.targets.linking.native_sources import OURS, POOL, package_folder

HERE = Path(__file__).parent
READERS = ("json", "fields", "mapping", "lost_pages")
TENSORS = (*READERS, "tensors")
TARGETS = {
    "json": READERS,
    "safetensors": (*TENSORS, "safetensors"),
    "bundle": (*TENSORS, "manifest", "vision", "bundle", "sha256"),
    "request": (*TENSORS, "request", "sampler", "random"),
    "frames": (*READERS, "frames"),
    "arguments": (*TENSORS, "device_arguments", "machine", "threads", "cpu_quota"),
    "elf": ("mapping", "lost_pages", "elf_segments", "elf_library"),
}
"""Target -> the sources of the native program that it links."""
COMPILERS = ("clang++", *(f"clang++-{version}" for version in range(30, 14, -1)))
SANITIZERS = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
LIMITS = ("-timeout=20", "-rss_limit_mb=1024", "-max_len=8192", "-print_final_stats=0")
PROBE = 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return _Float16(0); }'


def find_compiler(folder: Path) -> str:
    """The first clang that has libFuzzer and _Float16 (clang 15 or newer)."""
    probe = folder / "probe.cc"
    probe.write_text(PROBE, "utf-8")
    for name in filter(shutil.which, COMPILERS):
        command = [name, *SANITIZERS, str(probe), "-o", str(folder / "probe")]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    sys.exit("error: no clang++ with libFuzzer was found; install clang and libclang-rt-dev")


def build(compiler: str, target: str, folder: Path) -> Path:
    ffi = package_folder("apache-tvm-ffi")
    includes = [f"-isystem{path}" for path in header_folders("the fuzz targets")]
    sources = [HERE / f"{target}.cc", *(OURS / f"{name}.cc" for name in TARGETS[target])]
    library = [f"-L{ffi / 'lib'}", f"-Wl,-rpath,{ffi / 'lib'}", "-ltvm_ffi"]
    program = folder / target
    command = [compiler, "-std=c++20", "-g", "-O1", *SANITIZERS, *includes, f"-I{OURS}"]
    command += [
        '-DHANDGLASS_VERSION="0"',
        '-DHANDGLASS_TVM="0.27.0"',
        '-DHANDGLASS_TVM_FFI="0.1.14"',
    ]
    command += [*map(str, sources), *pool(compiler, target, folder)]
    subprocess.run([*command, *library, "-o", str(program)], check=True)
    return program


def pool(compiler: str, target: str, folder: Path) -> list[str]:
    """The object file of the thread pool, which is C, for the target that links it."""
    if "threads" not in TARGETS[target]:
        return []
    made = folder / "pool.o"
    c = compiler.replace("clang++", "clang")
    subprocess.run([c, "-std=c11", "-g", "-O1", "-c", str(POOL), "-o", str(made)], check=True)
    return [str(made)]


def fuzz(program: Path, corpus: Path, crashes: Path, runs: int) -> bool:
    """Run a target; whether it found nothing."""
    found = corpus.with_name(f"{corpus.name}.found")
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    command = [str(program), f"-runs={runs}", *LIMITS, "-seed=1"]
    command += [f"-artifact_prefix={crashes}/{program.name}-", str(found), str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    last = done.stderr.splitlines()[-1:] or [""]
    print(f"{program.name}: {'ok' if done.returncode == 0 else 'FAILED'}, {last[0]}", flush=True)
    if done.returncode:
        print(done.stderr[-6000:], file=sys.stderr)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--output", type=Path, default=Path("build/fuzz-native"))
    given = parser.parse_args()
    folder = given.output.absolute()
    crashes = folder / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    compiler = find_compiler(folder)
    write_seeds(folder / "seeds", compiler)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as workers:
        programs = list(workers.map(lambda name: build(compiler, name, folder), given.targets))
    clean = [fuzz(p, folder / "seeds" / p.name, crashes, given.runs) for p in programs]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
