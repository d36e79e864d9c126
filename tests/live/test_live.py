"""A stream that is embedded: turned while it runs, ended in every way, and always accounted."""

from __future__ import annotations

import http.client
import json
import threading
import time
from itertools import repeat

import av
import numpy as np
import pytest

import edgerestore
from edgerestore.engine.events import EventKind, StreamState
from edgerestore.engine.guard import GuardCounts
from edgerestore.engine.live.control_server import ControlServer
from edgerestore.engine.live.live import Live
from edgerestore.engine.live_options import LiveOptions
from edgerestore.engine.pending import Pending
from edgerestore.engine.restorer import Restorer
from edgerestore.engine.sources.opening import SourceOptions
from edgerestore.errors import ArgumentError, SinkError, SourceError, SourceLostError

from ..streams.servers import HttpServer

CAMERA = SourceOptions(live=True, fps=50, stall_s=5)


@pytest.fixture(autouse=True)
def _no_thread_left():
    yield
    # A producer that a test held up needs a moment once it is let go.
    for one in threading.enumerate():
        if one.name.startswith("edgerestore-"):
            one.join(2)
            assert not one.is_alive(), one.name


@pytest.fixture
def image(picture):
    return picture(48, 64)


@pytest.fixture
def restorer():
    with edgerestore.load("deblur", precision="fp32", live=True) as opened:
        yield opened


class Shown:
    """A callback that keeps what it is shown."""

    def __init__(self, delay_s=0.0):
        self.images, self.frames, self._delay_s = [], [], delay_s

    def __call__(self, image, frame):
        time.sleep(self._delay_s)
        self.images.append(image)
        self.frames.append(frame)

    def wait_for(self, count, most_s=30.0):
        end_s = time.perf_counter() + most_s
        while len(self.images) < count:
            assert time.perf_counter() < end_s, f"only {len(self.images)} of {count}"
            time.sleep(0.005)


def camera(image, count=10_000, period_s=0.01):
    for _ in range(count):
        time.sleep(period_s)
        yield image


def until(condition, most_s=30.0):
    end_s = time.perf_counter() + most_s
    while not condition():
        assert time.perf_counter() < end_s, "it did not come to pass"
        time.sleep(0.01)


def of_kind(live, kind):
    return [event for event in live.events if event.kind is kind]


def states(live):
    return [event.state for event in of_kind(live, EventKind.STATE)]


def test_a_generator_is_restored_frame_by_frame(restorer, image):
    shown = Shown()
    summary = Live(restorer, repeat(image, 5), [shown]).run()
    assert summary.frames_in == summary.frames_out == 5
    assert summary.exit_code == 0
    for one in shown.images:
        np.testing.assert_array_equal(one, restorer(image))


def test_strength_is_seen_on_the_next_frame_submitted(restorer, image):
    shown = Shown()
    live = None

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


def test_stopping_while_the_source_is_silent(restorer, image):
    silent = threading.Event()

    def frames():
        yield image
        silent.wait(30)

    live = Live(restorer, frames(), [Shown()])
    live.start()
    until(lambda: live.snapshot().frames_out == 1)
    start_s = time.perf_counter()
    live.stop()
    summary = live.join(10)
    assert time.perf_counter() - start_s < 1.5
    assert summary.exit_code == 0
    silent.set()


def test_an_outside_stop_counts_as_interrupted(restorer, image):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    summary = Live(restorer, camera(image), [Shown()], LiveOptions(source=CAMERA)).run(stop)
    assert summary.exit_code == 130


def test_a_source_that_does_not_come_back_within_its_retries(restorer, tmp_path):
    options = LiveOptions(source=SourceOptions(retries=1))
    live = Live(restorer, "tcp://127.0.0.1:9", [str(tmp_path / "out.mp4")], options)
    with pytest.raises(SourceLostError) as caught:
        live.run()
    assert caught.value.exit_code == 4
    assert states(live) == [StreamState.RECONNECTING, StreamState.FAILED]
    assert list(tmp_path.iterdir()) == []


def broken(image):
    yield image
    raise OSError("the camera was unplugged")


@pytest.mark.parametrize(
    ("frames", "error", "words"),
    [
        (broken, SourceError, "the camera was unplugged"),
        (lambda image: [image, np.zeros((4, 4, 9), np.uint8)], SourceError, "9"),
        (lambda image: [image, "no image"], SourceError, "str"),
    ],
)
def test_a_producer_that_goes_wrong_is_one_line(restorer, image, frames, error, words):
    shown = Shown()
    live = Live(restorer, frames(image), [shown])
    with pytest.raises(error, match=words) as caught:
        live.run()
    assert "\n" not in str(caught.value)
    assert live.state is StreamState.FAILED


