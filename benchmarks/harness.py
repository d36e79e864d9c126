"""What the suites share: rates, interleaved repeats, rows of a table, facts of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgerestore.engine.restorer import Restorer

__all__ = ["Effort", "Table", "interleaved", "machine_facts", "paired", "rate", "stream_rate"]

# What decides how fast a network of each precision can be.
_ISA = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"]
_ISA += ["amx_bf16", "amx_int8", "amx_fp16", "asimd", "asimddp", "i8mm", "bf16"]
_MET = {True: "yes", False: "NO", None: ""}
_PACKAGES = ("edgerestore", "openvino", "av", "numpy", "opencv-python", "torch")


@dataclass(frozen=True)
class Effort:
    """How long to measure: enough for a quiet figure, or just to see the suite run."""

    frames: int = 180
    repeats: int = 5
    seconds: float = 8.0
    resident_frames: int = 2000
    draws: int = 25

    @classmethod
    def quick(cls) -> Effort:
        return cls(frames=40, repeats=2, seconds=2.0, draws=6)


@dataclass(frozen=True)
class Row:
    what: str
    value: str
    bound: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


@dataclass
class Table:
    """One table on the terminal and in the JSON."""

    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Say under the table what its figures mean."""
        self.notes.append(line)

    def value(self, what: str, value: str) -> None:
        """Add a figure that has no bound."""
        self.rows.append(Row(what, value))

    def at_most(self, what: str, value: float, most: float, unit: str) -> None:
        """Add a figure that should stay below a bound."""
        self.rows.append(
            Row(what, f"{value:.4g} {unit}", "", "", f"< {most:g} {unit}", value < most)
        )

    def at_least(self, what: str, value: float, least: float, unit: str) -> None:
        """Add a figure that should reach a bound."""
        self.rows.append(
            Row(what, f"{value:+.3f} {unit}", "", "", f">= {least:g} {unit}", value >= least)
        )

    def ratio(
        self, what: str, value: str, bound: str, ratios: Sequence[float], target: float | None
    ) -> None:
        """Add ratios that were measured in pairs: their median, and how far they spread."""
        middle = statistics.median(ratios)
        spread = f"{middle:.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        wanted = "" if target is None else f">= {target:g}"
        self.rows.append(
            Row(what, value, bound, spread, wanted, None if target is None else middle >= target)
        )

    def lines(self) -> list[str]:
        """Return it as text."""
        head = ("measured", "value", "bound or peer", "ratio (range)", "target", "met")
        cells = [(r.what, r.value, r.bound, r.ratio, r.target, _MET[r.met]) for r in self.rows]
        # A column that no row fills is left out.
        kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
        rows = [tuple(row[i] for i in kept) for row in (head, *cells)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        rule = "-" * sum(widths, 2 * (len(widths) - 1))
        return [self.title, text[0], rule, *text[1:], *(f"  {line}" for line in self.notes)]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many of ``count`` things a second ``work`` did."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def interleaved(stages: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run stages in turn, a b c a b c, so that a drifting machine hurts all alike.

    The first round warms up and is not kept. Entry ``i`` of every list is of one round.
    """
    rounds = [{name: stage() for name, stage in stages.items()} for _ in range(repeats + 1)]
    return {name: [one[name] for one in rounds[1:]] for name in stages}


def paired(values: Sequence[float], bounds: Sequence[float]) -> list[float]:
    """Return each round's ratio."""
    return [value / bound for value, bound in zip(values, bounds, strict=True)]


def machine_facts() -> dict[str, Any]:
    """Return what a figure is worth nothing without."""
    cpu, flags = _cpu()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu,
        "isa": [flag for flag in _ISA if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpu() -> tuple[str, set[str]]:
    rows: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        rows.setdefault(key.strip(), value.strip())
    flags = rows.get("flags", rows.get("Features", ""))
    return rows.get("model name", platform.machine()), set(flags.split())


def stream_rate(restorer: Restorer, pictures: Sequence[NDArray[np.uint8]], seconds: float) -> float:
    """Return frames a second of a restorer that is shown pictures again and again."""
    start = time.perf_counter()

    def until() -> Iterator[NDArray[np.uint8]]:
        while time.perf_counter() - start < seconds:
            yield from pictures

    count = sum(1 for _ in restorer.stream(until()))
    return count / (time.perf_counter() - start)
