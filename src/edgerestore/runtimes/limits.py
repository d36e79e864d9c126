"""Limits of this process: the processors and the memory that its control groups leave it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["available_memory_bytes", "cpu_quota", "usable_threads"]

_ROOT = Path("/")
_UNLIMITED_BYTES = 1 << 60  # version 1 says nearly 2**63 where there is no limit


def usable_threads(root: Path | None = None) -> int:
    """Return how many threads are worth running: affinity and CPU quota, whichever is less.

    ``OMP_NUM_THREADS`` goes before both where it is a number above 0.

    Parameters
    ----------
    root : Path or None
        Of the file system that ``proc`` and ``sys`` are read from.
    """
    named = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if named.isdigit() and int(named) > 0:
        return int(named)
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    quota = cpu_quota(root)
    return max(1, int(min(allowed, allowed if quota is None else quota)))


def cpu_quota(root: Path | None = None) -> float | None:
    """Return the processors that control groups grant, or None where they grant all.

    The least of this process's group and those above it counts.
    """
    found = []
    for folder in _groups("cpu", root):
        with suppress(OSError, ValueError, IndexError):
            if (folder / "cpu.max").is_file():
                most, period = (folder / "cpu.max").read_text().split()
                if most != "max":
                    found.append(int(most) / int(period))
            elif (folder / "cpu.cfs_quota_us").is_file():
                micros = int((folder / "cpu.cfs_quota_us").read_text())
                if micros > 0:
                    found.append(micros / int((folder / "cpu.cfs_period_us").read_text()))
    return min((one for one in found if one > 0), default=None)


def available_memory_bytes(root: Path | None = None) -> int | None:
    """Return the memory that can still be had: the machine's, or what control groups leave.

    File pages that a group holds inactive count as free, as the kernel counts them. None where
    nothing can be read.
    """
    found = []
    with suppress(OSError, KeyError, ValueError, IndexError):
        text = ((root or _ROOT) / "proc/meminfo").read_text()
        rows = dict(line.split(":", 1) for line in text.splitlines())
        found.append(int(rows["MemAvailable"].split()[0]) * 1024)
    for folder in _groups("memory", root):
        for limit, used, inactive in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):
                most = int((folder / limit).read_text())
                if most < _UNLIMITED_BYTES:
                    taken = int((folder / used).read_text())
                    found.append(max(0, most - taken + _statistic(folder, inactive)))
    return min(found, default=None)


def _statistic(folder: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _groups(controller: str, root: Path | None) -> Iterator[Path]:
    """Yield the folders of this process's control group and those above, of either version."""
    base = root or _ROOT
    try:
        lines = (base / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = base / "sys/fs/cgroup"
        if controllers:
            # A mount of several controllers is named by all of them, and linked by each.
            named = (mount / controllers, mount / controller)
            mount = next((one for one in named if one.is_dir()), named[-1])
        # In a container the path may be the host's, and the mount already this group.
        path = mount / group.strip("/")
        inside = path if path.is_dir() else mount
        yield inside
        while inside != mount:
            inside = inside.parent
            yield inside
