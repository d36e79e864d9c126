"""How a live stream is run: everything that may be chosen, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from .media.encoding import VideoOptions
from .rules import Overrun, StreamRules, check_target
from .sources.registry import SourceOptions

__all__ = ["LiveOptions"]


@dataclass(frozen=True)
class LiveOptions:
    """How a stream is run.

    Parameters
    ----------
    source : SourceOptions
    video : VideoOptions
        Of recordings and of what is pushed.
    overrun : Overrun or None
        By default live sources drop their oldest frame, and all others wait.
    max_staleness_s : float or None
        Of live sources: a frame older than this is never shown.
    answer_s : float or None
        Of live sources: the device is taken for stuck after this.
    segment_s : float or None
        Recordings begin another file this often.
    overwrite : bool
        Recordings may replace files.
    target_fps : float or None
        Lower the work in steps to keep up with this.
    lighter : tuple of str
        Models to fall back to, in this order, when nothing else keeps up.
    realtime : bool or None
        Play files at their own pace; by default where somebody watches.

    Raises
    ------
    ArgumentError
        On a value that is not usable.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    video: VideoOptions = field(default_factory=VideoOptions)
    overrun: Overrun | None = None
    max_staleness_s: float | None = 1.0
    answer_s: float | None = 30.0
    segment_s: float | None = None
    overwrite: bool = False
    target_fps: float | None = None
    lighter: tuple[str, ...] = ()
    realtime: bool | None = None

    def __post_init__(self) -> None:
        self.rules(live=True, originals=False)
        if self.target_fps is not None:
            check_target(self.target_fps)

    def rules(self, *, live: bool, originals: bool) -> StreamRules:
        """Return them as the pipeline takes them."""
        overrun = self.overrun or (Overrun.DROP_OLDEST if live else Overrun.WAIT)
        return StreamRules(
            overrun=overrun,
            max_staleness_s=self.max_staleness_s if live else None,
            answer_s=self.answer_s if live else None,
            originals=originals,
        )
