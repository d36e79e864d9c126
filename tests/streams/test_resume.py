"""A video that was ended early goes on: nothing is encoded twice, nothing is missing."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import av
import numpy as np
import pytest

from edgerestore.errors import SinkError
from edgerestore.streams.options import InputKind, LiveOptions, VideoOptions
from edgerestore.streams.session import Session

from ..checked import not_none

FRAMES = 90


class Inverter:
    """Inverts; sets an event at one of its images."""

    depth = 2

    def __init__(self, stop=None, at=0):
        self.stop, self.at, self.count = stop, at, 0

    def submit(self, image):
        self.count += 1
        if self.stop is not None and self.count == self.at:
            self.stop.set()
        done: Future[object] = Future()
        done.set_result(255 - image)
        return done


def restore(source, output, *, stop_at=None, resume=False, **settings):
    stop = threading.Event()
    restorer = Inverter(stop, stop_at)
    options = LiveOptions(resume=resume, **settings)
    with Session(restorer, str(source), [output], options, kind=InputKind.VIDEO) as session:
        session.run(stop)
    return restorer.count


def look(path):
    """Return times and pictures of the video, and the packets of the sound."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = [
            (not_none(one.pts) * not_none(one.time_base), one.to_ndarray(format="rgb24"))
            for one in container.decode(video)
        ]
    with av.open(str(path)) as container:
        sound = [bytes(one) for one in container.demux() if one.stream.type == "audio" and one.size]
    return [at for at, _ in frames], np.array([image for _, image in frames]), sound


@pytest.mark.parametrize(
    ("extension", "codec"),
    [("mp4", None), ("mkv", None), ("mkv", "ffv1"), ("mp4", "libx265"), ("webm", "libvpx-vp9")],
)
def test_it_is_as_if_it_had_never_ended(tmp_path, clip, notices, extension, codec):
    source = clip(tmp_path / "in.mkv", frames=FRAMES, size=(64, 48), audio=extension != "webm")
    video = VideoOptions(codec=codec)
    whole, output = tmp_path / f"whole.{extension}", tmp_path / f"out.{extension}"
    restore(source, whole, video=video)
    first = restore(source, output, stop_at=30, video=video)
    second = restore(source, output, stop_at=20, resume=True, video=video)
    assert not output.exists()
    third = restore(source, output, resume=True, video=video)
    assert first + second + third == FRAMES
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {source.name, whole.name, output.name}
    (wanted_s, wanted, wanted_sound), (found_s, found, sound) = look(whole), look(output)
    assert found_s == wanted_s
    assert sound == wanted_sound
    # Lossy frames are of another group of pictures, and so rounded otherwise.
    most = 0.0 if codec == "ffv1" else 8.0
    assert np.abs(found.astype(int) - wanted).mean(axis=(1, 2, 3)).max() <= most


def test_what_was_made_otherwise_is_not_joined(tmp_path, clip, notices):
    source, output = clip(tmp_path / "in.mkv", frames=FRAMES, size=(64, 48)), tmp_path / "out.mp4"
    restore(source, output, stop_at=30)
    with pytest.raises(SinkError, match=r"out\.partial\.mp4: was made otherwise \(strength_is\)"):
        restore(source, output, resume=True, settings={"strength_is": 0.5})
    with pytest.raises(SinkError, match=r"made otherwise \(encoder\)"):
        restore(source, output, resume=True, video=VideoOptions(crf=30))
    (tmp_path / ".out.partial.mp4.json").unlink()
    with pytest.raises(SinkError, match="nothing says how it was made"):
        restore(source, output, resume=True)
    assert not output.exists()


def test_without_a_part_it_begins(tmp_path, clip, notices):
    source, output = clip(tmp_path / "in.mkv", frames=5, size=(64, 48)), tmp_path / "out.mp4"
    assert restore(source, output, resume=True) == 5
    assert any("is not there, so the video is begun" in line for line in notices)
