"""How restored video is encoded: what may be chosen, and what is chosen otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import av

from ...errors import SinkError
from .color import is_rgb, sample_bits

__all__ = ["Encoding", "VideoOptions", "check_size", "choose_encoding"]


@dataclass(frozen=True)
class VideoOptions:
    """What a person may choose about the encoder; ``None`` leaves it to the defaults.

    Parameters
    ----------
    codec : str or None
        An encoder of FFmpeg. By default ``libx264``, or what the container prefers where it
        cannot hold that.
    crf : float or None
        Constant quality, in the encoder's own scale; lower is better and larger.
    preset : str or None
        Speed against size, in the encoder's own words.
    pix_fmt : str or None
        By default ``yuv420p`` for 8 bit input and ``yuv420p10le`` for deeper input.
    audio : bool
        Copy the sound.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    audio: bool = True


@dataclass(frozen=True)
class Encoding:
    """What the encoder is opened with."""

    codec: str
    pix_fmt: str
    options: dict[str, str]


# Visually lossless or close to it, at a speed that leaves the cores to the model.
_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libx265": {"crf": "20", "preset": "veryfast", "x265-params": "log-level=error"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
    "libvpx": {"crf": "10", "b": "8M", "deadline": "good", "cpu-used": "5"},
    "libsvtav1": {"crf": "24", "preset": "9"},
}
_SUGGESTED = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", "prores_ks", "mjpeg")
_NEEDS_EVEN = ("libx264", "libx265", "libsvtav1", "libopenh264", "h264", "hevc")


def choose_encoding(
    container: av.container.OutputContainer, options: VideoOptions, bits: int, where: object
) -> Encoding:
    """Settle the encoder, its pixel format and its settings.

    Parameters
    ----------
    container : av.container.OutputContainer
        Where the video goes.
    bits : int
        Bits of one sample of the source.
    where : object
        The output, for messages.

    Raises
    ------
    SinkError
        When the encoder does not exist, does not fit the container, or lacks a setting.
    """
    codec = _find(container, options.codec, where)
    formats = [one.name for one in codec.video_formats or ()]
    pix_fmt = options.pix_fmt or _default_format(formats, bits)
    if formats and pix_fmt not in formats:
        raise SinkError(
            f"{where}: {codec.name} does not take --pix-fmt {pix_fmt};"
            f" it takes {', '.join(formats[:8])}"
        )
    settings = dict(_DEFAULTS.get(codec.name, {}))
    wanted = {
        "crf": None if options.crf is None else f"{options.crf:g}",
        "preset": options.preset,
    }
    context = av.CodecContext.create(codec.name, "w")
    known = {option.name for option in context.supported_options.private}
    for name, value in wanted.items():
        if value is None:
            continue
        if name not in known:
            raise SinkError(f"{where}: {codec.name} has no --{name}; leave it out")
        settings[name] = value
    return Encoding(codec.name, pix_fmt, settings)


def check_size(encoding: Encoding, width: int, height: int, where: object) -> None:
    """Refuse a frame that the encoder cannot hold in its pixel format.

    Raises
    ------
    SinkError
        For an odd side that chroma of half the size cannot cover.
    """
    if not encoding.codec.startswith(_NEEDS_EVEN):
        return
    chroma = av.VideoFormat(encoding.pix_fmt, width, height)
    parts = chroma.components
    halved_width = any(part.width != width for part in parts)
    halved_height = any(part.height != height for part in parts)
    if (width % 2 and halved_width) or (height % 2 and halved_height):
        raise SinkError(
            f"{where}: {encoding.codec} cannot hold {width}x{height} pixels as"
            f" {encoding.pix_fmt}, an odd side; add --pix-fmt yuv444p"
        )


def _find(container: av.container.OutputContainer, name: str | None, where: object) -> av.Codec:
    supported = set(container.supported_codecs)
    if container.format.name == "mpegts":
        # PyAV does not list what a transport stream mostly holds.
        supported |= {"libx264", "libx265"}
    if name is None:
        name = "libx264"
        if "libx264" not in supported:
            usual = container.default_video_codec
            name = {"vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}.get(usual, usual)
    try:
        codec = av.Codec(name, "w")
    except ValueError:
        codec = None
    if codec is None or codec.type != "video":
        there = [one for one in _SUGGESTED if one in av.codecs_available]
        raise SinkError(f"{where}: no video encoder {name}; there are {', '.join(there)}")
    if codec.name not in supported:
        raise SinkError(
            f"{where}: a {container.format.name} file cannot hold {codec.name};"
            " use .mkv or choose another --codec"
        )
    return codec


def _default_format(formats: list[str], bits: int) -> str:
    preferred = "yuv420p" if bits <= 8 else "yuv420p10le"
    if not formats or preferred in formats:
        return preferred

    def fitness(name: str) -> tuple[bool, int]:
        pix_fmt = av.VideoFormat(name)
        return is_rgb(pix_fmt), abs(sample_bits(pix_fmt) - bits)

    return min(formats, key=fitness)
