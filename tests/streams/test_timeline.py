"""One time over several connections."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgerestore.engine.media.frames import Frame
from edgerestore.engine.sources.timeline import Timeline

from .live_tools import FakeFeed


def stamps(*moments):
    """Put frames on a timeline: (the sender's seconds, seconds here), or "gap"."""
    timeline, facts, found = Timeline(), FakeFeed().facts, []
    for moment in moments:
        if moment == "gap":
            timeline.reconnected()
            continue
        own, here = moment
        image = np.zeros((2, 2), np.uint8)
        frame = Frame(image, round(own * 1000), Fraction(1, 1000), 40, captured_s=100 + here)
        found.append(timeline.stamped(frame, facts).pts / 90_000)
    return found


def test_the_timeline():
    # The sender's spacing counts, not that of the arrival.
    assert stamps((7.0, 0), (7.04, 0.07), (7.08, 0.07)) == [0, 0.04, 0.08]
    # A new connection begins where it is now.
    assert stamps((7.0, 0), "gap", (0.0, 3.5), (0.04, 3.5)) == [0, 3.5, 3.54]
    # A clock that is set, or begins anew, is followed from where it is.
    assert stamps((7.0, 0), (7.04, 0.04), (0.0, 0.08), (0.04, 0.12)) == [0, 0.04, 0.08, 0.12]
    assert stamps((7.0, 0), (9000.0, 0.04), (9000.04, 0.08)) == [0, 0.04, 0.08]
    # One that runs too fast is corrected in the end.
    fast = stamps(*[(index * 0.05, index * 0.04) for index in range(1000)])
    assert max(abs(pts - index * 0.04) for index, pts in enumerate(fast)) < 2.1
    assert fast == sorted(set(fast))
