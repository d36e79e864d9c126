"""Restoration beside microscope control: DemoCamera of MMCore, and a plain callback of arrays."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.microscopy import attach
from edgerestore.streams.frame_buffer import Overrun
from edgerestore.streams.options import LiveOptions, SourceOptions

from ..bundles import write_bundle
from ..checked import not_none

useq: Any = pytest.importorskip("useq", reason="pymmcore-plus is not installed")
zarr: Any = pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def core():
    from mm_test_adapters import device_adapter_path
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(device_adapter_path())])
    core.loadSystemConfiguration()
    core.setProperty("Camera", "PixelType", "16bit")
    core.setROI(0, 0, 96, 64)
    core.setExposure(2)
    yield core
    core.unloadAllDevices()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("control") / "grey", channels=1).folder


@pytest.fixture
def restorer(bundle):
    with edgerestore.load(bundle, strength=0.0) as restorer:
        yield restorer


class Slow:
    """A model that takes its time for each frame."""

    depth = 1

    def __init__(self, seconds):
        self._seconds = seconds

    def submit(self, image):
        return _Later(image, self._seconds)


class _Later:
    def __init__(self, image, seconds):
        self._image, self._seconds = image, seconds

    def result(self, timeout=None):
        time.sleep(self._seconds)
        return self._image


class Shown:
    def __init__(self):
        self.frames = []

    def __call__(self, _image, frame):
        self.frames.append(frame)


def burst(frames):
    return useq.MDASequence(time_plan={"interval": 0, "loops": frames})


def balanced(attached, summary):
    gone = sum(summary.frames_dropped.values()) + sum(summary.frames_lost.values())
    return attached.received == summary.frames_out + gone


def test_an_acquisition_is_restored_in_order_with_what_belongs_to_each_frame(core, restorer):
    shown, acquired = Shown(), []
    plan = useq.MDASequence(channels=["DAPI", "FITC"], stage_positions=[(10, 20, 3), (40, 50, 6)])
    keep_acquired = lambda image, *_: acquired.append(image)  # noqa: E731
    core.mda.events.frameReady.connect(keep_acquired)
    with attach(core, restorer, shown, keep=50) as attached:
        core.mda.run(plan)
        summary = not_none(attached.detach())
    core.mda.events.frameReady.disconnect(keep_acquired)
    assert attached.received == summary.frames_out == 4
    assert balanced(attached, summary)
    facts = [frame.metadata for frame in shown.frames]
    assert [one["channel"] for one in facts] == ["DAPI", "FITC"] * 2
    assert [one["index"]["p"] for one in facts] == [0, 0, 1, 1]
    assert [round(one["position"]["x"]) for one in facts] == [10, 10, 40, 40]
    assert {one["exposure_ms"] for one in facts} == {2.0}
    assert {one["pixel_size_um"] for one in facts} == {core.getPixelSizeUm()}
    # Strength 0 is the identity, so this is each frame beside its own metadata.
    for frame, image in zip(shown.frames, acquired, strict=True):
        assert np.array_equal(frame.image, image)


def test_a_slow_model_neither_stops_the_camera_nor_takes_memory(core):
    shown = Shown()
    with attach(core, Slow(0.05), shown) as attached:
        core.mda.run(burst(60))
        summary = not_none(attached.detach())
    assert attached.received == 60
    assert 0 < summary.frames_out < 60
    assert balanced(attached, summary)
    times = [frame.metadata["index"]["t"] for frame in shown.frames]
    assert times == sorted(times)
    assert set(summary.frames_dropped) | set(summary.frames_lost) <= {
        *("overrun", "stale", "not taken in time")
    }


def test_frames_that_are_kept_wait_for_a_slow_model(core):
    shown = Shown()
    with attach(core, Slow(0.01), shown, keep=60) as attached:
        core.mda.run(burst(40))
        summary = not_none(attached.detach())
    assert [frame.metadata["index"]["t"] for frame in shown.frames] == list(range(40))
    assert summary.frames_out == attached.received == 40


def test_a_waiting_policy_is_refused(restorer):
    with pytest.raises(ArgumentError, match="give keep"):
        attach(None, restorer, Shown(), options=LiveOptions(overrun=Overrun.WAIT))
    with pytest.raises(ArgumentError, match="from 1 on"):
        attach(None, restorer, Shown(), keep=0)
    with pytest.raises(ArgumentError, match="CMMCorePlus, or a function"):
        attach(3, restorer, Shown())


def test_strength_is_turned_while_it_acquires(core):
    shown, acquired = Shown(), []
    keep_acquired = lambda image, *_: acquired.append(image)  # noqa: E731
    core.mda.events.frameReady.connect(keep_acquired)
    with (
        edgerestore.load("denoise-gray", strength=0.0, intensity_range="auto") as restorer,
        attach(core, restorer, shown, keep=50) as attached,
    ):
        core.mda.run(burst(3))
        wait_for(lambda: len(shown.frames) == 3)
        attached.strength = 1.0
        core.mda.run(burst(3))
    core.mda.events.frameReady.disconnect(keep_acquired)
    same = [
        np.array_equal(frame.image, image)
        for frame, image in zip(shown.frames, acquired, strict=True)
    ]
    assert same == [True] * 3 + [False] * 3


def test_each_channel_has_a_range_of_its_own(bundle):
    rng = np.random.default_rng(3)
    dim, bright = (rng.integers(low, low + 400, (48, 64), np.uint16) for low in (100, 9000))
    shown = Shown()
    with (
        edgerestore.load(bundle, intensity_range="auto") as restorer,
        attach(None, restorer, shown, keep=8) as attached,
    ):
        for _ in range(3):
            attached.put(dim, {"channel": "DAPI"})
            attached.put(bright, {"channel": "FITC"})
        attached.detach()
        assert restorer.intensity.mapped == 6
        assert restorer.intensity.outside == 0


def test_live_mode_is_looked_at(core, restorer):
    shown = Shown()
    with attach(core, restorer, shown) as attached:
        core.startContinuousSequenceAcquisition(0)
        wait_for(lambda: len(shown.frames) >= 5)
        core.stopSequenceAcquisition()
        summary = not_none(attached.detach())
    assert balanced(attached, summary)
    numbers = [int(frame.metadata["camera_metadata"]["ImageNumber"]) for frame in shown.frames]
    assert numbers == sorted(set(numbers))
    first, second = shown.frames[0].metadata, shown.frames[1].metadata
    assert {"x", "y"} <= first["position"].keys()
    assert first["exposure_ms"] == 2.0
    assert second["missed"] == numbers[1] - numbers[0] - 1 or summary.frames_dropped


def test_live_mode_that_runs_already_is_found_and_frames_end_with_the_attachment(core, restorer):
    shown = Shown()
    core.startContinuousSequenceAcquisition(0)
    with attach(core, restorer, shown):
        wait_for(lambda: len(shown.frames) >= 2)
    count = len(shown.frames)
    assert not [one for one in threading.enumerate() if one.name.startswith("edgerestore")]
    core.stopSequenceAcquisition()
    core.mda.run(burst(2))
    assert len(shown.frames) == count


class Camera:
    """Other control software: it fills one buffer again and again."""

    def __init__(self):
        self._callbacks, self._buffer = [], np.zeros((48, 64), np.uint16)

    def register(self, callback):
        self._callbacks.append(callback)

    def acquire(self, values):
        for value in values:
            self._buffer[:] = value
            for callback in self._callbacks:
                callback(self._buffer, {"number": value})
        self._buffer[:] = 0


def test_other_software_calls_a_function_with_its_arrays(restorer):
    camera, shown = Camera(), Shown()
    with attach(camera.register, restorer, shown, keep=50):
        camera.acquire(range(100, 120))
    assert [frame.metadata["number"] for frame in shown.frames] == list(range(100, 120))
    assert [int(frame.image[0, 0]) for frame in shown.frames] == list(range(100, 120))


def test_arrays_that_are_given_away_are_not_copied():
    shown, given = Shown(), np.full((48, 64), 7, np.uint16)
    options = LiveOptions(source=SourceOptions(owned=True))
    with attach(None, Slow(0.0), shown, keep=5, options=options) as attached:
        attached.put(given)
    assert shown.frames[0].image is given


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 8), np.int32), "int32"),
        (np.zeros((8, 8, 2), np.uint8), r"\(8, 8, 2\)"),
        ("no image", "frame 2 of the acquisition"),
    ],
)
def test_what_is_no_image_ends_it_with_an_error_but_not_the_camera(restorer, image, said):
    shown = Shown()
    attached = attach(None, restorer, shown, keep=5)
    attached.put(np.zeros((48, 64), np.uint16))
    attached.put(image)
    with pytest.raises(SourceError, match=said):
        attached.detach()
    attached.put(np.zeros((48, 64), np.uint16))  # the camera goes on
    assert attached.received == 3


def test_a_callback_that_fails_ends_it_and_is_told_once(core, restorer, caplog):
    def fail(_image, _frame):
        raise ValueError("no room on the screen")

    attached = attach(core, restorer, fail)
    core.mda.run(burst(3))
    wait_for(lambda: attached.session.state.value in ("FAILED", "ENDED"))
    with caplog.at_level(logging.WARNING, logger="edgerestore"):
        core.mda.run(burst(5))
    assert [one.message for one in caplog.records].count(
        "restoration has ended; further frames are not restored"
    ) == 1
    with pytest.raises(SinkError, match="no room on the screen"):
        attached.detach()


def test_an_acquisition_becomes_ome_zarr(core, restorer, tmp_path):
    from yaozarrs import validate_zarr_store

    plan = useq.MDASequence(
        channels=["DAPI", "FITC"],
        stage_positions=[(10, 20, 3), (40, 50, 6)],
        time_plan={"interval": 0, "loops": 3},
        z_plan={"range": 4, "step": 2},
    )
    path, shown = tmp_path / "run.ome.zarr", Shown()
    with attach(core, restorer, str(path), shown, keep=100):
        core.mda.run(plan)
    validate_zarr_store(str(path))
    root = zarr.open_group(path, mode="r")
    assert dict(root["OME"].attrs["ome"])["series"] == ["0", "1"]
    first = root["0"].attrs["ome"]
    assert [one["label"] for one in first["omero"]["channels"]] == ["DAPI", "FITC"]
    transform = first["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transform[0]["scale"] == [1.0, 1.0, 2.0, 1.0, 1.0]
    assert root["1/0"].shape == (3, 2, 3, 64, 96)
    for frame in shown.frames:
        index = frame.metadata["index"]
        plane = root[f"{index['p']}/0"][index["t"], index["c"], index["z"]]
        assert np.array_equal(plane, frame.image)
    lines = [json.loads(line) for line in (path / "frames.jsonl").read_text().splitlines()]
    assert len(lines) == len(shown.frames) == 36
    assert lines[-1]["position"]["x"] == pytest.approx(40, abs=0.1)
    assert lines[-1]["plane"] == [2, 1, 2]


def test_planes_that_did_not_come_are_told(core, tmp_path, caplog):
    path = tmp_path / "run.zarr"
    with (
        caplog.at_level(logging.WARNING, logger="edgerestore"),
        attach(core, Slow(0.05), path) as attached,
    ):
        core.mda.run(burst(30))
        summary = not_none(attached.detach())
    missing = zarr.open_group(path / "0", mode="r").attrs["edgerestore"]["missing"]
    assert len(missing) == 30 - summary.frames_out > 0
    assert f"{len(missing)} planes of the acquisition did not come" in caplog.text


def test_frames_without_an_index_follow_each_other(restorer, tmp_path):
    path = tmp_path / "live.zarr"
    with attach(None, restorer, path, keep=50) as attached:
        for value in range(5):
            attached.put(np.full((16, 16, 3), value, np.uint8))
    array = zarr.open_array(path / "0" / "0", mode="r")
    assert array.shape == (5, 3, 1, 16, 16)
    assert [int(array[t, 1, 0, 0, 0]) for t in range(5)] == list(range(5))
    with pytest.raises(SinkError, match="exists"):
        attach(None, restorer, path)


def test_a_frame_of_another_size_ends_the_store_and_leaves_nothing(tmp_path):
    attached = attach(None, Slow(0.0), tmp_path / "live.zarr", keep=5)
    attached.put(np.zeros((16, 16), np.uint16))
    attached.put(np.zeros((8, 16), np.uint16))
    with pytest.raises(SinkError, match=r"shape \(8, 16\)"):
        attached.detach()
    assert not list(tmp_path.iterdir())


def wait_for(done, most_s=30.0):
    end_s = time.perf_counter() + most_s
    while not done():
        assert time.perf_counter() < end_s
        time.sleep(0.005)
