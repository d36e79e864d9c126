"""Frame times of models: from the bundle, or measured here and cached; nothing else is read."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgerestore.bundle.bundle import Bundle
from edgerestore.engine.speed import FRAMES, FrameTime, known_frame_time, speed_class
from edgerestore.runtimes.cache import measured
from edgerestore.runtimes.machine import cpu_info


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))


def row(ms, shape, precision="f32", cpu=None):
    here = cpu_info()
    return {
        "runtime": "OpenVINO", "precision": precision, "shape": shape, "ms": ms,
        "cpu": cpu or here.name, "isa": here.isa, "cores": here.cores,
    }  # fmt: skip


def timed(*rows):
    """Return the default model with other timings."""
    bundle = Bundle.find("deblur")
    manifest = bundle.manifest
    only = replace(manifest.variants["fp32"], timings=list(rows))
    return Bundle(bundle.folder, replace(manifest, variants={"fp32": only}))


def test_a_processor_like_this_one_goes_first_then_the_usual_frame_then_the_fastest():
    other = row(1.0, "1280x720", cpu="another")
    small, slow, fast = row(2.0, "256x256"), row(90.0, "1280x720"), row(50.0, "1280x720", "int8")
    time = known_frame_time(timed(other, small, slow, fast))
    assert time is not None
    assert (time.ms, time.precision, time.origin) == (50.0, "int8", "bundle")
    time = known_frame_time(timed(other, small))
    assert time is not None
    assert (time.width, time.precision) == (256, "fp32")
    time = known_frame_time(timed(other))
    assert time is not None
    assert time.machine.startswith("another, ")


@pytest.mark.parametrize(
    "strange",
    [row(0, "1280x720"), row("5", "1280x720"), row(5.0, "0x720"), row(5.0, None), {}],
    ids=range(5),
)
def test_timings_that_say_nothing_are_passed_over(strange):
    assert known_frame_time(timed(strange)) is None


def test_what_was_measured_here_is_found_in_the_cache():
    bundle = timed(row(1.0, "1280x720", cpu="another"))
    time = FrameTime(40.0, 1280, 720, "fp32", "CPU", str(cpu_info()))
    key = bundle.digest("fp32")
    measured(FRAMES, f"{key}-a", f"{cpu_info()}, x", lambda: time, FrameTime)
    assert known_frame_time(bundle) == time
    measured(FRAMES, f"{key}-b", "another machine", lambda: time, FrameTime)
    for strange in ({"ms": 0}, {"ms": None}, {"width": 0}, {"width": "9"}, {"precision": 1}):
        kept = {**vars(time), **strange}
        measured(FRAMES, f"{key}-{strange}", str(cpu_info()), kept.copy, dict)
    assert known_frame_time(bundle) == time


def test_the_speed_class_is_that_of_a_frame_of_the_usual_size():
    def of(ms, width, height):
        return speed_class(timed(), FrameTime(ms, width, height, "fp32", "CPU", ""))

    assert of(16.0, 1280, 720) == "60 fps"
    assert of(17.0, 1280, 720) == "30 fps"
    assert of(4.0, 320, 180) == "15 fps"
    assert of(1001.0, 1280, 720) == "under 1 fps"
