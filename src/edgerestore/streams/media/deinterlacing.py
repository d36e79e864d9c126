"""Deinterlacing: one whole frame of each interlaced one, by FFmpeg's bwdif."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter

__all__ = ["Deinterlacer"]


class Deinterlacer:
    """Deinterlacer of decoded pictures; progressive ones go through untouched.

    The filter (`bwdif`, Burt and Rudge, after Weston's and yadif) looks at the picture before and
    the one after, so it runs from the first interlaced picture on, one picture late.

    Parameters
    ----------
    time_base : Fraction
        Of the pictures' timestamps.

    Attributes
    ----------
    count : int
        Pictures that were interlaced.
    """

    def __init__(self, time_base: Fraction) -> None:
        self.count = 0
        self._time_base = time_base
        self._graph: av.filter.Graph | None = None
        self._look: tuple[object, ...] = ()

    def __call__(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take a picture; yield those that are ready."""
        self.count += picture.interlaced_frame
        look = picture.width, picture.height, picture.format.name
        if self._graph is not None and look != self._look:
            yield from self.flush()
        if self._graph is None and not picture.interlaced_frame:
            yield picture
            return
        if self._graph is None:
            self._graph, self._look = self._made(picture), look
        self._graph.push(picture)
        yield from self._ready()

    def flush(self) -> Iterator[av.VideoFrame]:
        """Yield the picture that is held."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None

    def _made(self, picture: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=picture.width,
            height=picture.height,
            format=picture.format,
            time_base=self._time_base,
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph

    def _ready(self) -> Iterator[av.VideoFrame]:
        while self._graph is not None:
            try:
                picture = self._graph.pull()
            except (BlockingIOError, av.error.EOFError):
                return
            if isinstance(picture, av.VideoFrame):
                if picture.pts is not None and picture.time_base:  # the filter counts in halves
                    by = picture.time_base / self._time_base
                    picture.pts = round(picture.pts * by)
                    picture.duration = round((picture.duration or 0) * by)
                    picture.time_base = self._time_base
                yield picture
