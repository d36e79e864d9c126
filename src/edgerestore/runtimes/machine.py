"""Description of the machine, and timing of calls on it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Cpu", "cpu_info", "interleaved_milliseconds", "milliseconds", "tool_versions"]

# Names that readers know, by the kernel's flags, weakest first.
_INSTRUCTIONS = {
    "sse4_2": "SSE4.2",
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
}


@dataclass(frozen=True)
class Cpu:
    """A processor's name, its instruction sets that matter here, and its cores."""

    name: str
    isa: str
    cores: int

    def __str__(self) -> str:
        """Return the three in one line, as caches and reports name a machine."""
        return f"{self.name}, {self.isa}, {self.cores} cores"


@cache
def cpu_info() -> Cpu:
    """Return the processor of this machine; read once."""
    name, flags, cores = platform.processor() or platform.machine(), set[str](), 0
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        field, _, value = (part.strip() for part in line.partition(":"))
        if field == "model name":
            name = value
        elif field in ("flags", "Features"):
            flags = set(value.split())
        cores += field == "processor"
    known = [label for flag, label in _INSTRUCTIONS.items() if flag in flags]
    return Cpu(name, ", ".join(known) or platform.machine(), max(1, cores))


def milliseconds(call: Callable[[], object], budget_s: float = 1.0, most: int = 30) -> float:
    """Return the median time of a call, after one that does not count.

    Parameters
    ----------
    call : callable
        Finishes its work before it returns.
    budget_s : float
        No further run starts after this much time.
    most : int
        Runs at the most; there are at least two.
    """
    call()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < 2 or (len(taken) < most and time.perf_counter() - begun < budget_s):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def interleaved_milliseconds(
    calls: Mapping[str, Callable[[], object]], budget_s: float = 20.0, most: int = 25
) -> dict[str, float]:
    """Return the median time of several calls that take turns, so that all meet the same noise.

    Parameters
    ----------
    calls : mapping of str to callable
        Each finishes its work before it returns.
    budget_s : float
        No further round starts after this much time.
    most : int
        Rounds at the most; there are at least three, after one that does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for turn in range(most + 1):
        if turn > 3 and time.perf_counter() - begun > budget_s:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) * 1000 for name, times in taken.items()}


def tool_versions() -> dict[str, str]:
    """Return the versions of what conversion relies on."""
    found = {"python": platform.python_version()}
    for package in ("edgerestore", "torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
