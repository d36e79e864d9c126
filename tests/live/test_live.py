"""A stream that is embedded: turned while it runs, and always accounted for."""

from __future__ import annotations

import http.client
import json
from itertools import repeat

import av
import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError
from edgerestore.server.control import ControlServer
from edgerestore.streams.events import EventKind, StreamState
from edgerestore.streams.options import LiveOptions, SourceOptions
from edgerestore.streams.session import Live

from ..streams.servers import HttpServer
from .live_tools import CAMERA, Shown, camera, of_kind, until

pytestmark = pytest.mark.usefixtures("no_thread_left")


def test_a_generator_is_restored_frame_by_frame(restorer, image):
    shown = Shown()
    summary = Live(restorer, repeat(image, 5), [shown]).run()
    assert summary.frames_in == summary.frames_out == 5
    assert summary.exit_code == 0
    for one in shown.images:
        np.testing.assert_array_equal(one, restorer(image))


def test_strength_is_seen_on_the_next_frame_submitted(restorer, image):
    shown = Shown()

    def frames():
        for index in range(9):
            if index == 4:
                shown.wait_for(2)
                live.strength = 0.0
            yield image

    live = Live(restorer, frames(), [shown])
    live.run()
    restored = restorer(image, strength=1.0)
    untouched = [bool(np.array_equal(one, image)) for one in shown.images]
    assert untouched == sorted(untouched), "it went back"
    assert all(untouched[4:])
    for one, same in zip(shown.images, untouched, strict=True):
        np.testing.assert_array_equal(one, image if same else restored)
    assert not untouched[0]


def test_turning_the_restorer_turns_the_stream(restorer, image):
    shown = Shown()
    with Live(restorer, camera(image), [shown], LiveOptions(source=CAMERA)) as live:
        live.start()
        shown.wait_for(3)
        restorer.strength = 0.0
        assert live.strength == 0.0
        shown.wait_for(len(shown.images) + 5)
    np.testing.assert_array_equal(shown.images[-1], image)


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), "much", None])
def test_a_strength_out_of_range_changes_nothing(restorer, image, strength):
    live = Live(restorer, [image], [Shown()])
    with pytest.raises(ArgumentError, match="strength is a number from 0 to 2"):
        live.strength = strength
    assert live.strength == 1.0
    live.run()


def test_a_slow_callback_drops_and_everything_is_counted(restorer, image):
    shown = Shown(delay_s=0.05)
    live = Live(restorer, camera(image, 60), [shown], LiveOptions(source=CAMERA))
    summary = live.run()
    assert summary.frames_in + sum(live.snapshot().frames_lost.values()) == 60
    assert summary.frames_out == len(shown.images) < 40
    assert summary.frames_in == summary.frames_out + sum(summary.frames_dropped.values())


def test_several_outputs_at_once(restorer, image, tmp_path):
    shown, file = Shown(), tmp_path / "out.mp4"
    live = Live(restorer, repeat(image, 20), [shown, str(file), "http://127.0.0.1:0"])
    live.run()
    assert len(shown.images) == 20
    with av.open(str(file)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_the_control_endpoint_turns_it(restorer, image):
    shown = Shown()
    live = Live(restorer, camera(image), [shown], LiveOptions(source=CAMERA))
    with live, ControlServer(live, "127.0.0.1:0") as server:
        live.start()
        shown.wait_for(3)

        def ask(method, wish=None):
            connection = http.client.HTTPConnection(str(server.address), timeout=10)
            headers = {"Content-Type": "application/json"} if wish else {}
            connection.request(method, "/", json.dumps(wish) if wish else None, headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            connection.close()
            return answer.status, body

        status, body = ask("GET")
        assert (status, body["strength"], body["state"]) == (200, 1.0, "RUNNING")
        assert body["statistics"]["frames_in"] > 0
        assert body["last_error"] is None
        status, body = ask("PATCH", {"model": "nosuch", "strength": 2})
        assert status == 400
        assert "nosuch" in body["error"]
        assert live.strength == 1.0
        assert ask("PATCH", {"strength": 0})[0] == 200
        shown.wait_for(len(shown.images) + 4)
        np.testing.assert_array_equal(shown.images[-1], image)
        assert ask("PATCH", {"strength": 1, "precision": "int8"})[0] == 202
        until(lambda: of_kind(live, EventKind.SWITCHED))
        shown.wait_for(len(shown.images) + 4)
        with edgerestore.load("deblur", precision="int8") as int8:
            np.testing.assert_array_equal(shown.images[-1], int8(image))
        assert ask("PATCH", {"paused": True})[1]["state"] == "PAUSED"
        until(lambda: live.snapshot().frames_dropped.get("paused", 0) > 3)
        assert ask("PATCH", {"paused": False})[1]["state"] == "RUNNING"
        shown.wait_for(len(shown.images) + 4)
    counts = live.snapshot()
    assert counts.frames_in == counts.frames_out + sum(counts.frames_dropped.values())
    assert live.state is StreamState.ENDED


def test_a_source_that_goes_on_with_another_size_is_followed(restorer, picture, tmp_path):
    small, large = picture(48, 64), picture(60, 96)
    shown = Shown()
    frames = [small] * 6 + [large] * 6
    Live(restorer, frames, [shown, str(tmp_path / "out.mp4")]).run()
    assert [one.shape for one in shown.images] == [one.shape for one in frames]
    np.testing.assert_array_equal(shown.images[-1], restorer(large))
    sizes = []
    for path in sorted(tmp_path.glob("*.mp4"), key=lambda one: one.stem):
        with av.open(str(path)) as container:
            sizes += [(one.height, one.width) for one in container.decode(video=0)]
    assert sizes == [(48, 64)] * 6 + [(60, 96)] * 6


def test_the_work_is_lowered_to_keep_up(restorer, image):
    options = LiveOptions(source=SourceOptions(stall_s=20), target_fps=5000.0)
    live = Live(restorer, camera(image, period_s=0.0), [Shown()], options)
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.STEPPED) and live.snapshot().precision == "int8")
        assert live.status()["level"] == "int8"
    assert "wanted" in of_kind(live, EventKind.STEPPED)[0].message


def test_a_named_source_is_an_iterator_of_restored_images(restorer):
    with HttpServer(size=(64, 48)) as server:
        images = restorer.stream(server.url)
        seen = [next(images) for _ in range(5)]
        restorer.strength = 0.0
        assert next(images).shape == (48, 64, 3)
        images.close()
    assert {one.shape for one in seen} == {(48, 64, 3)}


def test_a_named_file_is_restored_whole_and_in_order(restorer, tmp_path, picture):
    path = tmp_path / "in.mkv"
    frames = [picture(48, 64, seed=seed) for seed in range(7)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    restored = list(restorer.stream(str(path), strength=0.5))
    assert len(restored) == 7
    for one, frame in zip(restored, frames, strict=True):
        np.testing.assert_array_equal(one, restorer(frame, strength=0.5))
