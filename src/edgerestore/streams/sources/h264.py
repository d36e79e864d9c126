"""H.264 as networks bring it: key pictures in parts, pictures lost, the threads that decode it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av

__all__ = ["PictureNumbers", "decoding_threads", "joined"]

_START = b"\0\0\1"
_SLICE, _KEY_SLICE, _SEQUENCE = 1, 5, 7
# Profiles whose parameters have more to say, between the first and the numbering.
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_SLICE_HEAD_BYTES = 24
_LONGEST_NUMBER = 16  # bits
# Before the first slice of a picture stand parameters and remarks of some hundred bytes.
_LOOKED_AT_BYTES = 4096
# What one thread decodes in half its time: 2.6 ns a pixel, 5.2 ms for 1920x1080.
_PIXELS_A_SECOND = 200_000_000


def decoding_threads(context: av.VideoCodecContext, rate: Fraction, threads: int) -> int:
    """Return how many threads decode a stream, of so many that may.

    With several, each on its slice, FFmpeg's decoder tells of no damage: parts of a picture that
    never came stay green and it counts as whole. So one is taken where one is fast enough.
    """
    fast = context.width * context.height * rate > _PIXELS_A_SECOND
    return threads if context.name != "h264" or fast else 1


def joined(
    packets: Iterable[av.Packet[Any]], stream: int | None = None
) -> Iterator[av.Packet[Any]]:
    """Join the packets of a key picture that was split.

    Some senders repeat the parameter sets before each slice of a key picture; FFmpeg's parser
    takes each for the beginning of another picture, and its decoder makes a damaged picture of
    each part. How many parts there are is learnt from the first key picture, which waits for the
    packet after it; later ones are whole when as many have come.

    Parameters
    ----------
    packets : iterable of av.Packet
        H.264 with start codes; a packet that was joined has no stream.
    stream : int or None
        Index of the video's stream, where packets of others are among them.
    """
    held: list[av.Packet[Any]] = []
    usual = 0
    for packet in packets:
        if stream is not None and packet.stream.index != stream:
            yield packet
            continue
        is_key, continues = _first_slice(packet)
        if held and is_key and continues:
            held.append(packet)
        else:
            if held:
                usual = max(usual, len(held))
                yield _whole(held)
                held = []
            if not is_key or continues:
                usual = 0 if is_key else usual  # a part too many: learnt anew
                yield packet
                continue
            held = [packet]
        if usual and len(held) >= usual:
            yield _whole(held)
            held = []
    if held:
        yield _whole(held)


class PictureNumbers:
    """Numbers of the pictures of a stream, which tell where one was lost.

    FFmpeg's decoder builds the next ones on the picture before, and does not say so. Pictures on
    which nothing is built are not missed.

    Parameters
    ----------
    parameters : bytes
        Parameter sets with start codes, as far as they are known before.
    """

    def __init__(self, parameters: bytes) -> None:
        self._count = 0  # of different numbers; 0 where not known
        self._planes_apart = False
        self._last: int | None = None
        for unit in _units(parameters):
            self._take(unit)

    def lost_before(self, packet: av.Packet[Any]) -> bool:
        """Return whether a picture is missing between the last packet and this one."""
        for unit in _units(_head(packet)):
            self._take(unit)
            if unit[0] & 31 in (_SLICE, _KEY_SLICE) and self._count:
                try:
                    return self._is_gap(unit)
                except ValueError:  # damaged; the decoder tells
                    return False
        return False

    def _is_gap(self, unit: bytes) -> bool:
        bits = _Bits(unit[1:_SLICE_HEAD_BYTES])
        for _ in range(3):  # its place, its kind, its parameters
            bits.number()
        bits.take(2 * self._planes_apart)
        number = bits.take(self._count.bit_length() - 1)
        last, builds = self._last, unit[0] & 0x60
        lost = False
        if unit[0] & 31 == _SLICE and last is not None:
            lost = (number - last) % self._count > 1
            last = (number - 1) % self._count if lost else last
        self._last = number if builds or last is None else last
        return lost

    def _take(self, unit: bytes) -> None:
        """Take over what a unit says, if it is a sequence's parameters."""
        if unit[0] & 31 != _SEQUENCE:
            return
        try:
            self._count, self._planes_apart = _numbering(unit)
        except ValueError:
            self._count = 0


def _numbering(unit: bytes) -> tuple[int, bool]:
    """Return how many numbers of pictures there are (0 where some may be left out)."""
    bits, chroma, apart = _Bits(unit[4:]), 1, False
    bits.number()
    if unit[1] in _HIGH_PROFILES:
        chroma = bits.number()
        apart = bool(chroma == 3 and bits.take(1))
        bits.number(), bits.number(), bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    bits.skip_scaling(16 if index < 6 else 64)
    length = bits.number() + 4
    if length > _LONGEST_NUMBER:
        raise ValueError("not a sequence's parameters")
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1), bits.number(), bits.number()
        for _ in range(bits.number()):
            bits.number()
    bits.number()
    may_be_left_out = bits.take(1)
    return (0 if may_be_left_out else 1 << length), apart


class _Bits:
    """Bits of a unit; `ValueError` behind its end."""

    def __init__(self, raw: bytes) -> None:
        self._bits = "".join(f"{one:08b}" for one in raw.replace(b"\0\0\3", b"\0\0"))
        self._at = 0

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        if not count:
            return 0
        start, self._at = self._at, self._at + count
        return int(self._bits[start : self._at], 2)

    def number(self) -> int:
        """Return the next number of its own length (Exp-Golomb, without a sign)."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.take(zeros + 1) - 1

    def skip_scaling(self, size: int) -> None:
        """Skip a scaling list of so many numbers, or as many as it has."""
        last = following = 8
        for _ in range(size):
            if following:
                code = self.number()
                following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = following or last


def _head(packet: av.Packet[Any]) -> bytes:
    return bytes(memoryview(packet)[:_LOOKED_AT_BYTES]) if packet.size else b""


def _units(raw: bytes) -> Iterator[bytes]:
    """Yield the units of a stream with start codes, the last as far as it is there."""
    return (part for part in raw.split(_START)[1:] if len(part) > 1)


def _first_slice(packet: av.Packet[Any]) -> tuple[bool, bool]:
    """Return whether a packet's first slice is of a key picture, and whether it is a later one."""
    for unit in _units(_head(packet)):
        if unit[0] & 31 in (_SLICE, _KEY_SLICE):
            return unit[0] & 31 == _KEY_SLICE, not unit[1] & 0x80  # its place is not the first
    return False, False


def _whole(parts: list[av.Packet[Any]]) -> av.Packet[Any]:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    # Not of its stream: that may have been closed meanwhile, and decoding does not ask.
    whole: av.Packet[Any] = av.Packet(b"".join(map(bytes, parts)))
    whole.pts, whole.dts, whole.time_base = first.pts, first.dts, first.time_base
    whole.is_keyframe = True
    return whole
