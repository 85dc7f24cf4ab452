"""Builds and runs the fuzz targets of the native program: python run.py RUNS FOLDER.

Each target is compiled with libFuzzer and the address and undefined-behaviour sanitizers, starts
from a few valid inputs, and runs RUNS times. An input that crashes one is left in FOLDER/NAME.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handglass
from handglass.runtime.system.packages import header_folders

HERE = Path(__file__).parent
NATIVE = Path(handglass.__file__).parents[1] / "runtime" / "native"
READERS = ("json", "fields", "mapping", "lost_pages")
TARGETS = {
    "json": ("json",),
    "safetensors": (*READERS, "safetensors", "tensors"),
    "bundle": (*READERS, "bundle", "manifest", "sha256", "tensors"),
    "request": (*READERS, "request", "manifest", "sha256", "tensors"),
    "frames": (*READERS, "frames"),
    "arguments": (*READERS, "device_arguments", "tensors", "machine", "threads", "cpu_quota"),
    "elf": (*READERS, "elf_library", "elf_segments"),
}
"""The target in this folder -> the files of runtime/native that it tests."""
COMPILER = "clang++-16"  # older ones lack _Float16 on x86
FLAGS = (
    *("-std=c++20", "-g", "-O1", "-fsanitize=fuzzer,address,undefined"),
    "-fno-sanitize-recover=undefined",
    *(f'-DHANDGLASS_{name}="fuzz"' for name in ("VERSION", "TVM", "TVM_FFI")),
)
LIMITS = (
    "-rss_limit_mb=1024",
    "-timeout=20",
    "-max_len=16384",
    "-print_final_stats=0",
    "-verbosity=0",
)
LIBRARY = """
int values[3] = {1, 2, 3};
float scale = 2;
static int hidden = 3;
int *counter = &hidden;
extern float expf(float);
float apply(float x) { return expf(x) * scale + *counter; }
"""


def seeds(name: str, folder: Path) -> list[bytes]:
    """Valid inputs of a target."""
    if name == "elf":
        source, library = folder / "seed.c", folder / "seed.so"
        source.write_text(LIBRARY)
        run(
            COMPILER,
            "-x",
            "c",
            "-shared",
            "-fPIC",
            "-O1",
            "-nostdlib",
            str(source),
            "-o",
            str(library),
        )
        return [library.read_bytes()]
    if name == "safetensors":
        head = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
        text = json.dumps(head).encode()
        return [struct.pack("<Q", len(text)) + text + bytes(24)]
    if name == "frames":
        text = json.dumps({"do": "describe", "seed": 3, "items": [1, 2], "fill": {}}).encode()
        return [struct.pack(f"{order}I", len(text)) + text for order in "<>"]
    tensor = {"shape": [2, 3], "dtype": "float32", "fill": {"kind": "normal", "scale": 1.0}}
    request = {"format": "handglass-request", "version": 1, "max_tokens": 8, "stop": [2]}
    texts: dict[str, list[object]] = {
        "json": [{"a": [1, 2.5, "b\u00e9", None, True, {"c": []}]}],
        "bundle": [manifest()],
        "request": [{**request, "segments": [{"ids": [1, 2, 3]}, {"picture": 0, "tile": 0}]}],
        "arguments": [{"items": [tensor, 3, 2.5], "copies": 2}],
    }
    return [json.dumps(text).encode() for text in texts[name]]


def manifest() -> dict[str, object]:
    """The manifest of the demo model if it is compiled, otherwise only its beginning."""
    for folder in (NATIVE.parents[1] / "build" / "demo",):
        if (folder / "manifest.json").is_file():
            found: dict[str, object] = json.loads((folder / "manifest.json").read_text())
            return found
    return {"format": "handglass", "version": 2, "files": {}, "params": [], "state": {}}


def build(name: str, folder: Path) -> Path:
    import tvm_ffi.libinfo

    library = Path(tvm_ffi.libinfo.find_libtvm_ffi())
    sources = [HERE / f"{name}.cc", *(NATIVE / f"{part}.cc" for part in TARGETS[name])]
    if "threads" in TARGETS[name]:
        sources.append(NATIVE.parent / "threads" / "pool.c")
    include = [NATIVE, NATIVE / "support", NATIVE / "support" / "tvm", HERE]
    include += [Path(path) for path in header_folders("the fuzz targets")]
    program = folder / "target"
    link = [str(library), f"-Wl,-rpath,{library.parent}"]
    paths = [f"-I{path}" for path in include]
    run(COMPILER, *FLAGS, "-w", *paths, *map(str, sources), *link, "-o", str(program))
    return program


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}"[-6000:])


def fuzz(name: str, runs: int, folder: Path) -> str:
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name, folder)):
        (corpus / f"seed-{number}").write_bytes(data)
    program = build(name, folder)
    artifacts = f"-artifact_prefix={folder}/"
    run(str(program), f"-runs={runs}", "-seed=1", artifacts, *LIMITS, str(corpus))
    return f"{name}: {runs} runs, nothing found"


def main() -> None:
    runs, folder = int(sys.argv[1]), Path(sys.argv[2]).resolve()
    with ThreadPoolExecutor(2) as pool:
        for line in pool.map(lambda name: fuzz(name, runs, folder / name), TARGETS):
            print(line, flush=True)


if __name__ == "__main__":
    main()
