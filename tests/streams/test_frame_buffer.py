"""The bounded frame buffer: order, weight, policies, and every frame accounted for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.streams.frame_buffer import (
    BufferAbortedError,
    BufferEndedError,
    FrameBuffer,
    Overrun,
)
from edgerestore.streams.media.frames import Frame, Passthrough

PIXEL = np.zeros((1, 1), np.uint8)


class Packet:
    def __init__(self, size):
        self.size = size


def frame(pts, age_s=0.0):
    return Frame(PIXEL, pts, Fraction(1), captured_s=time.perf_counter() - age_s)


def packet(size=100):
    return Passthrough(Packet(size), 1)  # type: ignore[arg-type]


def held(buffer):
    """Take everything out, frames by their number."""
    found = []
    while (item := buffer.get(0)) is not None:
        found.append(item.pts if isinstance(item, Frame) else "packet")
    return found


def filled(policy, pts, capacity=3.0, **options):
    buffer = FrameBuffer(capacity, policy, **options)
    for one in pts:
        buffer.put(frame(one))
    return buffer


def in_thread(act):
    """Run something on a thread; give the thread and the errors it ended with."""
    errors = []

    def work():
        try:
            act()
        except (BufferAbortedError, BufferEndedError) as error:
            errors.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    return thread, errors


def test_it_gives_in_order_and_ends():
    buffer = filled(Overrun.WAIT, range(3))
    buffer.end()
    assert [buffer.get().pts, buffer.get(0).pts, buffer.get(1).pts] == [0, 1, 2]
    for timeout_s in (None, 0, 0.01):
        with pytest.raises(BufferEndedError):
            buffer.get(timeout_s)
    with pytest.raises(BufferEndedError):
        buffer.put(frame(3))
    assert buffer.dropped == {"ended": 1}


def test_nothing_in_time():
    buffer = FrameBuffer()
    assert buffer.get(0) is None
    began_s = time.perf_counter()
    assert buffer.get(0.05) is None
    assert time.perf_counter() - began_s >= 0.05


def test_the_reason_of_an_end_is_kept():
    buffer, reason = filled(Overrun.WAIT, [1]), OSError("unplugged")
    buffer.end(reason)
    assert buffer.error is reason
    assert buffer.get().pts == 1


def test_a_heavy_item_goes_in_alone():
    buffer = FrameBuffer(1.0)
    buffer.put(packet(50 << 20))
    assert isinstance(buffer.get(), Passthrough)


def test_packets_weigh_by_their_size():
    small, large = FrameBuffer(1.0), FrameBuffer(1.0)
    for _ in range(200):
        small.put(packet(0))
    large.put(packet(1 << 20))
    thread, _ = in_thread(lambda: large.put(packet(0)))
    thread.join(0.05)
    assert thread.is_alive()
    large.get()
    thread.join(5)
    assert not thread.is_alive()


def test_waiting_for_room():
    buffer = filled(Overrun.WAIT, range(3))
    thread, _ = in_thread(lambda: buffer.put(frame(3)))
    thread.join(0.05)
    assert thread.is_alive()
    assert buffer.get().pts == 0
    thread.join(5)
    assert held(buffer) == [1, 2, 3]
    assert not buffer.dropped


@pytest.mark.parametrize("act", ["put", "get"])
@pytest.mark.parametrize("end", ["end", "abort"])
def test_ending_wakes_whoever_waits(act, end):
    buffer = FrameBuffer(1.0)
    if act == "put":
        buffer.put(frame(0))
    thread, errors = in_thread(lambda: buffer.put(frame(1)) if act == "put" else buffer.get())
    time.sleep(0.02)
    getattr(buffer, end)()
    thread.join(5)
    assert errors == [BufferEndedError if end == "end" else BufferAbortedError]
    lost = (act == "put") * (1 if end == "end" else 2)
    assert buffer.dropped == ({"ended": lost} if lost else {})


def test_after_an_abort_nothing_goes():
    buffer = filled(Overrun.WAIT, range(2))
    buffer.put(packet())
    buffer.abort()
    assert buffer.aborted
    with pytest.raises(BufferAbortedError):
        buffer.put(frame(2))
    with pytest.raises(BufferAbortedError):
        buffer.get()
    assert buffer.dropped == {"ended": 3}


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Overrun.DROP_OLDEST, [3, 4, 5]),
        (Overrun.DROP_NEWEST, [0, 1, 2]),
        (Overrun.LATEST, [5]),
    ],
)
def test_policies(policy, kept):
    causes: list[str] = []
    buffer = filled(policy, range(6), on_drop=causes.append)
    assert held(buffer) == kept
    assert buffer.dropped == {"overrun": 6 - len(kept)}
    assert causes == ["overrun"] * (6 - len(kept))


@pytest.mark.parametrize("policy", [Overrun.DROP_OLDEST, Overrun.DROP_NEWEST, Overrun.LATEST])
def test_packets_are_never_dropped_for_frames(policy):
    buffer = FrameBuffer(1.0, policy)
    for item in (packet(), frame(0), packet(), frame(1), packet(2 << 20)):
        buffer.put(item)
    kept = held(buffer)
    assert kept.count("packet") == 3
    assert sum(buffer.dropped.values()) + len(kept) == 5


def test_patience():
    buffer = FrameBuffer(6.0, Overrun.DROP_OLDEST, patience_s=0.5)
    for age_s in (9, 1, 0.1):
        buffer.put(frame(age_s, age_s))
    buffer.put(frame(0))
    assert held(buffer) == [0.1, 0]
    assert buffer.dropped["overrun"] == 2


def test_frames_without_a_time_are_not_impatient():
    buffer = FrameBuffer(6.0, Overrun.DROP_OLDEST, patience_s=1e-9)
    for pts in range(3):
        buffer.put(Frame(PIXEL, pts, Fraction(1)))
    assert held(buffer) == [0, 1, 2]


def test_clearing_counts_the_cause():
    buffer = filled(Overrun.WAIT, range(3))
    buffer.clear("not connected")
    assert buffer.dropped == {"not connected": 3}
    buffer.put(frame(3))
    assert held(buffer) == [3]


def test_silence():
    buffer = FrameBuffer(2.0)
    time.sleep(0.05)
    assert buffer.silent_s >= 0.05
    for act in (buffer.touch, lambda: buffer.put(frame(0)), buffer.get):
        time.sleep(0.02)
        act()
        assert buffer.silent_s < 0.02


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(list(Overrun)),
    capacity=st.sampled_from([1.0, 2.0, 6.0]),
    items=st.lists(st.sampled_from(["frame", "packet", "large packet"]), max_size=60),
    slow=st.booleans(),
    end=st.sampled_from(["end", "abort", "taker leaves"]),
)
def test_every_frame_is_got_or_counted(policy, capacity, items, slow, end):
    causes: Counter[str] = Counter()
    buffer = FrameBuffer(capacity, policy, on_drop=lambda cause: causes.update([cause]))
    got, packets = [], 0

    def take():
        nonlocal packets
        while True:
            item = buffer.get()
            if isinstance(item, Frame):
                got.append(item.pts)
            else:
                packets += 1
            if slow:
                time.sleep(0.0005)
            if end == "taker leaves" and len(got) == 5:
                buffer.abort()

    thread, errors = in_thread(take)
    put = 0
    try:
        for pts, kind in enumerate(items):
            put += kind == "frame"
            buffer.put(
                frame(pts) if kind == "frame" else packet(100 if kind == "packet" else 1 << 20)
            )
        buffer.abort() if end == "abort" else buffer.end()
    except BufferAbortedError:
        assert end == "taker leaves"
    thread.join(10)
    assert not thread.is_alive()
    assert errors
    assert len(got) + buffer.dropped.total() == put
    assert causes == buffer.dropped
    assert got == sorted(set(got))
    if end == "end":
        assert packets == len(items) - put
        if policy is Overrun.WAIT:
            assert len(got) == put
