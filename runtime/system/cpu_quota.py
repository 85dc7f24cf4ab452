"""The CPU time that a container grants: the quota of cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_*`).

Every group on the path from the root to this process may have a quota; the smallest one counts.
Source: Linux, Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
HIERARCHY = Path("/sys/fs/cgroup")


def cpu_quota(membership: Path = MEMBERSHIP, hierarchy: Path = HIERARCHY) -> float | None:
    """CPUs that this process may use on average, for example 1.5; None if it is not limited."""
    try:
        lines = membership.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    quotas = (_quota(folder) for line in lines for folder in _folders(line, hierarchy))
    return min((quota for quota in quotas if quota), default=None)


def _folders(line: str, hierarchy: Path) -> Iterator[Path]:
    """The folders of a line "ID:CONTROLLERS:PATH", from the process's group up to the root.

    Inside a container the path may be that of the host; the root then is the container's group.
    """
    _, controllers, path = [*line.split(":", 2), "", ""][:3]
    if controllers and "cpu" not in controllers.split(","):
        return
    roots = [hierarchy] if not controllers else [hierarchy / controllers, hierarchy / "cpu"]
    inside = PurePosixPath(path.lstrip("/"))
    for root in roots:
        for group in (inside, *inside.parents):
            yield root / group


def _quota(folder: Path) -> float | None:
    """The quota of one group in CPUs; None if it has none or cannot be read."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        cpus = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no integer
        return None
    return cpus if cpus > 0 else None  # version 1 writes -1 for no limit
