"""What the engine costs besides the model: memory, start-up, the wait for a first frame."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .harness import Effort, Table
from .scenes import canvas, photograph, write_clip

Tables = Callable[[str], Table]

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("edgerestore")
SETTLED = 200  # frames after which nothing should grow any more


def test_resident_memory(table: Tables, tmp_path: Path, effort: Effort) -> None:
    clip = write_clip(tmp_path / "long.mp4", 360, 640, effort.resident_frames + 20)
    seen = _watched(clip, tmp_path / "out.mp4", effort.resident_frames)
    assert seen["frames"] >= effort.resident_frames
    resident = {int(frame): mib for frame, mib in seen["resident_mib"].items()}
    settled = {f: mib for f, mib in resident.items() if SETTLED <= f <= effort.resident_frames}
    first, last = settled[SETTLED], settled[effort.resident_frames]
    out = table(f"memory: 640x360 stream, frame {SETTLED} to {effort.resident_frames}")
    out.value(f"resident at frame {SETTLED}", f"{first:.1f} MiB")
    out.value(f"resident at frame {effort.resident_frames}", f"{last:.1f} MiB")
    out.at_most("growth", last - first, 8, "MiB")
    out.at_most("highest above the first, on the way", max(settled.values()) - first, 8, "MiB")


def test_peak_memory(table: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = table("memory: edgerestore run on one image of 7680x4320, nothing cached")
    for suffix in (".png", ".tif"):
        source, target = tmp_path / f"large{suffix}", tmp_path / f"restored{suffix}"
        monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / f"cache{suffix}"))
        cv2.imwrite(str(source), canvas(4320, 7680)[..., ::-1])
        start = time.perf_counter()
        seen = _peak([str(COMMAND), "run", str(source), "-o", str(target), "--progress", "none"])
        seconds = time.perf_counter() - start
        assert seen["code"] == 0, seen["said"]
        assert photograph(target).shape == (4320, 7680, 3)
        out.at_most(f"peak resident, {suffix[1:]}", seen["peak_kib"] / (1 << 20), 1.2, "GiB")
        out.value(f"time, {suffix[1:]}", f"{seconds:.1f} s")


def test_help(benchmark: BenchmarkFixture, table: Tables, effort: Effort) -> None:
    def run() -> None:
        subprocess.run([COMMAND, "--help"], check=True, capture_output=True)

    benchmark.pedantic(run, rounds=3 * effort.repeats, warmup_rounds=1)
    out = table("start-up: edgerestore --help")
    assert benchmark.stats is not None
    out.at_most("median wall time", benchmark.stats.stats.median, 0.3, "s")


def test_first_frame(
    clip: Path, table: Tables, tmp_path: Path, effort: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))

    def wait_s(run: int) -> float:
        start = time.monotonic()
        seen = _watched(clip, tmp_path / f"{run}.mp4", 8)
        return float(seen["first_s"]) - start

    cold, *warm = [wait_s(run) for run in range(1 + effort.repeats)]
    out = table("start-up: process start to the first restored frame, 1280x720 video")
    out.value("nothing cached", f"{cold:.2f} s")
    out.at_most("warm cache, median", statistics.median(warm), 1.5, "s")


def _watched(source: Path, output: Path, last: int) -> Any:
    return _child(
        [sys.executable, str(HERE / "watched_run.py"), str(source), str(output), str(last)]
    )


def _peak(command: list[str]) -> Any:
    return _child([sys.executable, "-S", str(HERE / "peak.py"), *command])


def _child(command: list[str]) -> Any:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)
