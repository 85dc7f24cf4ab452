"""The CPU time of a container, from copies of the files of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from handglass.runtime.system import machine
from handglass.runtime.system.cpu_quota import cpu_quota

V1 = "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/host/path\n", {"cpu.max": "200000 100000\n"}, 2.0),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        (
            V1,
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("0::/\n", {"cpu.max": "damaged\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        ("damaged", {}, None),
        ("", {}, None),
    ],
)
def test_the_smallest_quota_on_the_path_counts(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    write(tmp_path, {"membership": membership, **{f"fs/{n}": t for n, t in files.items()}})
    assert cpu_quota(tmp_path / "membership", tmp_path / "fs") == quota


def test_without_cgroups_nothing_is_limited(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "nothing", tmp_path / "nothing") is None


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.5, 1), (3.0, 3), (64.0, 4), (None, 4)])
def test_the_default_is_what_the_container_grants(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: int
) -> None:
    monkeypatch.delenv("TVM_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "physical_cores", lambda cpus: 4)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.thread_count(None) == threads
