"""One time over several connections, and the age of frames by clocks of any speed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sources.timeline import NetworkDelay, Timeline

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
    slow = [(index * 0.04, index * 0.04 * 1.0002) for index in range(0, 20_000, 5)]
    assert ages(*slow).max() < 0.01


def test_a_clock_that_is_set_makes_nothing_old():
    found = ages((5.0, 0.0), (5.04, 0.04), (90.0, 0.08), (90.04, 0.12), (0.0, 0.16), (0.04, 0.2))
    assert found.max() < 1e-6


LIMIT_S = 1.0


def sent(seed, speeds, rate, jitter_s, held_s, pause_s, set_by_s, *, counts):
    """Simulate 45 s of a sender: (its time, when a frame comes, when it was captured).

    Its clock drifts from one speed to another from 30 s on; at 10 s the network holds
    frames up, at 20 s the camera pauses (with a clock that counts frames, or goes on), at 30 s its
    clock is set.
    """
    chance = np.random.default_rng(seed)
    own_s, now_s, came_s, found = 1000.0, 0.0, 0.0, []
    for index in range(45 * rate):
        pause = pause_s if index == 20 * rate else 0.0
        share = min(1.0, max(0.0, index / rate / 15 - 2))
        speed = speeds[0] + share * (speeds[1] - speeds[0])
        now_s += pause + 1 / rate
        own_s += speed * (1 / rate + (0 if counts else pause))
        own_s += set_by_s if index == 30 * rate else 0.0
        due_s = now_s + min(chance.exponential(jitter_s), 6 * jitter_s)
        due_s = 10 + held_s if 10 <= due_s < 10 + held_s else due_s
        came_s = max(came_s, due_s)
        found.append((own_s, came_s, now_s))
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    speeds=st.tuples(st.floats(0.33, 3), st.floats(0.33, 3)),
    rate=st.sampled_from([5, 12]),
    jitter_s=st.sampled_from([0, 0.005, 0.02]),
    held_s=st.floats(0, 5),
    pause_s=st.floats(0, 4),
    counts=st.booleans(),
    set_by_s=st.sampled_from([-1000, -0.5, 0, 6, 100_000]),
)
def test_a_clock_of_any_speed_hides_nothing_and_shows_nothing_old(
    seed, speeds, rate, jitter_s, held_s, pause_s, counts, set_by_s
):
    delay = NetworkDelay()
    moments = sent(seed, speeds, rate, jitter_s, held_s, pause_s, set_by_s, counts=counts)
    taken = np.array([delay.of(own_s, came_s) for own_s, came_s, _ in moments])
    age = np.array([came_s - now_s for _, came_s, now_s in moments])
    assert (taken[age < LIMIT_S] < LIMIT_S).mean() >= 0.95
    assert (taken[age > LIMIT_S + 6 * jitter_s + 0.25] > LIMIT_S).all()


def test_a_camera_that_delivers_half_of_what_it_stamps_at_night():
    """Frames are stamped 0.04 s apart; at dusk they begin to come 0.083 s apart."""
    day = [(index * 0.04, index * 0.04) for index in range(500)]
    night = [(20 + index * 0.04, 20 + index / 12) for index in range(500)]
    assert ages(*day, *night).max() < LIMIT_S
    times = np.diff(stamps(*day, *night))
    assert times[:499].max() < 0.05
    assert times.max() < 0.2, "its recording does not jump"
    assert abs(times[-100:].mean() - 1 / 12) < 0.005
