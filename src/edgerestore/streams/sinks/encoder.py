"""What every encoder is told of the pictures that it will get."""

from __future__ import annotations

from fractions import Fraction

import av

from ..media.facts import ColorTags

__all__ = ["prepare_encoder"]


def prepare_encoder(
    stream: av.VideoStream,
    *,
    size: tuple[int, int],
    pix_fmt: str,
    clock: Fraction,
    tags: ColorTags,
    aspect: Fraction | None,
    threads: int,
) -> None:
    """Set up an encoder before it is opened.

    Parameters
    ----------
    stream : av.VideoStream
        Its container's header is not written yet.
    size : (int, int)
        Width and height.
    pix_fmt : str
    clock : Fraction
        Seconds of one unit of its timestamps.
    tags : ColorTags
    aspect : Fraction or None
        Width of a pixel over its height; ``None`` where nobody said.
    threads : int
    """
    context = stream.codec_context
    context.width, context.height = size
    context.pix_fmt = pix_fmt
    context.time_base = stream.time_base = clock
    context.color_primaries = tags.primaries
    context.color_trc = tags.transfer
    context.colorspace = tags.matrix
    if tags.full_range is not None:
        context.color_range = 2 if tags.full_range else 1
    if aspect is not None:
        context.sample_aspect_ratio = aspect
    context.thread_count = threads
