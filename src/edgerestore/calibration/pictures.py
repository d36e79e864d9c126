"""Calibration pictures from files: photographs, frames of videos, and pairs with ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, SourceError
from ..imaging import arrays
from ..imaging.arrays import Planes, planes_of
from ..imaging.degradations import Degradation
from ..imaging.error_translation import silenced, translated
from ..imaging.image_files import decode_image, files_in, image_suffixes, pictures_in
from ..streams.media.color import ToRgb
from ..streams.media.frames import file_address
from ..streams.options import VIDEO_SUFFIXES
from ..streams.sources.files import VideoFileSource
from .kinds import InputKind

__all__ = [
    "Pair",
    "PairReader",
    "PictureFile",
    "find_files",
    "find_targets",
    "read_pictures",
]

Image = NDArray[np.float32]


_FRAMES = 8  # of a video
_MARGIN_PX = 16  # real pixels beyond a crop that a degradation sees; the protocol blurs less far
_SEEK_S = 2  # a frame that is nearer is reached sooner by decoding on than from a key frame


@dataclass(frozen=True)
class PictureFile:
    """File of a picture or a video.

    Parameters
    ----------
    path : Path
    name : str
        Unique among all the files; without the folders above its own.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether its extension is a video's."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_files(paths: Sequence[Path]) -> list[PictureFile]:
    """Find pictures and videos.

    Parameters
    ----------
    paths : sequence of Path
        Files, and folders, of which the files directly inside are taken, by name. Hidden
        files are left out, and a file that is named twice counts once.

    Raises
    ------
    ArgumentError
        For a path that is not there, a file of another kind, a folder without any.
    """
    known = image_suffixes() | VIDEO_SUFFIXES
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise ArgumentError(f"--calibrate {path}: no such file or folder; check the path")
        inside = [path] if path.is_file() else files_in(path, known)
        if not inside or inside[0].suffix.lower() not in known:
            raise ArgumentError(
                f"--calibrate {path}: {'is' if path.is_file() else 'holds'} no picture or video;"
                f" these are: {' '.join(sorted(known))}"
            )
        for file in inside:
            found.setdefault(file.resolve(), file)
    return _named(list(found.values()))


