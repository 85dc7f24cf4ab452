"""Small valid inputs for the fuzz targets, one folder per target."""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from small_elf import empty_tables

LIBRARY = """
extern void *memcpy(void *, const void *, unsigned long);
extern float expf(float);
int counter = 1;
float scale[4] = {1, 2, 3, 4};
void *values[3] = {&counter, scale, (void *)memcpy};
static void start(void) { ++counter; }
__attribute__((section(".init_array"), used)) static void (*const first)(void) = start;
float run(float x) { memcpy(scale, &x, sizeof x); return expf(scale[counter & 3]); }
"""
LINKING = {
    "gnu": ("-Wl,--hash-style=gnu",),
    "sysv": ("-Wl,--hash-style=sysv", "-Wl,-z,now"),
    "plain": ("-Wl,--hash-style=both", "-Wl,-z,norelro"),
}
REQUEST = {
    "format": "handglass-request",
    "version": 3,
    "pictures": [1, 1],
    "prompt": [[1, 75, 8], {"tile": 0}, [9], {"tile": 1}],
    "positions": [[0, 0, 0], [1, 1, 1]],
    "stop": [2],
    "max_tokens": 5,
    "thinking": False,
    "sampling": {"temp": 0.7, "top_k": 9, "top_p": 0.8, "repeat_penalty": 1.1, "seed": 3},
}
ITEMS = [
    {"shape": [2, 3], "dtype": "float32", "fill": {"kind": "normal", "scale": 1}},
    {"shape": [4], "dtype": "int8", "fill": {"kind": "uniform", "low": -3, "high": 3}},
    {"shape": [4], "dtype": "uint16", "fill": {"kind": "bfloat16", "scale": 2.5}},
    {"shape": [1], "dtype": "float16", "fill": {"kind": "constant", "value": 0.5}},
    {"int": 7},
]


def write_seeds(folder: Path, compiler: str) -> None:
    seeds: Mapping[str, list[bytes]] = {
        "json": [b'[{"a": -1.5e3, "b": [null, true, "\\ud83d\\ude00\\n"]}, "\xc3\xa9", 0]'],
        "safetensors": [safetensors()],
        "bundle": [dumped(manifest()), dumped(manifest() | {"vision": None})],
        "request": [dumped(REQUEST)],
        "frames": [frame({"do": "x", "deadline_s": 1, "seed": 3, "items": [1, 2], "fill": {}})],
        "arguments": [dumped({"items": ITEMS, "copies": 2})],
        "elf": [
            *(library(folder, compiler, flags) for flags in LINKING.values()),
            *empty_tables(platform.machine()).values(),
        ],
    }
    for target, inputs in seeds.items():
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(inputs):
            (place / str(number)).write_bytes(content)


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def safetensors() -> bytes:
    header = dumped(
        {
            "__metadata__": {"a": "b"},
            "x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "y": {"dtype": "I8", "shape": [0], "data_offsets": [16, 16]},
            "z": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
        }
    )
    return struct.pack("<Q", len(header)) + header + bytes(22)


def frame(message: Mapping[str, object]) -> bytes:
    head, payload = dumped({**message, "payload": 3}), b"abc"
    return struct.pack(">I", len(head)) + head + payload


def manifest() -> dict[str, Any]:
    """A manifest for a folder whose lib.so holds "lib"."""
    tensor = {"name": "w", "shape": [4, 4], "dtype": "float32"}
    vision = {"image_size": 56, "patch_size": 14, "query_num": 4, "patches_per_row": 0}
    return {
        "format": "handglass-bundle",
        "version": 2,
        "target": {"name": "t", "triple": "x86_64-linux-gnu", "cpu": "c", "features": ["avx2"]},
        "versions": {"tvm": "0.27.0", "tvm_ffi": "0.1.14"},
        "functions": {
            "embed": {},
            "decode": {"arguments": ["ids", "positions (1, 3) int32", "pos", "state", "params"]},
        },
        "params": [tensor],
        "state": {"tensors": [tensor | {"kind": "recurrent"}], "context": 64},
        "vision": vision
        | {
            "window_levels": 1,
            "slicing": {
                "kind": "grid",
                "parameters": {"resolution": 56, "multiple": 28, "max_slices": 9},
            },
            "positions": {"kind": "floor", "parameters": {"side": 8}},
        },
        "vocab_size": 100,
        "hidden_size": 8,
        "files": {"lib.so": {"sha256": hashlib.sha256(b"lib").hexdigest(), "size": 3}},
    }


def library(folder: Path, compiler: str, flags: tuple[str, ...]) -> bytes:
    """A shared library with relocations, exports and an initialiser."""
    folder.mkdir(parents=True, exist_ok=True)
    source, made = folder / "library.c", folder / "library.so"
    source.write_text(LIBRARY, "utf-8")
    command = [compiler.replace("clang++", "clang"), "-shared", "-fPIC", "-nostdlib", "-Os", "-s"]
    small = ("-Wl,-z,noseparate-code", "-fno-asynchronous-unwind-tables")
    subprocess.run([*command, *small, *flags, str(source), "-o", str(made)], check=True)
    return made.read_bytes()
