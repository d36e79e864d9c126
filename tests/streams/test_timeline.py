"""One time over several connections."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sources.timeline import Timeline

from .tools import FakeConnection


def stamps(*moments):
    """Put frames on a timeline: (the sender's seconds, seconds here), or "gap"."""
    timeline, info, found = Timeline(), FakeConnection().info, []
    for moment in moments:
        if moment == "gap":
            timeline.reconnected()
            continue
        own, here = moment
        image = np.zeros((2, 2), np.uint8)
        frame = Frame(image, round(own * 1000), Fraction(1, 1000), 40, captured_s=100 + here)
        found.append(timeline.stamped(frame, info).pts / 90_000)
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


def ages(*moments):
    """Return how long ago each frame counts as captured when it comes."""
    timeline, info, found = Timeline(), FakeConnection().info, []
    for own, here in moments:
        image = np.zeros((2, 2), np.uint8)
        frame = Frame(image, round(own * 1000), Fraction(1, 1000), 40, captured_s=100 + here)
        found.append(100 + here - timeline.stamped(frame, info).captured_s)
    return np.array(found)


def test_a_backlog_is_as_old_as_it_is():
    """The network holds frames up for three seconds and then delivers them all at once."""
    flowing = [(index * 0.04, index * 0.04 + 0.1) for index in range(100)]
    held_up = [(index * 0.04, 7.1) for index in range(100, 175)]
    after = [(index * 0.04, index * 0.04 + 0.1) for index in range(175, 250)]
    found = ages(*flowing, *held_up, *after)
    assert found[:100].max() < 1e-6
    assert found[100] > 2.9
    assert (np.diff(found[100:175]) < 0).all()
    assert found[175:].max() < 0.05


def test_a_delay_that_stays_is_the_new_normal():
    before = [(index * 0.04, index * 0.04) for index in range(100)]
    behind = [(index * 0.04, index * 0.04 + 3) for index in range(100, 300)]
    found = ages(*before, *behind)
    assert found[100] > 2.9
    assert found[210:].max() < 1e-6


def test_a_clock_that_drifts_makes_nothing_old():
    slow = [(index * 0.04, index * 0.04 * 1.0002) for index in range(0, 100_000, 5)]
    assert ages(*slow).max() < 0.01


def test_a_clock_that_is_set_makes_nothing_old():
    found = ages((5.0, 0.0), (5.04, 0.04), (90.0, 0.08), (90.04, 0.12), (0.0, 0.16), (0.04, 0.2))
    assert found.max() < 1e-6
