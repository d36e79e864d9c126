"""DemoCamera at its fastest for half a minute: the acquisition does not notice the restoration."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgerestore
from edgerestore.microscopy import attach

from ..checked import not_none

useq: Any = pytest.importorskip("useq", reason="pymmcore-plus is not installed")

ROUNDS, FRAMES = 8, 300  # about half a minute with us, and as much without
MOST_MIB = 30.0


@pytest.fixture(scope="module")
def core():
    from mm_test_adapters import device_adapter_path
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
    core.loadSystemConfiguration()
    core.setProperty("Camera", "PixelType", "16bit")
    core.setExposure(0.1)
    yield core
    core.unloadAllDevices()


class Slow:
    """A model that takes a fifth of a second, and no processor."""

    depth = 1

    def submit(self, image):
        class Later:
            def result(self, _timeout=None):
                time.sleep(0.2)
                return image

        return Later()


def rate(core: Any, frames: int) -> float:
    """Return the frames a second that one burst delivers, counted as they come."""
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.perf_counter())

    core.mda.events.frameReady.connect(note)
    core.mda.run(useq.MDASequence(time_plan={"interval": 0, "loops": frames}))
    core.mda.events.frameReady.disconnect(note)
    assert len(times) == frames
    return (frames - 1) / (times[-1] - times[0])


def resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def compared(
    core: Any, restorer: Any, rounds: int, frames: int, show: Callable[..., object]
) -> tuple[float, dict[str, float], list[float]]:
    """Return the rate with us over that without, slots in ms, and the memory."""
    alone, beside, memory = [], [], []
    attached = attach(core, restorer, show)
    slot, signal = attached._frame_ready, core.mda.events.frameReady
    rate(core, frames // 4)
    for _ in range(rounds):
        signal.disconnect(slot)
        alone.append(rate(core, frames))
        signal.connect(slot)
        beside.append(rate(core, frames))
        memory.append(resident_mib())
    slot_ms = attached.slot_ms
    summary = not_none(attached.detach())
    gone = sum(summary.frames_dropped.values()) + sum(summary.frames_lost.values())
    came = frames // 4 + rounds * frames
    assert attached.received == came == summary.frames_out + gone
    ratio = statistics.median(beside) / statistics.median(alone)
    print(  # noqa: T201 - figures of soaks are read, not only their verdict
        f"\n{alone} without, {beside} with: {ratio:.3f}; slot {slot_ms};"
        f" out {summary.frames_out}, dropped {summary.frames_dropped}, lost {summary.frames_lost};"
        f" resident MiB {[round(one, 1) for one in memory]}; load {os.getloadavg()[0]:.1f}"
    )
    return ratio, slot_ms, memory


class InOrder:
    def __init__(self):
        self.last = -1.0
        self.ordered = True

    def __call__(self, _image, frame):
        self.ordered &= frame.captured_s > self.last
        self.last = frame.captured_s


def test_a_moment_beside_a_slow_model(core):
    order = InOrder()
    _, slot_ms, _ = compared(core, Slow(), 1, 40, order)
    assert order.ordered
    assert slot_ms["p50"] < 1.0


@pytest.mark.soak
@pytest.mark.parametrize("model", ["slow", "denoise-gray"])
def test_half_a_minute_at_the_fastest(core, model):
    order = InOrder()
    if model == "slow":
        ratio, slot_ms, memory = compared(core, Slow(), ROUNDS, FRAMES, order)
    else:
        with edgerestore.load(model, intensity_range="auto") as restorer:
            ratio, slot_ms, memory = compared(core, restorer, ROUNDS, FRAMES, order)
    assert order.ordered
    assert ratio >= 0.98
    assert slot_ms["p99"] < 1.0
    assert max(memory) - memory[0] < MOST_MIB
