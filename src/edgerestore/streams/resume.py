"""Resumption of a video that was ended early: what is encoded already is joined without loss."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ..errors import SinkError
from ..imaging.error_translation import translated
from .media.frames import DONE, Frame, Item, Passthrough, file_address
from .protocols import Source

__all__ = ["PartialVideo", "ResumedSource", "write_record"]

# As encoders write it: mp4 and mkv store lengths in place of start codes.
_TO_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}

_ROUNDING_S = Fraction(1, 1000)  # Matroska counts milliseconds


def _record_of(partial: Path) -> Path:
    return partial.with_name(f".{partial.name}.json")


def write_record(partial: Path, settings: Mapping[str, Any]) -> None:
    """Note beside a partial video what it was made of and with."""
    with translated(SinkError, partial):
        _record_of(partial).write_text(json.dumps(_record(partial, settings)), encoding="utf-8")


def _record(partial: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    with partial.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "av": av.__version__, **settings}


class PartialVideo:
    """Encoded frames of a video that was ended early.

    Parameters
    ----------
    path : Path
    settings : mapping of JSON values
        What the run is made of and with; it must be what the partial video was made with.

    Raises
    ------
    SinkError
        Where it was made otherwise, was changed since, or cannot be read.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        with translated(SinkError, path):
            try:
                noted = json.loads(_record_of(path).read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError) as error:
                raise SinkError(
                    f"{path}: nothing says how it was made; remove it, or leave --resume out"
                ) from error
            # As it is read back: JSON knows no tuples.
            wanted = json.loads(json.dumps(_record(path, settings)))
        keys = wanted.keys() | noted.keys()
        other = sorted(key for key in keys if wanted.get(key) != noted.get(key))
        if other:
            raise SinkError(
                f"{path}: was made otherwise ({', '.join(other)}); run as before, or remove it"
            )
        with translated(SinkError, path), av.open(file_address(path)) as container:
            video = container.streams.video[0]
            self.width, self.height = video.width, video.height
            shown = [
                packet.pts * packet.time_base
                for packet in container.demux(video)
                if packet.pts is not None and packet.time_base is not None
            ]
        self.times_s = sorted(shown)

    def packets(self, begins_s: Fraction) -> Iterator[Passthrough]:
        """Yield the encoded frames in decoding order; the first is shown at a time of the input."""
        shift_s = begins_s - self.times_s[0]
        with translated(SinkError, self.path), av.open(file_address(self.path)) as container:
            video = container.streams.video[0]
            name = _TO_ANNEX_B.get(video.codec_context.codec.canonical_name)
            clock = video.time_base or Fraction(1, av.time_base)
            convert = av.BitStreamFilterContext(name, video) if name else None
            for packet in container.demux(video):
                if packet.size:
                    for one in convert.filter(packet) if convert else [packet]:
                        shift = round(shift_s / clock)
                        one.time_base = clock
                        one.pts = None if one.pts is None else one.pts + shift
                        one.dts = None if one.dts is None else one.dts + shift
                        yield Passthrough(one, DONE)

    def remove(self) -> None:
        """Remove it and its record, since it is in the whole."""
        self.path.unlink(missing_ok=True)
        _record_of(self.path).unlink(missing_ok=True)


class ResumedSource:
    """`Source` that has encoded frames in place of those that are done.

    Parameters
    ----------
    source : Source
        Of the file, from its beginning.
    partial : PartialVideo
    """

    interruptible = False

    def __init__(self, source: Source, partial: PartialVideo) -> None:
        self._source, self._partial = source, partial
        self.live = source.live
        self.lost: Counter[str] = source.lost
        expected, done = source.expected_frames, len(partial.times_s)
        self.expected_frames = None if expected is None else max(0, expected - done)
        self._items = self._read()

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains."""
        return self._items

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _read(self) -> Iterator[Item]:
        times_s = self._partial.times_s
        packets: Iterator[Passthrough] = iter(())
        began_s, done = Fraction(0), 0
        for item in self._source:
            if not isinstance(item, Frame) or done >= len(times_s):
                yield item
                continue
            at_s = item.pts * item.time_base
            if not done:
                began_s, packets = at_s, self._partial.packets(at_s)
            if abs(at_s - began_s - (times_s[done] - times_s[0])) > item.time_base + _ROUNDING_S:
                raise SinkError(
                    f"{self._partial.path}: its frames are not those of the input; remove it"
                )
            done += 1
            yield next(packets)
