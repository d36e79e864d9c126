"""Conformance tests of sinks: `SinkTests`, and `FileSinkTests` for those that write files."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..errors import SinkError
from ..imaging.arrays import Image
from ..streams.media.frames import Frame
from ..streams.protocols import Sink

__all__ = ["FileSinkTests", "SinkTests"]

_HEIGHT, _WIDTH = 64, 96


class SinkTests:
    """Conformance tests of `edgerestore.streams.protocols.Sink`.

    A subclass overrides the fixture ``make`` and the method ``arrived``, and the attributes
    where its sink differs.

    Attributes
    ----------
    count : int
        How many frames a sink is given.
    all_arrive : bool
        No frame may be missing.
    tolerance : float
        Grey levels that a picture may differ in the mean.

    Examples
    --------
    >>> class TestMine(SinkTests):
    ...     @pytest.fixture
    ...     def make(self, tmp_path):
    ...         return lambda **options: MySink(tmp_path / "out.my", **options)
    ...
    ...     def arrived(self, sink, tmp_path):
    ...         return [(None, image) for image in read_my_file(tmp_path / "out.my")]
    """

    count = 4
    all_arrive = True
    tolerance = 4.0

    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[..., Sink]:  # noqa: ARG002 - for subclasses
        """Return a function: keyword options -> a new sink, into the empty folder tmp_path.

        Of `FileSinkTests`, it passes on the option ``overwrite``.
        """
        raise pytest.UsageError("a subclass gives the sink")

    def arrived(self, sink: Sink, tmp_path: Path) -> list[tuple[Any, Image]]:  # noqa: ARG002
        """Return what came out of a closed sink: (seconds or None, u8 RGB) of each frame."""
        raise pytest.UsageError("a subclass looks what arrived")

    @pytest.fixture
    def frames(self) -> list[Frame]:
        """Return the frames: u8 RGB, 96 x 64, 25 a second."""
        return [
            Frame(_picture(index), index, Fraction(1, 25), 1, f"{index}.png")
            for index in range(self.count)
        ]

    def which(self, image: Image, frames: list[Frame]) -> int:
        """Return the index of the frame that a picture shows."""
        assert image.shape == frames[0].image.shape
        distances = [np.abs(image - frame.image.astype(float)).mean() for frame in frames]
        best = int(np.argmin(distances))
        assert distances[best] < self.tolerance
        return best

    def fail(self, sink: Sink) -> None:
        """Give it what it cannot take; it may notice late, but not later than at its end."""
        sink.write(Frame(np.zeros((64, 96, 3), np.float64), 0, Fraction(1, 25), 1, "0.png"))
        sink.close()

    def outputs(self, tmp_path: Path) -> list[str]:
        """Return the files that stand there, hidden ones too."""
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(tmp_path)) for path in found)

    def test_frames_arrive_in_order_at_their_times(
        self, make: Callable[..., Sink], frames: list[Frame], tmp_path: Path
    ) -> None:
        sink = make()
        _write(sink, frames)
        sink.close()
        arrived = self.arrived(sink, tmp_path)
        if self.all_arrive:
            assert len(arrived) == len(frames)
        found = [self.which(image, frames) for _, image in arrived]
        assert found
        assert found == sorted(set(found))
        start_s, first = arrived[0][0], frames[found[0]]
        if start_s is not None:
            times = [seconds - start_s for seconds, _ in arrived]
            expected = [(frames[one].pts - first.pts) * first.time_base for one in found]
            assert times == pytest.approx([float(one) for one in expected], abs=1.1e-3)

    def test_images_are_only_read(self, make: Callable[..., Sink], frames: list[Frame]) -> None:
        for frame in frames:
            frame.image.flags.writeable = False
        sink = make()
        _write(sink, frames)
        sink.close()

    def test_abort_before_the_first_frame_leaves_nothing(
        self, make: Callable[..., Sink], tmp_path: Path
    ) -> None:
        make().abort()
        assert self.outputs(tmp_path) == []

    def test_abort_after_a_failure_leaves_nothing(
        self, make: Callable[..., Sink], tmp_path: Path
    ) -> None:
        sink = make()
        with pytest.raises(SinkError) as caught:
            self.fail(sink)
        assert "\n" not in str(caught.value)
        sink.abort()
        assert self.outputs(tmp_path) == []


class FileSinkTests(SinkTests):
    """Conformance tests of sinks that write files.

    Attributes
    ----------
    stays : bool
        What was finished stays when a later frame fails.
    kept : int or None
        How many files `abort` leaves after all frames but the last; ``None`` for none, or one
        of each frame where they stay.
    refuses : bool
        It refuses a name that is taken; otherwise it takes another one.
    """

    stays = False
    kept: int | None = None
    refuses = True

    def test_the_name_appears_with_close(
        self, make: Callable[..., Sink], frames: list[Frame], tmp_path: Path
    ) -> None:
        sink = make()
        _write(sink, frames)
        if not self.stays:
            assert all(name.startswith(".") for name in self.outputs(tmp_path))
        sink.close()
        names = self.outputs(tmp_path)
        assert names
        assert not any("part" in name for name in names)

    def test_what_abort_leaves(
        self, make: Callable[..., Sink], frames: list[Frame], tmp_path: Path
    ) -> None:
        sink = make()
        _write(sink, frames[: self.count - 1])
        sink.abort()
        kept = self.count - 1 if self.stays else 0
        names = self.outputs(tmp_path)
        assert len(names) == (kept if self.kept is None else self.kept)
        assert not any("part" in name for name in names)

    def test_nothing_is_overwritten_unasked(
        self, make: Callable[..., Sink], frames: list[Frame], tmp_path: Path
    ) -> None:
        sink = make()
        _write(sink, frames)
        sink.close()
        before = {name: (tmp_path / name).read_bytes() for name in self.outputs(tmp_path)}
        if self.refuses:
            with pytest.raises(SinkError, match="exists; add --overwrite"):
                make()
        else:
            again = make()
            _write(again, frames)
            again.close()
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
        make(overwrite=True).abort()
        assert before == {name: (tmp_path / name).read_bytes() for name in before}


def _write(sink: Sink, frames: list[Frame]) -> None:
    for frame in frames:
        sink.write(frame)


def _picture(index: int) -> Image:
    """Return a smooth picture, which codecs keep well, unlike that of any other index."""
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float32)
    red = 128 + 90 * np.sin(x / 17 + index * 1.8)
    green = 128 + 90 * np.sin(y / 13 - index * 1.3)
    blue = 128 + 90 * np.sin((x + y) / 23 + index * 3)
    image: Image = np.rint(np.stack([red, green, blue], -1)).astype(np.uint8)
    return image
