"""Clock of a file: times of its packets, counted from its first one and without jumps."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ...errors import counted

__all__ = ["FileClock", "shift"]

_logger = logging.getLogger(__name__)

_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT: times may jump

# The decoding time of a stream never runs back, but for rounding.
_BACKWARD_S = Fraction(1, 10)
# A longer pause of every stream is a jump of the clock, as ffmpeg has it (-dts_delta_threshold).
_FORWARD_S = 10


class FileClock:
    """Clock of a file: times of its packets, counted from its first one and without jumps.

    A transport stream counts from any number, begins anew where two were joined or a sender was
    restarted, and runs over after 26.5 hours. Streams of such formats are joined where they jump:
    all of them by the same offset, so that they stay together.

    Parameters
    ----------
    container : av.container.InputContainer
    keep_gaps : bool
        A pause of all streams stays as long as the file says.

    Attributes
    ----------
    jumps : int
        Places where the clock jumped.
    """

    def __init__(self, container: av.container.InputContainer, *, keep_gaps: bool = False) -> None:
        self.jumps = 0
        self._jumps_allowed = bool(container.format.flags & _TS_DISCONT)
        start_s = Fraction(container.start_time or 0, av.time_base)
        # Elsewhere a start below zero is what a decoder throws away.
        self._offsets_s = [-start_s if self._jumps_allowed else min(Fraction(0), -start_s)]
        # What the header's duration is counted from.
        self._counted_s = Fraction(0) if "matroska" in container.format.name else start_s
        self._forward_s = float("inf") if keep_gaps else _FORWARD_S
        self._run: dict[int, int] = {}  # of each stream: which of the offsets it has come to
        self._ends_s: dict[int, Fraction] = {}  # in the file's time, of the stream's last packet

    def end_s(self, duration: int) -> Fraction:
        """Return where on this clock a file of a duration, in microseconds, ends."""
        return self._counted_s + Fraction(duration, av.time_base) + self._offsets_s[0]

    def place_s(self, at_s: Fraction) -> Fraction:
        """Return where on this clock a time of the file lies that is before any jump."""
        return at_s + self._offsets_s[0]

    def shift(self, by_s: Fraction) -> None:
        """Move every packet that follows."""
        self._offsets_s = [one + by_s for one in self._offsets_s]

    def set(self, packet: av.Packet[Any]) -> None:
        """Give a packet its time on this clock."""
        clock, stream = packet.time_base, packet.stream
        given = packet.pts if packet.dts is None else packet.dts
        if clock is None or given is None:
            return
        if stream.type in ("audio", "video"):
            at_s = given * clock
            if self._jumps_allowed and self._has_jumped(stream.index, at_s):
                self._begin_run(stream.index, at_s)
            self._ends_s[stream.index] = at_s + (packet.duration or 0) * clock
            run = self._run.setdefault(stream.index, len(self._offsets_s) - 1)
        else:
            run = len(self._offsets_s) - 1
        shift(packet, self._offsets_s[run])

    def report(self, where: str | Path) -> None:
        """Tell of jumps, once the file has ended."""
        if self.jumps:
            _logger.warning(
                "%s: its clock jumps at %s; what follows was joined without a gap",
                where,
                counted(self.jumps, "place"),
            )

    def _has_jumped(self, index: int, at_s: Fraction) -> bool:
        ended_s = self._ends_s.get(index)
        if ended_s is None:
            return False
        if at_s < ended_s - _BACKWARD_S:
            return True
        if at_s <= ended_s + self._forward_s:
            return False
        # Where another stream has come as far without a jump, this one only paused.
        return not any(
            abs(other_s - at_s) < _FORWARD_S
            for other, other_s in self._ends_s.items()
            if other != index and self._run[other] == self._run[index]
        )

    def _begin_run(self, index: int, at_s: Fraction) -> None:
        """Join what follows a stream's jump to what was before it."""
        run = self._run[index] + 1
        if run == len(self._offsets_s):
            self.jumps += 1
            self._offsets_s.append(self._offsets_s[-1] + self._ends_s[index] - at_s)
        self._run[index] = run


def shift(packet: av.Packet[Any], by_s: Fraction) -> None:
    """Move the times of a packet."""
    by = round(by_s / packet.time_base) if packet.time_base else 0
    if packet.pts is not None:
        packet.pts += by
    if packet.dts is not None:
        packet.dts += by
