"""Conformance tests of sources: `SourceTests`, to be subclassed."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ..imaging.arrays import check_image
from ..streams.media.frames import Frame
from ..streams.protocols import Source

__all__ = ["SourceTests", "open_files"]

_PROMPT_S = 2.0


def open_files() -> int:
    """Return how many files this process has open (Linux)."""
    return len(list(Path("/proc/self/fd").iterdir()))


class SourceTests:
    """Conformance tests of `edgerestore.streams.protocols.Source`.

    A subclass overrides the fixture ``make``, and the attributes where its source differs.

    Attributes
    ----------
    ends : bool
        It ends by itself after the frames that were asked for.
    counts : bool
        It knows beforehand how many there are.
    live : bool
        What its attribute ``live`` shall be.
    stamps : bool
        Its frames have ``captured_s`` and ``info``.
    own_files : int
        Files that the subclass itself keeps open for each source.

    Examples
    --------
    >>> class TestMine(SourceTests):
    ...     @pytest.fixture
    ...     def make(self):
    ...         return lambda count: MySource(count)
    """

    ends = True
    counts = True
    live = False
    stamps = False
    own_files = 0

    @pytest.fixture
    def make(self) -> Callable[[int], Source]:
        """Return a function: count -> a new source of so many frames; of more, if live."""
        raise pytest.UsageError("a subclass gives the source")

    def frames(self, source: Source, count: int) -> list[Frame]:
        """Return the next frames; all of them, where it ends by itself."""
        found = (item for item in source if isinstance(item, Frame))
        return list(found if self.ends else itertools.islice(found, count))

    def test_all_frames_in_order(self, make: Callable[[int], Source]) -> None:
        source = make(7)
        frames = self.frames(source, 7)
        assert len(frames) == 7
        assert source.expected_frames == (7 if self.counts else None)
        assert source.live is self.live
        if self.ends:
            assert source.lost == Counter()
        pts = [frame.pts for frame in frames]
        assert pts == sorted(set(pts))
        assert {type(frame.time_base) for frame in frames} == {Fraction}
        source.close()

    def test_each_image_is_the_frames_own(self, make: Callable[[int], Source]) -> None:
        source = make(3)
        frames = self.frames(source, 3)
        copies = [frame.image.copy() for frame in frames]
        source.close()
        for frame, copy in zip(frames, copies, strict=True):
            check_image(frame.image)
            assert frame.image.flags.c_contiguous
            np.testing.assert_array_equal(frame.image, copy)
        assert not np.shares_memory(frames[0].image, frames[1].image)

    def test_iteration_goes_on_where_it_stopped(self, make: Callable[[int], Source]) -> None:
        source = make(5)
        first = next(item for item in source if isinstance(item, Frame))
        rest = self.frames(source, 4)
        assert len(rest) == 4
        assert first.pts < rest[0].pts
        source.close()

    def test_close_may_come_early_and_often(self, make: Callable[[int], Source]) -> None:
        source = make(5)
        next(iter(source))
        source.close()
        source.close()

    def test_close_ends_a_wait_where_it_is_interruptible(
        self, make: Callable[[int], Source]
    ) -> None:
        source = make(5)
        if not source.interruptible:
            source.close()
            return
        first, errors = threading.Event(), []

        def take() -> None:
            try:
                for _ in source:
                    first.set()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=take, name="conformance", daemon=True)
        thread.start()
        assert first.wait(10)
        source.close()
        thread.join(_PROMPT_S)
        assert not thread.is_alive()
        assert errors == []

    def test_frames_have_their_time_and_info(self, make: Callable[[int], Source]) -> None:
        if not self.stamps:
            pytest.skip("frames of this source need not carry a capture time and info")
        source = make(5)
        frames = self.frames(source, 5)
        source.close()
        now_s = time.perf_counter()
        times = [frame.captured_s or 0.0 for frame in frames]
        assert times == sorted(times)
        assert now_s - 5 < times[0] <= times[-1] < now_s
        info = frames[0].info
        assert info is not None
        assert all(frame.info is info for frame in frames)
        assert (info.height, info.width) == frames[0].image.shape[:2]
        assert info.time_base == frames[0].time_base
        assert info.rate > 0

    def test_close_leaves_no_thread_and_no_file(self, make: Callable[[int], Source]) -> None:
        threads, files = threading.active_count(), open_files() + self.own_files
        source = make(5)
        next(iter(source))
        threads_open = threading.active_count()
        source.close()
        # What a server of the test has for a connection goes a moment later.
        deadline_s = time.monotonic() + _PROMPT_S
        while time.monotonic() < deadline_s and (_own_threads() or open_files() > files):
            time.sleep(0.01)
        assert _own_threads() == []
        assert open_files() <= files
        assert threading.active_count() <= max(threads_open, threads)


def _own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("edgerestore-")]
