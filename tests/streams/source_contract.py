"""What every source must do; each has a subclass."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edgerestore.imaging.arrays import check_image
from edgerestore.streams.media.frames import Frame


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


class SourceContract:
    """Subclass it, and give `make`.

    Attributes
    ----------
    ends : bool
        Whether it ends by itself after the frames that were asked for.
    counts : bool
        Whether it knows beforehand how many there are.
    live : bool
        What it shall say of itself.
    stamps : bool
        Whether its frames say when they came in, and what the video is.
    """

    ends = True
    counts = True
    live = False
    stamps = False

    @pytest.fixture
    def make(self, tmp_path):
        """Return a function: count -> a source of that many frames, or of more."""
        raise pytest.UsageError("a subclass gives the source")

    def frames(self, source, count):
        """Return the next frames; all of them, where it ends by itself."""
        found = (item for item in source if isinstance(item, Frame))
        return list(found if self.ends else itertools.islice(found, count))

    def test_all_frames_in_order(self, make):
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

    def test_frames_are_pictures_of_their_own(self, make):
        source = make(3)
        frames = self.frames(source, 3)
        copies = [frame.image.copy() for frame in frames]
        source.close()
        for frame, copy in zip(frames, copies, strict=True):
            check_image(frame.image)
            assert frame.image.flags.c_contiguous
            np.testing.assert_array_equal(frame.image, copy)
        assert not np.shares_memory(frames[0].image, frames[1].image)

    def test_iterating_goes_on_where_it_stopped(self, make):
        source = make(5)
        first = next(item for item in source if isinstance(item, Frame))
        rest = self.frames(source, 4)
        assert len(rest) == 4
        assert first.pts < rest[0].pts
        source.close()

    def test_close_may_come_early_and_often(self, make):
        source = make(5)
        next(iter(source))
        source.close()
        source.close()

    def test_frames_bring_their_time_and_facts(self, make):
        if not self.stamps:
            pytest.skip("its frames need not")
        source = make(5)
        frames = self.frames(source, 5)
        source.close()
        now_s = time.perf_counter()
        times = [frame.captured_s for frame in frames]
        assert times == sorted(times)
        assert now_s - 5 < times[0] <= times[-1] < now_s
        assert len({id(frame.info) for frame in frames}) == 1
        info = frames[0].info
        assert (info.height, info.width) == frames[0].image.shape[:2]
        assert info.time_base == frames[0].time_base
        assert info.rate > 0

    def test_nothing_is_left_of_it(self, make):
        threads, files = threading.active_count(), open_files()
        source = make(5)
        next(iter(source))
        threads_open = threading.active_count()
        source.close()
        # What the test's own server has for a connection goes a moment later.
        deadline_s = time.monotonic() + 2
        while time.monotonic() < deadline_s:
            left = [one for one in threading.enumerate() if one.name.startswith("edgerestore-")]
            if not left and open_files() <= files + self.own_files:
                break
            time.sleep(0.01)
        assert not left
        assert open_files() <= files + self.own_files
        assert threading.active_count() <= max(threads_open, threads)

    own_files = 0
    """Files that the test has open for it."""
