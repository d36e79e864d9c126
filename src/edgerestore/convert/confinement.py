"""Confinement of this process: limits, and Landlock, by which Linux refuses what it may not do.

Imports nothing heavy: threads that began before are not confined.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path

__all__ = ["can_confine", "confine"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_OLDEST = 3  # Linux 6.2; before it a file could be cut to nothing
_WRITE_FILE, _TRUNCATE, _DEVICE_CONTROL = 1 << 1, 1 << 14, 1 << 15
# Writing, removing, making of every kind, and moving between folders: bits 4 to 13.
_CHANGES = _WRITE_FILE | 0x3FF0 | _TRUNCATE
# Not devices, sockets, pipes and links: whoever reads the folder could be misled by them.
_PLAIN = _CHANGES & ~0x1E40
_NO_NEW_PRIVILEGES, _SIGNAL_WHEN_ORPHANED = 38, 1

_FILE_BYTES = 2 << 30  # the largest ONNX file


def can_confine() -> bool:
    """Return whether this kernel can keep a process from writing files."""
    return sys.platform == "linux" and _abi() >= _OLDEST


def confine(folder: Path) -> None:
    """Confine this process and its children for good.

    They write and remove plain files in one folder alone, open no TCP connections (since Linux
    6.7) and send no signals to others (since 6.12). Each of them has as much memory as is free
    now; this one ends with the process that started it. What they may read is not limited, nor how
    long they run.

    Parameters
    ----------
    folder : Path
        Where files may be written.

    Raises
    ------
    OSError
        When the kernel refuses.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
    _limit(resource.RLIMIT_DATA, _free_bytes())
    _checked(_libc().prctl(_SIGNAL_WHEN_ORPHANED, signal.SIGKILL, 0, 0, 0))
    _checked(_libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    abi = _abi()
    changes = _CHANGES | (_DEVICE_CONTROL if abi >= 5 else 0)
    connections, others = 3 if abi >= 4 else 0, 3 if abi >= 6 else 0
    rules = struct.pack("=QQQ", changes, connections, others)
    ruleset = _checked(_libc().syscall(_CREATE_RULESET, rules, len(rules), 0))
    try:
        _allow(ruleset, folder, _PLAIN)
        _allow(ruleset, Path(os.devnull), _WRITE_FILE | _TRUNCATE)
        _checked(_libc().syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, changes: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", changes, beneath)
        _checked(_libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(beneath)


def _abi() -> int:
    """Return the version of Landlock; -1 where there is none."""
    return int(_libc().syscall(_CREATE_RULESET, None, 0, _VERSION))


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(which, (most, most))


def _free_bytes() -> int:
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
