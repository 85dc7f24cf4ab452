"""All targets by name. A new device adds one line."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from handglass.errors import DeviceError, UsageError
from handglass.runtime.system.hardware import Machine, read_machine

from .codegen.kinds import detected_names, generator_for
from .presets.aarch64 import PRESETS, aarch64_host
from .presets.cuda import cuda_presets
from .presets.gpu import with_gpu
from .presets.vulkan import vulkan_presets
from .presets.x86 import X86_64_AMX, X86_64_V3, X86_64_V4, x86_host
from .target import Target
from .target_file import read_target

HOSTS = {"x86_64": x86_host, "aarch64": aarch64_host}


def host_target(machine: Machine) -> Target | None:
    """The target of the machine itself; None for an unsupported architecture."""
    build = HOSTS.get(machine.architecture)
    return build(machine) if build else None


def all_targets(machine: Machine) -> dict[str, Target]:
    gpus = (*vulkan_presets(machine), *cuda_presets(machine))
    presets = (X86_64_V3, X86_64_V4, X86_64_AMX, *PRESETS, *gpus)
    host = host_target(machine)
    hosts = (replace(host, same_code_as=_same_code(host, presets)),) if host else ()
    return {target.name: target for target in (*hosts, *presets)}


def _same_code(host: Target, presets: Sequence[Target]) -> str | None:
    """The first preset with the same LLVM settings as the host."""
    settings = (host.triple, host.cpu, host.mattr)
    same = (p.name for p in presets if p.gpu is None and (p.triple, p.cpu, p.mattr) == settings)
    return next(same, None)


@cache
def known_targets() -> dict[str, Target]:
    """All targets by name, `host` as this machine is; read when first asked for."""
    return all_targets(read_machine())


def _with_host(gpu: str, host: str, targets: dict[str, Target]) -> Target:
    """The target GPU@HOST: the device code of a GPU target with the host code of a CPU target."""
    device, cpu = find_target(gpu, targets), find_target(host, targets)
    if device.gpu is None or cpu.gpu is not None:
        raise UsageError(
            f"target '{gpu}@{host}': write the GPU before the @ and its host CPU after it, "
            f"for example {next((t.name for t in targets.values() if t.gpu), 'GPU')}@arm64"
        )
    name = f"{device.name}@{cpu.name}"
    combined = with_gpu(cpu, name, device.description, device.gpu)
    return replace(combined, evidence_of=device.records_key)


def find_target(name: str, targets: dict[str, Target] | None = None) -> Target:
    """The target with this name, or the one described by this JSON file.

    Raises UsageError with the nearest names for an unknown target, DeviceError if `host` or a
    detected device is unavailable, InputError for an invalid file.
    """
    targets = known_targets() if targets is None else targets
    if name.endswith(".json"):
        return read_target(Path(name), targets)
    if "@" in name:
        gpu, host = name.split("@", 1)
        return _with_host(gpu, host, targets)
    detected = detected_names()
    if name in detected:
        return generator_for(detected[name]).detected_target()
    if name in targets:
        return targets[name]
    if name == "host":
        known = ", ".join(targets)
        raise DeviceError(
            f"target 'host': this machine is not one of {', '.join(HOSTS)} on Linux; "
            f"name a target to compile for instead: {known}"
        )
    near = get_close_matches(name, targets, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    known = ", ".join(targets)
    raise UsageError(
        f"unknown target '{name}': {hint}known targets: {known}, {', '.join(detected)}, "
        "GPU@CPU for a GPU with another host CPU, or a FILE.json"
    )
