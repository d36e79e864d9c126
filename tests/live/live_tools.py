"""What tests of running streams share: a camera, a screen, and patience."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

from edgerestore.streams.events import EventKind
from edgerestore.streams.options import SourceOptions

CAMERA = SourceOptions(live=True, fps=50, stall_s=5)


MOST_MIB = 10.0


class Marks:
    """What the process holds, noted now and then."""

    def __init__(self):
        self.resident_mib, self.threads, self.descriptors = [], [], []

    def note(self):
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident_mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.threads.append(len(os.listdir("/proc/self/task")))  # noqa: PTH208
        self.descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    def check(self):
        print(f"\nresident MiB: {[round(one, 1) for one in self.resident_mib]}")
        print(f"threads: {self.threads}, descriptors: {self.descriptors}")
        assert max(self.resident_mib) - self.resident_mib[0] < MOST_MIB
        # One may be just ending.
        assert max(self.threads) - self.threads[0] <= 1
        assert max(self.descriptors) - self.descriptors[0] <= 1


class Shown:
    """A callback that keeps what it is shown."""

    def __init__(self, delay_s=0.0):
        self.images, self.frames, self._delay_s = [], [], delay_s

    def __call__(self, image, frame):
        time.sleep(self._delay_s)
        self.images.append(image)
        self.frames.append(frame)

    def wait_for(self, count, most_s=30.0):
        end_s = time.perf_counter() + most_s
        while len(self.images) < count:
            assert time.perf_counter() < end_s, f"only {len(self.images)} of {count}"
            time.sleep(0.005)


def camera(image, count=10_000, period_s=0.01):
    for _ in range(count):
        time.sleep(period_s)
        yield image


def until(condition, most_s=30.0):
    end_s = time.perf_counter() + most_s
    while not condition():
        assert time.perf_counter() < end_s, "it did not come to pass"
        time.sleep(0.01)


def of_kind(live, kind):
    return [event for event in live.events if event.kind is kind]


def states(live):
    return [event.state for event in of_kind(live, EventKind.STATE)]
