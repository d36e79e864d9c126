"""Real media files, made on the spot, and a stand-in for the restorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.streams.events import notices_to
from edgerestore.streams.options import VideoOptions
from edgerestore.streams.session import restore_path


def draw(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture that differs from frame to frame, so that codecs keep it well."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    red = 128 + 90 * np.sin(x / 17 + index / 5)
    green = 128 + 90 * np.sin(y / 13 - index / 7)
    blue = 128 + 90 * np.sin((x + y) / 23 + index / 3)
    image: NDArray[np.uint8] = np.rint(np.stack([red, green, blue], -1)).astype(np.uint8)
    return image


def write_clip(
    path: Path,
    *,
    frames: int = 20,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 90_000),
    audio: bool = False,
    pix_fmt: str = "yuv420p",
    tags: tuple[int, int, int, int] = (1, 1, 1, 1),
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    options: dict[str, str] | None = None,
    chapters: bool = False,
    cover: bytes | None = None,
) -> Path:
    """Write a small video, with B-frames where the codec has them."""
    width, height = size
    pts = list(pts) if pts is not None else [index * 3600 for index in range(frames)]
    with av.open(
        str(path), "w", container_options={"video_track_timescale": str(time_base.denominator)}
    ) as container:
        if cover is not None:
            picture: Any = container.add_stream("png", rate=1)
            picture.width = picture.height = 16
            picture.pix_fmt = "rgb24"
            picture.disposition = 1 << 10
        stream: Any = container.add_stream(
            codec, rate=25, options={"threads": "1"} | (options or {})
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.time_base = stream.time_base = time_base
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        context.flags |= 1 << 8
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        sound: Any = container.add_stream("aac", rate=48_000) if audio else None
        if sound is not None:
            sound.metadata["language"] = "fra"
        if chapters:
            chapter = {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000)}
            container.set_chapters([{**chapter, "metadata": {"title": "one"}}])  # type: ignore[typeddict-item]
        container.metadata["title"] = "a title"
        if cover is not None:
            still = av.VideoFrame.from_ndarray(draw(0, 16, 16), format="rgb24")
            container.mux(picture.encode(still))
        samples = 0
        for index, when in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(draw(index, height, width), format="rgb24")
            frame = frame.reformat(
                format=pix_fmt,
                dst_colorspace=1 if tags[2] == 1 else 5,
                dst_color_range=tags[3] or 1,
            )
            frame.pts, frame.time_base = when, time_base
            frame.duration = pts[index + 1] - when if index + 1 < len(pts) else 3600
            container.mux(stream.encode(frame))
            while sound is not None and samples < 48_000 * (when + 3600) * time_base:
                tone = np.sin(np.arange(samples, samples + 1024) * 0.05).astype(np.float32)
                chunk = av.AudioFrame.from_ndarray(
                    np.stack([tone, tone]) * 0.2, format="fltp", layout="stereo"
                )
                chunk.sample_rate, chunk.pts = 48_000, samples
                samples += 1024
                container.mux(sound.encode(chunk))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))
    return path


class Echo:
    """Restores nothing: gives each image back from a pool of threads, out of order."""

    depth = 3
    device = "echo"
    precision = "none"

    def __init__(
        self,
        change: Callable[[NDArray[Any]], NDArray[Any]] = lambda image: image,
        fail_at: int | None = None,
        delay: Callable[[int], None] = lambda index: None,
    ) -> None:
        self.seen = 0
        self._change = change
        self._fail_at = fail_at
        self._delay = delay
        self._pool = ThreadPoolExecutor(3, thread_name_prefix="echo")

    def submit(self, image: NDArray[Any]) -> Future[NDArray[Any]]:
        self.seen += 1
        return self._pool.submit(self._one, image, self.seen)

    def _one(self, image: NDArray[Any], index: int) -> NDArray[Any]:
        self._delay(index)
        if index == self._fail_at:
            raise RuntimeError("the model broke")
        return self._change(image)

    def close(self) -> None:
        self._pool.shutdown()


class Read:
    """What a video file holds, taken apart."""

    def __init__(self, path: Path) -> None:
        self.pts: list[Fraction] = []
        self.durations: list[Fraction] = []
        self.images: list[NDArray[Any]] = []
        self.packets: dict[str, list[tuple[int | None, int | None, bytes]]] = {}
        with av.open(str(path)) as container:
            self.format = container.format.name
            self.metadata = dict(container.metadata)
            self.chapters = container.chapters()
            self.types = [stream.type for stream in container.streams]
            self.languages = [stream.metadata.get("language") for stream in container.streams]
            video: Any = next(s for s in container.streams.video if not s.disposition & 1 << 10)
            self.aspect = video.sample_aspect_ratio
            self.pix_fmt = video.codec_context.pix_fmt
            self.codec = video.codec_context.name
            for packet in container.demux():
                if packet.stream.index == video.index:
                    for frame in packet.decode():
                        self._take(frame)
                elif packet.size:
                    kept = self.packets.setdefault(packet.stream.type, [])
                    kept.append((packet.pts, packet.dts, bytes(packet)))

    def _take(self, frame: Any) -> None:
        if not self.images:
            self.tags = (
                frame.color_primaries,
                frame.color_trc,
                frame.colorspace,
                frame.color_range,
            )
            self.rotation = frame.rotation
            self.size = frame.width, frame.height
        self.pts.append(frame.pts * frame.time_base)
        self.images.append(frame.to_ndarray(format="rgb24", interpolation="POINT"))


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    return write_clip


@pytest.fixture(scope="session")
def picture_at() -> Callable[[int, int, int], NDArray[np.uint8]]:
    return draw


@pytest.fixture(scope="session")
def read() -> type[Read]:
    return Read


@pytest.fixture
def echo() -> Any:
    made: list[Echo] = []

    def make(**arguments: Any) -> Echo:
        made.append(Echo(**arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _log_lines(request) -> Any:
    """Nothing is logged but where a test looks at it."""
    lines: list[str] = []
    with notices_to(lines.append):
        yield lines
    if "notices" not in request.fixturenames:
        assert lines == []


@pytest.fixture
def notices(_log_lines: list[str]) -> list[str]:
    return _log_lines


@pytest.fixture(autouse=True)
def _no_thread_left() -> Any:
    import threading

    yield
    left = [one.name for one in threading.enumerate() if one.name.startswith("edgerestore-")]
    assert not left


@pytest.fixture
def restore(echo, notices, tmp_path):
    """Run a whole job on a video file; return what it wrote and how it went."""

    def run(source, name="out.mp4", restorer=None, **options):
        keywords = {
            key: options.pop(key) for key in ("overwrite", "progress", "stop") if key in options
        }
        output = tmp_path / name
        keywords.setdefault("progress", "none")
        summary = restore_path(
            restorer or echo(),
            str(source),
            output,
            video=VideoOptions(**options),
            **keywords,
        )
        return output, summary

    return run
