"""Another model or precision while frames go on: none lost, none late, none wrong."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import edgerestore
from edgerestore.engine.loader import Loader
from edgerestore.errors import ArgumentError, BundleError, InferenceError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.model_switch import ModelSwitch

from ..bundles import write_bundle
from ..checked import not_none
from .live_tools import Marks, until


@pytest.fixture
def log():
    return EventLog()


@pytest.fixture
def switch(log):
    with edgerestore.load("deblur", precision="fp32", live=True) as first:
        switch = ModelSwitch(first, log)
        yield switch
        switch.close()
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


def test_the_change_comes_between_two_frames(switch, image, log):
    before, after = expected(image, "fp32"), expected(image, "int8")
    assert not np.array_equal(before, after)
    switch.switch(precision="int8")
    outcomes = submit_until(switch.restorer, image, lambda: told(log, EventKind.SWITCHED))
    outcomes.append(switch.restorer.submit(image).result())
    kinds = [bool(np.array_equal(one, after)) for one in outcomes]
    assert all(
        np.array_equal(one, after if new else before)
        for one, new in zip(outcomes, kinds, strict=True)
    )
    assert kinds == sorted(kinds), "it went back"
    assert kinds[-1]
    assert not kinds[0], "the first frame waited for the switch"
    assert switch.restorer.precision == "int8"


def test_what_is_in_flight_is_finished_by_the_old_one(switch, image, log):
    first = switch.restorer.submit(image).result()
    pending = [switch.restorer.submit(image)]
    switch.switch(precision="int8")
    submit_until(switch.restorer, image, lambda: told(log, EventKind.SWITCHED))
    np.testing.assert_array_equal(pending[0].result(), first)


def test_strength_and_adjustments_go_along(switch, image, log):
    switch.restorer.strength = 0.5
    switch.restorer.adjustments = edgerestore.Adjustments(brightness=0.3)
    switch.switch(precision="int8")
    submit_until(switch.restorer, image, lambda: told(log, EventKind.SWITCHED))
    with edgerestore.load("deblur", precision="int8", strength=0.5) as plain:
        plain.adjustments = edgerestore.Adjustments(brightness=0.3)
        np.testing.assert_array_equal(switch.restorer.submit(image).result(), plain(image))


def test_a_model_that_is_not_there_leaves_the_old_one_running(switch, image, log):
    before = switch.restorer.submit(image).result()
    with pytest.raises(BundleError, match="nosuch"):
        switch.switch(model="nosuch")
    assert not switch.switching
    switch.adapt("nosuch", None)  # for the sake of speed, where nobody waits for an answer
    submit_until(switch.restorer, image, lambda: told(log, EventKind.REFUSED))
    assert not_none(log.last_error).message == told(log, EventKind.REFUSED)[-1].message
    assert "nosuch" in told(log, EventKind.REFUSED)[0].message
    np.testing.assert_array_equal(switch.restorer.submit(image).result(), before)


def test_one_switch_at_a_time(switch, image, log):
    switch.switch(precision="int8")
    with pytest.raises(ArgumentError, match="under way"):
        switch.switch(precision="bf16")
    submit_until(
        switch.restorer, image, lambda: told(log, EventKind.SWITCHED) and not switch.switching
    )
    switch.switch(precision="fp32")
    submit_until(switch.restorer, image, lambda: len(told(log, EventKind.SWITCHED)) == 2)
    np.testing.assert_array_equal(switch.restorer.submit(image).result(), expected(image, "fp32"))


def test_a_revived_model_keeps_the_precision_and_the_strength(switch, image, log):
    switch.switch(precision="int8")
    submit_until(switch.restorer, image, lambda: told(log, EventKind.SWITCHED))
    switch.restorer.strength = 0.4
    switch.revive()
    assert switch.restorer.strength == 0.4
    assert switch.restorer.precision == "int8"
    np.testing.assert_array_equal(
        switch.restorer.submit(image).result(), expected(image, "int8", strength=0.4)
    )


def test_a_model_that_could_not_be_revived_is_closed_with_the_switch(log, monkeypatch):
    with edgerestore.load("deblur", precision="fp32", live=True) as first:
        switch, other = ModelSwitch(first, log), first.reopened()
        monkeypatch.setattr(first, "reopened", lambda *_wanted: other)
        first.close()
        with pytest.raises(InferenceError, match="closed"):
            switch.revive()
        switch.close()
    with pytest.raises(InferenceError, match="closed"):
        other.submit(np.zeros((48, 64, 3), np.uint8))


def test_a_name_that_no_file_can_have_is_refused(switch):
    with pytest.raises(BundleError, match="no bundle there"):
        switch.switch(model="a" * 300)


def test_neither_named_is_refused(switch):
    with pytest.raises(ArgumentError, match="names a model"):
        switch.switch()


def test_closing_while_another_is_made_ready(image, log):
    with edgerestore.load("deblur", precision="fp32", live=True) as first:
        switch = ModelSwitch(first, log)
        first.submit(image).result()
        switch.switch(precision="int8")
        switch.close()
        assert first.precision == "fp32"
    assert not told(log, EventKind.SWITCHED)


class Held:
    """Opener of models that waits at each of them, and counts them."""

    def __init__(self, monkeypatch):
        self.let_go, self.opened = threading.Event(), 0
        opened = Loader._opened

        def wait_and_open(loader, name, precision):
            self.opened += 1
            assert self.let_go.wait(30)
            return opened(loader, name, precision)

        monkeypatch.setattr(Loader, "_opened", wait_and_open)


def test_a_switch_is_cancelled_and_the_next_one_is_taken(switch, image, log, monkeypatch):
    held = Held(monkeypatch)
    switch.restorer.submit(image).result()
    switch.switch(model="deblur+dejpeg+denoise", precision="fp32")
    until(lambda: held.opened)
    switch.cancel()
    held.let_go.set()
    until(lambda: not switch.switching)
    assert held.opened == 1, "another one was opened after that"
    assert "not switched: it was cancelled" in told(log, EventKind.REFUSED)[0].message
    np.testing.assert_array_equal(switch.restorer.submit(image).result(), expected(image, "fp32"))
    switch.cancel()  # nothing is under way
    switch.switch(precision="int8")
    submit_until(switch.restorer, image, lambda: told(log, EventKind.SWITCHED))


def test_the_end_does_not_wait_for_models_that_are_still_to_be_opened(switch, log, monkeypatch):
    held = Held(monkeypatch)
    switch.switch(model="+".join(["deblur"] * 8), precision="fp32")
    until(lambda: held.opened)
    closing = threading.Thread(target=switch.close)
    closing.start()
    until(switch._cancelled.is_set)
    held.let_go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert held.opened == 1
    assert not told(log, EventKind.REFUSED), "nobody asked for that"


@pytest.mark.parametrize("count", [16, pytest.param(1000, marks=pytest.mark.soak)])
def test_switches_leave_nothing_behind(log, tmp_path, image, count):
    models = [write_bundle(tmp_path / name).folder for name in ("one", "other")]
    marks = Marks()
    with edgerestore.load(models[0], precision="fp32", live=True) as restorer:
        switch = ModelSwitch(restorer, log)
        restorer.submit(image).result()
        for number in range(1, count + 5):
            switch.switch(model=str(models[number % 2]))
            until(lambda: not switch.switching)
            restorer.submit(image).result()
            if number >= 4 and number % (count // 4) == 0:
                marks.note()
        switch.close()
    marks.check()
    assert log.last_error is None


def test_what_was_not_loaded_cannot_be_switched(image, log):
    with edgerestore.load("deblur", precision="fp32") as plain:
        plain.opener = None
        bare = ModelSwitch(plain, log)
        bare.switch(precision="int8")
        submit_until(plain, image, lambda: told(log, EventKind.REFUSED))
        bare.close()
