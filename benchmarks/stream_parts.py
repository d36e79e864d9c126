"""The stages of a stream, each alone, by the very classes that the pipeline uses."""

from __future__ import annotations

import os
from pathlib import Path

from edgerestore.engine.restorer import Restorer
from edgerestore.imaging.metrics import psnr
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.session import codec_threads, restore_path
from edgerestore.streams.sinks.files import VideoFileSink
from edgerestore.streams.sources.files import VideoFileSource

from .harness import rate

__all__ = ["Parts"]


class Parts:
    """A clip, its restored frames in memory, and the speed of each stage in frames a second."""

    def __init__(self, clip: Path, folder: Path, restorer: Restorer) -> None:
        self.clip, self.folder, self.restorer = clip, folder, restorer
        self.engine_threads = codec_threads(os.cpu_count() or 1)
        self.frames = self._decode(self.engine_threads)
        images = [frame.image for frame in self.frames]
        self.restored = list(restorer.stream(images))
        self.count = len(self.frames)

    def decode(self, threads: int) -> float:
        return rate(self.count, lambda: self._decode(threads))

    def model(self) -> float:
        frames = (frame.image for frame in self.frames)
        return rate(self.count, lambda: sum(1 for _ in self.restorer.stream(frames)))

    def encode(self, threads: int) -> float:
        source = VideoFileSource(self.clip)
        info = source.info

        def work() -> None:
            sink = VideoFileSink(
                self.folder / "alone.mp4",
                info,
                SinkOptions(overwrite=True, threads=threads),
            )
            for frame, image in zip(self.frames, self.restored, strict=True):
                sink.write(Frame(image, frame.pts, frame.time_base, frame.duration))
            sink.close()

        encoded = rate(self.count, work)
        source.close()
        return encoded

    def whole(self) -> float:
        output = self.folder / "whole.mp4"
        summary = None

        def work() -> None:
            nonlocal summary
            summary = restore_path(
                self.restorer,
                str(self.clip),
                output,
                overwrite=True,
                progress="none",
            )

        speed = rate(self.count, work)
        assert summary is not None
        assert (summary.frames_in, summary.frames_out) == (self.count, self.count)
        return speed

    def check(self) -> None:
        """The file holds the restored frames, in order, at their times."""
        source = VideoFileSource(self.folder / "whole.mp4")
        seen = [item for item in source if isinstance(item, Frame)]
        source.close()
        assert len(seen) == self.count
        for now, before, image in zip(seen, self.frames, self.restored, strict=True):
            assert now.pts * now.time_base == before.pts * before.time_base
            assert psnr(now.image, image) > 30

    def _decode(self, threads: int) -> list[Frame]:
        source = VideoFileSource(self.clip, threads=threads)
        frames = [item for item in source if isinstance(item, Frame)]
        source.close()
        return frames
