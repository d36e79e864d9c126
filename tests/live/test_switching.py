"""Another model or precision while frames go on: none lost, none late, none wrong."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.switch import SwitchableRestorer


@pytest.fixture
def log():
    return EventLog()


@pytest.fixture
def switchable(log):
    with edgerestore.load("deblur", precision="fp32", live=True) as first:
        restorer = SwitchableRestorer(first, first.reopened, log)
        yield restorer
        restorer.close()
    assert not [t.name for t in threading.enumerate() if t.name == "edgerestore-switch"]


def expected(image, precision, strength=1.0):
    with edgerestore.load("deblur", precision=precision, strength=strength) as restorer:
        return restorer(image)


def submit_until(restorer, image, done, most_s=60.0):
    """Submit frames one after another until something has happened; return the outcomes."""
    outcomes, end_s = [], time.perf_counter() + most_s
    while not done():
        assert time.perf_counter() < end_s, "nothing happened"
        outcomes.append(restorer.submit(image).result())
    return outcomes


def told(log, kind):
    return [event for event in log.events if event.kind is kind]


def test_the_change_comes_between_two_frames(switchable, image, log):
    before, after = expected(image, "fp32"), expected(image, "int8")
    assert not np.array_equal(before, after)
    switchable.switch(precision="int8")
    outcomes = submit_until(switchable, image, lambda: told(log, EventKind.SWITCHED))
    outcomes.append(switchable.submit(image).result())
    kinds = [bool(np.array_equal(one, after)) for one in outcomes]
    assert all(
        np.array_equal(one, after if new else before)
        for one, new in zip(outcomes, kinds, strict=True)
    )
    assert kinds == sorted(kinds), "it went back"
    assert kinds[-1]
    assert not kinds[0], "the first frame waited for the switch"
    assert switchable.precision == "int8"


def test_what_is_in_flight_is_finished_by_the_old_one(switchable, image, log):
    first = switchable.submit(image).result()
    pending = [switchable.submit(image)]
    switchable.switch(precision="int8")
    submit_until(switchable, image, lambda: told(log, EventKind.SWITCHED))
    np.testing.assert_array_equal(pending[0].result(), first)


def test_strength_and_adjustments_go_along(switchable, image, log):
    switchable.strength = 0.5
    switchable.adjustments = edgerestore.Adjustments(brightness=0.3)
    switchable.switch(precision="int8")
    submit_until(switchable, image, lambda: told(log, EventKind.SWITCHED))
    with edgerestore.load("deblur", precision="int8", strength=0.5) as plain:
        plain.adjustments = edgerestore.Adjustments(brightness=0.3)
        np.testing.assert_array_equal(switchable.submit(image).result(), plain(image))


def test_a_model_that_is_not_there_leaves_the_old_one_running(switchable, image, log):
    before = switchable.submit(image).result()
    switchable.switch(model="nosuch")
    submit_until(switchable, image, lambda: told(log, EventKind.REFUSED))
    assert "nosuch" in told(log, EventKind.REFUSED)[0].message
    np.testing.assert_array_equal(switchable.submit(image).result(), before)


def test_one_switch_at_a_time(switchable, image, log):
    switchable.switch(precision="int8")
    with pytest.raises(ArgumentError, match="under way"):
        switchable.switch(precision="bf16")
    submit_until(
        switchable, image, lambda: told(log, EventKind.SWITCHED) and not switchable.switching
    )
    switchable.switch(precision="fp32")
    submit_until(switchable, image, lambda: len(told(log, EventKind.SWITCHED)) == 2)
    np.testing.assert_array_equal(switchable.submit(image).result(), expected(image, "fp32"))


def test_a_replaced_restorer_keeps_the_strength_and_what_was_ready(switchable, image, log):
    switchable.switch(precision="int8")
    submit_until(switchable, image, lambda: told(log, EventKind.SWITCHED))
    switchable.strength = 0.4
    switchable.revive()
    assert switchable.strength == 0.4
    assert switchable.precision == "int8"
    np.testing.assert_array_equal(
        switchable.submit(image).result(), expected(image, "int8", strength=0.4)
    )
    until_idle = time.perf_counter() + 10
    while switchable.switching and time.perf_counter() < until_idle:
        time.sleep(0.01)
    switchable.switch(precision="fp32")
    until_ready = time.perf_counter() + 30
    while switchable._next is None and time.perf_counter() < until_ready:
        time.sleep(0.01)
    switchable.revive()  # takes what is ready
    assert switchable.precision == "fp32"
    assert switchable.strength == 0.4


def test_a_name_that_no_file_can_have_is_refused(switchable, image, log):
    switchable.switch(model="a" * 300)
    submit_until(switchable, image, lambda: told(log, EventKind.REFUSED))
    assert "no bundle there" in told(log, EventKind.REFUSED)[0].message


def test_neither_named_is_refused(switchable):
    with pytest.raises(ArgumentError, match="names a model"):
        switchable.switch()


def test_closing_while_another_is_made_ready(image, log):
    with edgerestore.load("deblur", precision="fp32", live=True) as first:
        restorer = SwitchableRestorer(first, first.reopened, log)
        restorer.submit(image).result()
        restorer.switch(precision="int8")
        restorer.close()
    assert not told(log, EventKind.SWITCHED)


def test_what_was_not_loaded_cannot_be_switched(switchable, image, log):
    with edgerestore.load("deblur", precision="fp32") as plain:
        plain.again = None
        bare = SwitchableRestorer(plain, plain.reopened, log)
        bare.switch(precision="int8")
        submit_until(bare, image, lambda: told(log, EventKind.REFUSED))
        bare.close()
