"""The target table, and the targets detected for simulated processors."""

import pytest

from handglass.errors import DeviceError, UsageError
from handglass.runtime.system.hardware import Machine, cache_size, describe
from handglass.targets import TARGETS, Target, find_target
from handglass.targets.presets.aarch64 import PRESETS
from handglass.targets.table import all_targets, host_target

V2 = "sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm xsave"
HASWELL = f"{V2} fma movbe avx f16c abm bmi1 avx2 bmi2"
SKYLAKE_SERVER = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"
SAPPHIRE_RAPIDS = (
    f"{SKYLAKE_SERVER} avx512vbmi avx512_vnni avx512_bf16 avx512_fp16 avx_vnni "
    "amx_bf16 amx_tile amx_int8"
)
ALDER_LAKE = f"{HASWELL} avx_vnni gfni vaes"
RASPBERRY_PI_4 = "fp asimd evtstrm crc32 cpuid"
CORTEX_A78 = "fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
GRAVITON_3 = f"{CORTEX_A78} jscvt fcma sve asimdfhm i8mm bf16"


def machine(flags: str, architecture: str = "x86_64", cores: int = 8) -> Machine:
    key = "flags" if architecture == "x86_64" else "Features"
    core = f"processor\t: 0\nmodel name\t: Some CPU @ 2.4GHz\n{key}\t\t: {flags}\n\n"
    return describe(architecture, core * cores, "MemTotal:       16384000 kB\n", cores)


@pytest.mark.parametrize(
    ("flags", "cpu", "vector_bits", "mattr"),
    [
        ("sse sse2", "x86-64", 128, ()),
        (V2, "x86-64-v2", 128, ()),
        (HASWELL.replace("fma ", ""), "x86-64-v2", 128, ()),
        (HASWELL, "x86-64-v3", 256, ()),
        (ALDER_LAKE, "x86-64-v3", 256, ("+avxvnni",)),
        (SKYLAKE_SERVER, "x86-64-v4", 512, ()),
        (
            SAPPHIRE_RAPIDS,
            "x86-64-v4",
            512,
            (
                *("+avxvnni", "+avx512vnni", "+avx512bf16", "+avx512fp16", "+avx512vbmi"),
                *("+amx-tile", "+amx-int8", "+amx-bf16"),
            ),
        ),
    ],
)
def test_x86_host(flags: str, cpu: str, vector_bits: int, mattr: tuple[str, ...]) -> None:
    host = host_target(machine(flags))
    assert host is not None
    assert (host.cpu, host.vector_bits, host.mattr) == (cpu, vector_bits, mattr)
    assert (host.cores, host.memory_limit) == (8, 16384000 * 1024)
    assert not host.missing_on(frozenset(flags.split())), "the host runs its own code"


@pytest.mark.parametrize(
    ("flags", "cpu", "mattr"),
    [
        (RASPBERRY_PI_4, "cortex-a72", ("-crc", "-aes", "-sha2")),
        (CORTEX_A78, "neoverse-n1", ()),
        (CORTEX_A78.replace("asimddp", ""), "cortex-a72", ("-crc", "-aes", "-sha2")),
        ("", "generic", ()),
        (GRAVITON_3, "cortex-x2", ("-sve", "-sve2")),
    ],
)
def test_aarch64_host(flags: str, cpu: str, mattr: tuple[str, ...]) -> None:
    host = host_target(machine(flags, "aarch64", cores=4))
    assert host is not None
    assert (host.cpu, host.triple, host.mattr) == (cpu, "aarch64-linux-gnu", mattr)
    assert not host.missing_on(frozenset(flags.split()))


@pytest.mark.parametrize("target", PRESETS, ids=lambda target: target.name)
def test_an_arm_preset_promises_what_its_code_may_use(target: Target) -> None:
    """The floor has every feature that schedules require of LLVM, and no disabled one."""
    assert ("i8mm" in target.features) == (target.cpu in ("cortex-x2", "neoverse-v3ae"))
    assert ("asimddp" in target.features) == (target.cpu != "cortex-a72")
    assert not {"sve", "sve2"} & set(target.features)
    assert target.architecture == "aarch64" and target.vector_bits == 128


def test_big_little_keeps_what_every_core_has() -> None:
    text = "Features : fp asimd asimddp i8mm\n\nFeatures : fp asimd asimddp\n"
    assert describe("aarch64", text, "", 2).flags == {"fp", "asimd", "asimddp"}


def test_missing_files_make_a_careful_host() -> None:
    host = host_target(describe("x86_64", "", "", 2))
    assert host is not None
    assert (host.cpu, host.features, host.memory_limit) == ("x86-64", (), None)


def test_preset_says_what_a_machine_lacks() -> None:
    assert TARGETS["x86-64-v4"].missing_on(machine(ALDER_LAKE).flags) == (
        *("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x86-64-v5", "did you mean x86-64-v"), ("hots", "did you mean host"), ("?", "known targets")],
)
def test_unknown_target_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown target .*{hint}"):
        find_target(name)


@pytest.mark.parametrize(("text", "size"), [("2048K\n", 2 << 20), ("512K", 512 << 10), ("", None)])
def test_cache_size_as_linux_tells_it(text: str, size: int | None) -> None:
    assert cache_size(text) == size


def test_unknown_architecture_has_presets_but_no_host() -> None:
    targets = all_targets(machine("", "riscv64"))
    known = {"x86-64-v3", "x86-64-v4", "x86-64-amx", *(target.name for target in PRESETS)}
    assert {name for name, target in targets.items() if target.gpu is None} == known
    with pytest.raises(DeviceError, match="x86_64, aarch64"):
        find_target("host", targets)


def test_table_is_keyed_by_name() -> None:
    assert all(name == target.name for name, target in TARGETS.items())


@pytest.mark.parametrize(
    ("flags", "architecture", "key"),
    [
        (HASWELL, "x86_64", "x86-64-v3"),
        (ALDER_LAKE, "x86_64", "x86-64-v3+avxvnni"),
        (SKYLAKE_SERVER, "x86_64", "x86-64-v4"),
        (f"{SKYLAKE_SERVER} avx512_vnni", "x86_64", "x86-64-v4+avx512vnni"),
        ("sse sse2", "x86_64", "x86-64"),
        (CORTEX_A78, "aarch64", "arm64"),
        (GRAVITON_3, "aarch64", "cortex-x2-sve-sve2"),
    ],
)
def test_a_host_shares_the_records_of_the_preset_that_is_the_same_code(
    flags: str, architecture: str, key: str
) -> None:
    targets = all_targets(machine(flags, architecture))
    assert targets["host"].records_key == key
    assert all(t.records_key == name for name, t in targets.items() if name != "host")