def test_a_producer_that_blocks_for_ever_is_lost(restorer, image):
    release = threading.Event()

    def frames():
        yield image
        release.wait(30)

    options = LiveOptions(source=SourceOptions(stall_s=0.3))
    live = Live(restorer, frames(), [Shown()], options)
    with pytest.raises(SourceLostError, match=r"0\.3 s"):
        live.run()
    release.set()


def test_a_callback_that_raises_is_one_line(restorer, image):
    def fails(_image, _frame):
        raise KeyError("no such thing")

    with pytest.raises(SinkError, match="no such thing"):
        Live(restorer, repeat(image, 5), [fails]).run()


class Hangs(Restorer):
    """A restorer whose device stops answering at some frame."""

    def __init__(self, inner, at):
        super().__init__(inner.bundle, inner.device, inner.precision, 1.0)
        self._inner, self._at, self._count, self.closed = inner, at, 0, False
        self.again = lambda _model, _precision, _strength: inner

    @property
    def depth(self):
        return 1

    def submit(self, image, strength=None):
        self._count += 1
        if self._count == self._at:
            return Pending([Never()], image.copy)
        return self._inner.submit(image, strength)

    def close(self):
        self.closed = True


class Never:
    def done(self):
        return False

    def result(self, timeout=None):
        time.sleep(timeout)
        raise TimeoutError


def test_a_device_that_hangs_is_replaced(restorer, image):
    shown, restored = Shown(), restorer(image)
    options = LiveOptions(source=CAMERA, answer_s=0.3)
    live = Live(Hangs(restorer, at=5), camera(image, 150), [shown], options)
    summary = live.run()
    assert len(of_kind(live, EventKind.STUCK)) == 1
    assert summary.frames_dropped["failed"] == 1
    assert len(shown.images) > 20
    np.testing.assert_array_equal(shown.images[-1], restored)


def test_the_work_is_lowered_to_keep_up(restorer, image):
    options = LiveOptions(source=SourceOptions(stall_s=20), target_fps=5000.0)
    live = Live(restorer, camera(image, period_s=0.0), [Shown()], options)
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.STEPPED) and live.snapshot().precision == "int8")
        assert live.status()["level"] == "int8"
    assert "wanted" in of_kind(live, EventKind.STEPPED)[0].message


def test_frames_too_slow_to_be_shown_are_explained(restorer, image):
    options = LiveOptions(source=CAMERA, max_staleness_s=1e-4)
    live = Live(restorer, camera(image), [Shown()], options)
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.STALE))
    assert "none is shown" in of_kind(live, EventKind.STALE)[0].message
    assert live.snapshot().frames_out == 0


class Spoils(Hangs):
    """A restorer of which some tiles come out wrong."""

    @property
    def guarded(self):
        return GuardCounts(tiles=self._count, drift=self._count // 2)


def test_tiles_that_fell_back_are_told(restorer, image):
    live = Live(Spoils(restorer, at=0), camera(image), [Shown()], LiveOptions(source=CAMERA))
    with live:
        live.start()
        until(lambda: of_kind(live, EventKind.GUARDED))
    event = of_kind(live, EventKind.GUARDED)[0]
    assert event.details["drift"] > 0
    assert live.snapshot().guarded["drift"] >= event.details["drift"]


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


def test_a_named_source_that_fails_says_so(restorer, tmp_path):
    with pytest.raises(SourceError):
        next(restorer.stream(str(tmp_path / "none.mp4")))
    lost = restorer.stream(
        "tcp://127.0.0.1:9", options=LiveOptions(source=SourceOptions(retries=0))
    )
    with pytest.raises(SourceLostError):
        next(lost)


def test_what_cannot_be_opened_leaves_nothing(restorer, image, tmp_path):
    with pytest.raises(SinkError, match="foo"):
        Live(restorer, [image], [str(tmp_path / "out.mp4"), "foo://x"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError):
        Live(restorer, str(tmp_path / "none.mp4"), [Shown()])
    with pytest.raises(SinkError, match="twice"):
        Live(restorer, [image], [str(tmp_path / "out.mp4"), str(tmp_path / "out.mp4")])
    assert list(tmp_path.iterdir()) == []