def find_targets(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by their stems; of two with one stem the first by name.

    Raises
    ------
    ArgumentError
        When it is no folder, or holds no picture.
    """
    return {path.stem: path for path in reversed(pictures_in("--targets", folder))}


def read_pictures(path: Path, channels: int) -> Iterator[tuple[str, Image]]:
    """Read the pictures of a file, the same ones each time.

    Parameters
    ----------
    path : Path
        A picture of 8 or 16 bits or floats in [0, 1], or a video, of which up to eight
        frames are read, spread evenly.
    channels : int
        1 or 3. Colour becomes grey by BT.601's weights, grey becomes three equal
        channels, transparency is left out.

    Yields
    ------
    which : str
        Empty for a picture, `` frame 12`` for a video's.
    image : ndarray, f32, shape (H, W, channels)
        RGB, in [0, 1].

    Raises
    ------
    SourceError
        When nothing in it can be read. Nothing is printed.
    """
    with silenced():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            decoded = _read_frames(path)
        else:
            decoded = [("", decode_image(path)[0])]
    for which, image in decoded:
        yield which, _as_floats(image, channels)


def _named(paths: Sequence[Path]) -> list[PictureFile]:
    """Give every file a unique name: with its folder's, or a number, where needed."""
    files: dict[str, Path] = {}
    for path in paths:
        name = path.name if path.name not in files else f"{path.parent.name}/{path.name}"
        copy = 2
        while name in files:
            name, copy = f"{path.name} ({copy})", copy + 1
        files[name] = path
    return [PictureFile(path, name) for name, path in files.items()]


def _as_floats(image: arrays.Image, channels: int) -> Image:
    peak = np.float32(arrays.Depth(image.dtype.name).peak)
    colour: Image = np.atleast_3d(image)[..., :3].astype(np.float32) / peak
    if channels == 1 and colour.shape[2] == 3:
        colour = arrays.luma(colour)[..., None]
    elif channels == 3 and colour.shape[2] == 1:
        colour = np.repeat(colour, 3, axis=2)
    return np.ascontiguousarray(colour)


def _read_frames(path: Path) -> list[tuple[str, arrays.Image]]:
    """Read frames at evenly spread times; a long video costs little more than a short one."""
    source = VideoFileSource(path)
    facts = source.info
    source.close()
    frames = []
    with (
        translated(SourceError, path),
        av.open(file_address(path), metadata_errors="replace") as container,
    ):
        video = container.streams.best("video")
        if not isinstance(video, av.VideoStream):
            raise SourceError(f"{path}: holds no video; check the file")
        base = video.time_base or Fraction(1, 90_000)
        begin = video.start_time or 0
        # From a video of unknown duration, a frame of each of the first seconds.
        known = container.duration is not None and container.duration > 0
        seconds = Fraction(container.duration or 0, av.time_base * _FRAMES) if known else 1
        to_rgb = ToRgb(facts.color, video.codec_context.name)
        last = begin - 1
        for index in range(_FRAMES):
            offset = seconds * (Fraction(2 * index + 1, 2) if known else index)
            wanted = max(begin + int(offset / base), last + 1)
            frame = _frame_at(container, video, wanted, seek=seconds > _SEEK_S)
            if frame is None or frame.pts is None:
                continue
            last = frame.pts
            number = round((last - begin) * base * facts.rate)
            frames.append((f" frame {number}", to_rgb(frame)))
    if not frames:
        raise SourceError(f"{path}: no frame of its video can be decoded; check the file")
    return frames


def _frame_at(
    container: av.container.InputContainer, video: av.VideoStream, pts: int, *, seek: bool
) -> av.VideoFrame | None:
    """Return the first frame from a time on, None where there is none or it is damaged."""
    try:
        if seek:
            container.seek(pts, stream=video)
        for frame in container.decode(video):
            if frame.pts is not None and frame.pts >= pts:
                return frame
    except av.error.FFmpegError:
        return None
    return None


@dataclass(frozen=True, eq=False)
class Pair:
    """Picture, and its degraded version where that is given.

    Parameters
    ----------
    name : str
        ``01.png``, ``clip.mp4 frame 12``.
    finest : ndarray, f32, shape (H, W, C)
        Ground truth, or the picture itself without one; in [0, 1].
    given : ndarray, f32, shape (h, w, C), or None
        Input of the model, in [0, 1]; None where the degradation makes it.
    """

    name: str
    finest: Image
    given: Image | None


@dataclass(frozen=True)
class PairReader:
    """Reader of files as pairs of input and ground truth.

    Parameters
    ----------
    channels : int
        Of the model.
    degradation : Degradation
        What the model removes; ``none`` where there is no ground truth. Its `upscale` alone counts
        with targets.
    crop_px : int
        Side of a crop of the model's input.
    targets : mapping of str to Path, or None
        Ground truth of each picture, by the stem of its name.
    """

    channels: int
    degradation: Degradation
    crop_px: int
    targets: Mapping[str, Path] | None

    @property
    def has_truth(self) -> bool:
        """Whether there is ground truth: for all files or none."""
        return self.targets is not None or self.degradation.kind != "none"

    @property
    def scale(self) -> int:
        """Pixels of `Pair.finest` along each of the model's input."""
        return self.degradation.upscale if self.has_truth else 1

    def read(self, file: PictureFile) -> Iterator[Pair]:
        """Read the pairs of a file: one, or a video's few.

        Raises
        ------
        SourceError
            When the file cannot be used. The message is the reason, without the file's name;
            its part before a parenthesis is the same for all files with that reason.
        """
        for which, image in _read_or_refuse(file.path, self.channels, "unreadable"):
            height, width = image.shape[:2]
            side = self.crop_px if self.targets is not None else self.crop_px * self.scale
            if min(height, width) < side:
                raise SourceError(f"smaller than {side}x{side} ({width}x{height})")
            name = f"{file.name}{which}"
            if self.targets is not None:
                yield Pair(name, self._target(file, height, width), image)
            elif self.has_truth:
                rows, columns = (length // self.scale * self.scale for length in (height, width))
                yield Pair(name, image[:rows, :columns], None)
            else:
                yield Pair(name, image, image)

    def cut(
        self, pair: Pair, kind: InputKind, x: int, y: int, rng: np.random.Generator
    ) -> tuple[Planes, Planes | None]:
        """Cut a crop.

        Parameters
        ----------
        pair : Pair
        kind : InputKind
            Of input to make.
        x, y : int
            Left and top, in pixels of the model's input.
        rng : numpy.random.Generator
            For the degradations: each crop has a blur and a noise of its own.

        Returns
        -------
        image : ndarray, f32, shape (1, C, crop_px, crop_px)
        truth : ndarray, f32, shape (1, C, crop_px * upscale, crop_px * upscale), or None
        """
        side, scale = self.crop_px, self.scale
        source, of_input = pair.given, 1
        if source is None or kind.from_clean:
            source, of_input = pair.finest, scale
        left, top = max(0, x - _MARGIN_PX), max(0, y - _MARGIN_PX)
        right, bottom = x + side + _MARGIN_PX, y + side + _MARGIN_PX
        around = source[top * of_input : bottom * of_input, left * of_input : right * of_input]
        made = kind.apply(np.ascontiguousarray(around), rng)
        image = planes_of(made[y - top : y - top + side, x - left : x - left + side])
        if not (self.has_truth and kind.by_truth):
            return image, None
        truth = pair.finest[y * scale : (y + side) * scale, x * scale : (x + side) * scale]
        return image, planes_of(kind.toned(truth))

    def _target(self, file: PictureFile, height: int, width: int) -> Image:
        path = (self.targets or {}).get(file.path.stem)
        if file.is_video or path is None:
            raise SourceError("without a target")
        ((_, target),) = _read_or_refuse(path, self.channels, "with an unreadable target")
        upscale = self.degradation.upscale
        wanted = height * upscale, width * upscale
        if target.shape[:2] != wanted:
            raise SourceError(
                f"with a target of another size than {upscale} times its own"
                f" ({target.shape[1]}x{target.shape[0]} for {width}x{height})"
            )
        return target


def _read_or_refuse(path: Path, channels: int, failure: str) -> Iterator[tuple[str, Image]]:
    try:
        yield from read_pictures(path, channels)
    except SourceError as error:
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
        raise SourceError(f"{failure} ({reason})") from error
