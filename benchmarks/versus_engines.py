"""The engines to compare with, and the configurations that the first round tries.

A list of pairs rather than all of them: a choice of the vision tower does not change the speed of
the decoder, so every pair measures one of each.
"""

from __future__ import annotations

import versus_llama_build as llama_build
from versus_peers import Configuration, Peer

TORCH = "torch==2.13.0"

SPIN = {"KMP_BLOCKTIME": "200", "GOMP_SPINCOUNT": "30000000"}  # 0.2 s, less than QUIET_S
SLEEP = {"OMP_WAIT_POLICY": "passive"}
LLAMA_PROCESSES = {
    f"{build}, {wait}": {**llama_build.variables(build), **variables}
    for build in llama_build.BUILDS
    for wait, variables in (("spins", SPIN), ("sleeps", SLEEP))
}
LLAMA_VISIONS = {
    f"{kind}{text}": {"vision": kind, "vision_flash": flash}
    for kind in ("f16", "bf16", "q8_0")
    for text, flash in ((" flash", "yes"), ("", "no"))
}
LLAMA_DECODERS = {
    f"{text}{flash_text}{map_text}": {"repack": repack, "flash": flash, "map": mapped}
    for text, repack in (("repacked", "yes"), ("as stored", "no"))
    for flash_text, flash in ((" flash", "yes"), ("", "no"))
    for map_text, mapped in (("", "yes"), (" read", "no"))
}
LLAMA = Peer(
    "llama.cpp",
    "versus_llama.py",
    "llama.cpp",
    llama_build.INSTALLS,
    llama_build.build_llama,
    LLAMA_PROCESSES,
    LLAMA_VISIONS,
    LLAMA_DECODERS,
    (
        Configuration("clang, spins", "f16 flash", "repacked flash"),
        Configuration("clang, spins", "bf16 flash", "as stored flash"),
        Configuration("clang without AMX, spins", "q8_0 flash", "repacked flash"),
        Configuration("clang without AMX, spins", "bf16", "repacked"),
        Configuration("clang without AMX, sleeps", "bf16 flash", "repacked flash"),
        Configuration("gcc without AMX, spins", "bf16 flash", "repacked flash"),
        Configuration("gcc without AMX, spins", "q8_0", "repacked flash read"),
        Configuration("gcc without AMX, sleeps", "q8_0 flash", "repacked flash"),
        Configuration("gcc, spins", "bf16 flash", "repacked flash"),
    ),
)

HINTS = ("bf16", "f16", "f32")
OPENVINO = Peer(
    "openvino",
    "versus_openvino.py",
    "openvino",
    ((TORCH,), ("numpy", "openvino", "nncf")),
    visions={
        f"{weights} in {hint}": {"vision": weights, "vision_hint": hint}
        for weights in ("int8", "f16", "int8 static")
        for hint in HINTS
    },
    decoders={
        f"int4 in {hint}, cache {cache}, groups of {group}": {
            "hint": hint,
            "cache": cache,
            "group": group,
        }
        for hint in HINTS
        for cache in ("u8", *HINTS)
        for group in ("0", "32", "128")
    },
    tried=(
        Configuration("", "int8 in bf16", "int4 in bf16, cache u8, groups of 32"),
        Configuration("", "int8 static in bf16", "int4 in bf16, cache bf16, groups of 0"),
        Configuration("", "int8 in f32", "int4 in f32, cache u8, groups of 32"),
        Configuration("", "f16 in bf16", "int4 in bf16, cache u8, groups of 128"),
        Configuration("", "int8 static in f32", "int4 in f32, cache f16, groups of 32"),
        Configuration("", "f16 in f16", "int4 in f16, cache f16, groups of 32"),
    ),
)

MODES = tuple(f"{dtype} {mode}" for dtype in ("bf16", "f32") for mode in ("eager", "compiled"))
PYTORCH = Peer(
    "torch",
    "versus_torch.py",
    "torch",
    ((TORCH,), ("numpy", "transformers")),
    processes={"": {"TORCHINDUCTOR_CACHE_DIR": "{root}/inductor"}},
    visions={name: {"vision": name} for name in MODES},
    decoders={name: {"decoder": name} for name in MODES},
    tried=tuple(Configuration("", name, name) for name in MODES),
)

ONNX = Peer(
    "onnxruntime",
    "versus_onnx.py",
    "onnxruntime",
    (("numpy", "onnx", "onnxruntime", "onnxruntime-genai"),),
    decoders={"spins": {"spin": "1"}, "sleeps": {"spin": "0"}},
    tried=(Configuration("", "", "spins"), Configuration("", "", "sleeps")),
)

# Peers that need much memory to build their models come first.
PEERS = {peer.name: peer for peer in (OPENVINO, ONNX, LLAMA, PYTORCH)}
