"""A made-up report: three phases with layers, kernels of every kind, parity, records."""

from __future__ import annotations

from dataclasses import replace

from handglass.runtime.pages.content import (
    FORMAT,
    VERSION,
    About,
    Arrival,
    Content,
    Kernel,
    Layer,
    Measured,
    Memory,
    Parity,
    Part,
    PartKernel,
    Phase,
    Scheduled,
    Spread,
    Stage,
)

READ, FMA, DOT4 = 2.0e10, 1.5e11, 6.0e11


def spread(value: float) -> Spread:
    return Spread(value * 0.95, value, value * 1.08)


def kernel(
    name: str,
    ms: float,
    share: float,
    nbytes: float,
    operations: float,
    limit: str = "read",
    fraction: float = 0.7,
) -> Kernel:
    return Kernel(name, "cpu-dot", 4.0, ms, share, ms * 250, nbytes, operations, limit, fraction)


def phase(name: str, scale: float) -> Phase:
    """Four layers of two kernels between a kernel that only moves data and a large matmul."""
    kernels = (
        kernel("matmul3", 6 * scale, 0.6, 6e7 * scale, 3e9 * scale, "dot4", 0.83),
        kernel("fused_matmul1_add", 3 * scale, 0.3, 4e7 * scale, 6e7 * scale, "read", 0.66),
        kernel("rms_norm", 0.5 * scale, 0.05, 5e6 * scale, 0.0, "read", 0.5),
        kernel("embed", 0.3 * scale, 0.03, 1e6 * scale, 0.0, "read", 0.16),
        Kernel("(virtual machine)", "", 30.0, 0.2 * scale, 0.02, 7.0, None, None, None, None),
    )
    layer = (PartKernel("rms_norm", 4, 0.5 * scale), PartKernel("fused_matmul1_add", 4, 3 * scale))
    parts = (
        Part(1, 0.3 * scale, (0.3 * scale,), (PartKernel("embed", 1, 0.3 * scale),)),
        Part(4, 3.5 * scale, (0.9 * scale, 0.8 * scale, 0.8 * scale, scale), layer),
        Part(1, 6 * scale, (6 * scale,), (PartKernel("matmul3", 1, 6 * scale),)),
    )
    return Phase(name, spread(10 * scale), spread(10.4 * scale), kernels, parts)


def made_up() -> Content:
    limits = {"read": spread(READ), "fma": spread(FMA), "dot4": spread(DOT4)}
    phases = (phase("encode", 9.0), phase("prefill 64", 4.0), phase("decode@127", 1.0))
    return Content(
        format=FORMAT,
        version=VERSION,
        date="2026-11-30",
        revision="0123abc",
        bundle=About(
            model="MiniCPMV 2.0",
            target="host",
            processor="x86_64-linux-gnu, x86-64-v3",
            kind="cpu",
            features=("avx2", "fma"),
            scheme={"language": "w4a8", "vision": "f32"},
            versions={"handglass": "0.1.0"},
            context=128,
            vocabulary=1000,
            tensors=12,
            file_bytes=9_000_000,
            picture="tiles of 56x56 in patches of 14, 4 tokens each",
            functions=("encode_image", "prefill", "decode"),
            layers=(4,),
        ),
        memory=Memory(8_000_000, 1_000_000, 500_000, 60_000_000, 8_000_000_000),
        kernels=(
            Scheduled("matmul3", "cpu-dot", 0.7, "r-1", "AuthenticAMD-25-1"),
            Scheduled("rms_norm", "cpu-rows", 0.05, None, None),
        ),
        parity=Parity(
            True,
            (Stage("weights", 21.5, 20.0, True, None), Stage("logits", 18.2, 12.0, True, 62.0)),
            (Layer("layers.0", 21.5, 20.0, "layers.0.mlp.up_proj.weight"),),
            (
                Arrival("vpm.layers.0", 44.0, 300.0),
                Arrival("llm.layers.0", 300.0, 300.0),
                Arrival("llm.layers.1", 25.0, 66.0),
                Arrival("llm.norm", 19.0, 63.0),
            ),
        ),
        measured=Measured("a processor, 2 cores", None, 2, {"numpy": "2.0"}, limits, phases, False),
        not_measured="",
    )


def elsewhere() -> Content:
    """The same bundle, not measured."""
    return replace(made_up(), measured=None, parity=None, not_measured="needs sve2")
