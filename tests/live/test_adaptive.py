"""Stepping down when the machine is too slow, and up again: on a clock of the test's own."""

from __future__ import annotations

import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.errors import ArgumentError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.model_switch import ModelSwitch
from edgerestore.streams.options import LiveOptions
from edgerestore.streams.pipeline import PauseEvent
from edgerestore.streams.sources.producer import ProducerSource
from edgerestore.streams.supervisor import Level, RateGovernor, Watchdog, levels_for
from edgerestore.streams.telemetry import Snapshot, Telemetry

LEVELS = (
    Level("as asked"),
    Level("int8", precision="int8"),
    Level("every 2nd", refresh_interval=2),
)


class Machine:
    """Frames take so long at each level; a source delivers them at its rate."""

    def __init__(self, costs_ms, *, source_fps=30.0, target_fps=30.0, live=True):
        self.costs_ms, self.source_fps = list(costs_ms), source_fps
        self.log, self.applied, self.refuse = EventLog(), [], False
        self.now_s, self.elsewhere_fps = 1000.0, {}
        self.governor = RateGovernor(target_fps, LEVELS, self.apply, self.log, live=live)

    def apply(self, level):
        if not self.refuse:
            self.applied.append(level.name)
        return not self.refuse

    def run(self, seconds):
        for _ in range(seconds):
            self.now_s += 1
            cost_ms = self.costs_ms[LEVELS.index(self.governor.level)]
            ceiling_fps = self.elsewhere_fps.get(self.governor.level.name, 1e3)
            fps = min(self.source_fps, 1e3 / cost_ms, ceiling_fps)
            counts = Snapshot(
                0, 0, {}, None, 1.0, fps, {},
                fps_now=fps, fps_in_now=self.source_fps, service_ms=cost_ms,
            )  # fmt: skip
            self.governor.look(counts, self.now_s)

    @property
    def steps(self):
        return [e.cause for e in self.log.events if e.kind is EventKind.STEPPED]


def test_a_machine_that_keeps_up_is_left_alone():
    machine = Machine([20, 10, 5])
    machine.run(600)
    assert machine.applied == []


def test_it_steps_down_until_it_keeps_up():
    machine = Machine([60, 40, 20])
    machine.run(20)
    assert machine.applied == ["int8", "every 2nd"]
    machine.run(600)
    assert machine.governor.level.name == "every 2nd", "what would not fit was tried"


def test_a_slow_source_is_no_reason():
    machine = Machine([60, 40, 20], source_fps=10)
    machine.run(100)
    assert machine.applied == []


def test_a_source_that_waits_is_measured_by_the_target():
    machine = Machine([60, 40, 20], source_fps=16.0, live=False)
    machine.run(20)
    assert machine.applied == ["int8", "every 2nd"]


def test_it_comes_back_when_the_machine_is_free_again():
    machine = Machine([60, 40, 20])
    machine.run(20)
    machine.costs_ms = [20, 14, 7]
    machine.run(60)
    assert machine.governor.level.name == "as asked"
    assert machine.steps == ["lowered", "lowered", "raised", "raised"]


def test_a_step_up_that_fails_teaches_what_it_costs():
    machine = Machine([60, 20, 10])
    machine.run(10)
    machine.costs_ms = [60, 5, 3]  # it looks as if there were room
    machine.run(1000)
    assert machine.steps.count("raised") == 1
    assert machine.governor.level.name == "int8"


def test_a_step_up_that_fails_for_another_reason_is_tried_ever_more_rarely():
    machine = Machine([20, 10, 5])
    machine.elsewhere_fps = {"as asked": 20.0}  # the encoder's share of the processor, say
    machine.run(2000)
    assert 5 <= machine.steps.count("raised") <= 12


def test_nothing_left_to_lower_is_said_once():
    machine = Machine([100, 90, 80])
    machine.run(60)
    assert machine.steps.count("least") == 1


def test_a_change_that_is_refused_is_asked_for_again():
    machine = Machine([60, 40, 20])
    machine.refuse = True
    machine.run(10)
    assert machine.governor.level.name == "as asked"
    machine.refuse = False
    machine.run(10)
    assert machine.applied == ["int8", "every 2nd"]


@pytest.mark.parametrize("target", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(target):
    with pytest.raises(ArgumentError, match="target_fps"):
        LiveOptions(target_fps=target)


def test_the_levels_are_those_that_the_restorer_has():
    manifest = Bundle.find("deblur").manifest
    names = [level.name for level in levels_for(manifest, "bf16", ["small"])]
    assert names == [
        "as asked",
        "int8",
        "each part on one frame of 2",
        "each part on one frame of 3",
        "small",
    ]
    assert [level.name for level in levels_for(manifest, "int8", turns=False)] == ["as asked"]
    with edgerestore.load("deblur", tta=True) as turned:
        log = EventLog()
        switch = ModelSwitch(turned, log)
        options = LiveOptions(target_fps=30.0)
        watchdog = Watchdog(ProducerSource([]), switch, Telemetry(), PauseEvent(), options, log)
        assert watchdog.level is not None
        assert watchdog.level.name == "as asked"
