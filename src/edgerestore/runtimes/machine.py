"""Description of the machine, and timing of calls on it."""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .limits import usable_threads

__all__ = [
    "Cpu",
    "PairedTimes",
    "cpu_info",
    "interleaved_milliseconds",
    "machine_key",
    "milliseconds",
    "paired_times",
    "tool_versions",
]

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


def machine_key(library: str) -> str:
    """Return what timings depend on but for the model: they are made anew where it differs.

    Processor, instruction sets (also those that an environment variable keeps oneDNN to), threads
    that affinity and quota leave, versions of the library and of this package. No host's name:
    containers draw theirs by chance.

    Parameters
    ----------
    library : str
        Package of the inference library.
    """
    facts = [f"{usable_threads()} threads"]
    if limited := os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA"):
        facts.append(f"at most {limited}")
    for package in (library, "edgerestore"):
        with suppress(PackageNotFoundError):
            facts.append(f"{package} {version(package)}")
    return ", ".join([str(cpu_info()), *facts])


@dataclass(frozen=True)
class PairedTimes:
    """Times of two calls that took turns, and how much longer the first takes.

    Parameters
    ----------
    first_ms, second_ms : float
        Medians.
    ratio, low, high : float
        Median of ``first / second`` of each round, and its 95 % interval by bootstrap.
    """

    first_ms: float
    second_ms: float
    ratio: float
    low: float
    high: float


def paired_times(
    first: Callable[[], object],
    second: Callable[[], object],
    budget_s: float = 2.0,
    most: int = 31,
) -> PairedTimes:
    """Time two calls in paired rounds, each first in every other round.

    Parameters
    ----------
    first, second : callable
        Each finishes its work before it returns.
    budget_s : float
        No further round starts after this much time; there are at least five.
    most : int
        Rounds at the most.
    """

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    seconds(first), seconds(second)
    rounds: list[tuple[float, float]] = []
    begun = time.perf_counter()
    while len(rounds) < 5 or (len(rounds) < most and time.perf_counter() - begun < budget_s):
        if len(rounds) % 2:
            later = seconds(second)
            rounds.append((seconds(first), later))
        else:
            rounds.append((seconds(first), seconds(second)))
    ratios = [one / other for one, other in rounds]
    drawn = random.Random(0)  # noqa: S311 - the same rounds give the same interval
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(400))
    return PairedTimes(
        statistics.median(one for one, _ in rounds) * 1000,
        statistics.median(other for _, other in rounds) * 1000,
        statistics.median(ratios),
        medians[10],
        medians[-11],
    )


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
