"""What every sink must do; a new one's test is a subclass."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from edgerestore.errors import SinkError
from edgerestore.streams.media.frames import Frame


def read_video(path):
    """Return (seconds, image) of each frame of a file, or of a file object."""
    with av.open(path if hasattr(path, "read") else str(path)) as container:
        return [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


class SinkContract:
    """Subclass it, and give `make` and `arrived`.

    Attributes
    ----------
    count : int
        How many frames a sink is given.
    all_arrive : bool
        Whether no frame may be missing.
    tolerance : float
        Grey levels that a picture may differ in the mean.
    """

    count = 4
    all_arrive = True
    tolerance = 4.0

    @pytest.fixture
    def make(self, tmp_path):
        """Return a function: keyword options -> a sink, into the empty folder tmp_path."""
        raise pytest.UsageError("a subclass gives the sink")

    def arrived(self, sink, tmp_path):
        """Return what came out of a closed sink: (seconds or None, image) of each frame."""
        raise pytest.UsageError("a subclass looks what arrived")

    @pytest.fixture
    def frames(self, picture_at):
        return [
            Frame(picture_at(index * 9, 64, 96), index, Fraction(1, 25), 1, f"{index}.png")
            for index in range(self.count)
        ]

    def test_frames_arrive_in_order_at_their_times(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
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

    def which(self, image, frames):
        """Return the index of the frame that a picture shows."""
        assert image.shape == frames[0].image.shape
        distances = [np.abs(image - frame.image.astype(float)).mean() for frame in frames]
        best = int(np.argmin(distances))
        assert distances[best] < self.tolerance
        return best

    def test_images_are_only_read(self, make, frames, tmp_path):
        for frame in frames:
            frame.image.flags.writeable = False
        sink = make()
        for frame in frames:
            sink.write(frame)
        sink.close()

    def test_abort_before_the_first_frame(self, make, tmp_path):
        make().abort()
        assert self.outputs(tmp_path) == []

    def test_abort_after_a_failure(self, make, frames, tmp_path):
        sink = make()
        with pytest.raises(SinkError) as caught:
            self.fail(sink)
        assert "\n" not in str(caught.value)
        sink.abort()
        assert self.outputs(tmp_path) == []

    def fail(self, sink):
        """Give it what it cannot take; it may notice late, but not later than at its end."""
        sink.write(Frame(np.zeros((64, 96, 3), np.float64), 0, Fraction(1, 25), 1, "0.png"))
        sink.close()

    def outputs(self, tmp_path):
        """Return what stands there, by name, hidden files too."""
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(tmp_path)) for path in found)


class FileSinkContract(SinkContract):
    """What sinks into files must do besides.

    Attributes
    ----------
    stays : bool
        Whether what was finished stays when a later frame fails.
    kept : int or None
        How many files `abort` leaves after all frames but the last; ``None`` for none, or one
        of each frame where they stay.
    refuses : bool
        Whether it refuses a name that is taken; otherwise it takes another one.
    """

    stays = False
    kept = None
    refuses = True

    def test_the_name_appears_with_close(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
        if not self.stays:
            assert all(name.startswith(".") for name in self.outputs(tmp_path))
        sink.close()
        names = self.outputs(tmp_path)
        assert names
        assert not any("part" in name for name in names)

    def test_what_abort_leaves(self, make, frames, tmp_path):
        sink = make()
        for frame in frames[: self.count - 1]:
            sink.write(frame)
        sink.abort()
        kept = self.count - 1 if self.stays else 0
        if self.kept is not None:
            kept = self.kept
        assert len(self.outputs(tmp_path)) == kept
        assert not any("part" in name for name in self.outputs(tmp_path))

    def test_nothing_is_overwritten_unasked(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
        sink.close()
        before = {name: (tmp_path / name).read_bytes() for name in self.outputs(tmp_path)}
        if self.refuses:
            with pytest.raises(SinkError, match="exists; add --overwrite"):
                make()
        else:
            again = make()
            for frame in frames:
                again.write(frame)
            again.close()
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
        make(overwrite=True).abort()
        assert before == {name: (tmp_path / name).read_bytes() for name in before}
