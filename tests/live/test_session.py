"""One session for files, folders, streams and iterators; its log and its controls."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from itertools import repeat

import av
import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.imaging.arrays import Image
from edgerestore.streams.events import Event, EventKind, EventLog, StreamState, notices_to
from edgerestore.streams.image_iterator import stream_images
from edgerestore.streams.options import InputKind, LiveOptions, Overrun, SourceOptions, VideoOptions
from edgerestore.streams.session import Session

from ..checked import imread
from .live_tools import Shown

pytestmark = pytest.mark.usefixtures("no_thread_left")


class Inverts:
    """Anything with ``submit`` and ``depth`` restores."""

    depth = 2

    def submit(self, image, strength=None):
        done: Future[Image] = Future()
        done.set_result(255 - image)
        return done


def video(path, images):
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def frames_of(path):
    with av.open(str(path)) as container:
        return [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]


def save(path, image):
    cv2.imwrite(str(path), image[..., ::-1])
    return path


class TestKinds:
    def test_a_folder(self, image, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("a.png", "b.png"):
            save(folder / name, image)
        out = tmp_path / "out"
        session = Session(Inverts(), folder, [out], kind=InputKind.FOLDER)
        summary = session.run()
        assert (summary.kind, summary.frames_out) == (InputKind.FOLDER, 2)
        for name in ("a.png", "b.png"):
            assert np.array_equal(imread(out / name)[..., ::-1], 255 - image)

    def test_a_video_file(self, image, tmp_path):
        path, out = video(tmp_path / "in.mkv", [image] * 3), tmp_path / "out.mkv"
        options = LiveOptions(video=VideoOptions(codec="ffv1", pix_fmt="bgr0"))
        session = Session(Inverts(), str(path), [out], options, kind=InputKind.VIDEO)
        assert session.run().frames_out == 3
        for one in frames_of(out):
            assert np.array_equal(one, 255 - image)

    def test_a_file_loses_nothing_unless_it_may(self, image, tmp_path):
        path = video(tmp_path / "in.mkv", [image] * 20)
        shown = Shown(delay_s=0.005)
        Session(Inverts(), path, [shown], LiveOptions(realtime=False)).run()
        assert len(shown.images) == 20
        shown = Shown(delay_s=0.02)
        options = LiveOptions(overrun=Overrun.LATEST)
        summary = Session(Inverts(), path, [shown], options).run()
        assert len(shown.images) < 20
        assert summary.frames_in == summary.frames_out + sum(summary.frames_dropped.values()) == 20

    def test_from_file_to_file_nothing_is_ever_dropped(self, image, tmp_path):
        path, out = video(tmp_path / "in.mkv", [image] * 40), tmp_path / "out.mkv"
        options = LiveOptions(overrun=Overrun.LATEST, realtime=True)
        began_s = time.perf_counter()
        summary = Session(Inverts(), path, [out], options, kind=InputKind.VIDEO).run()
        assert summary.frames_in == summary.frames_out == 40
        assert time.perf_counter() - began_s < 1.2, "it was played at its own pace"

    def test_a_recording_never_replaces_its_input(self, image, tmp_path):
        path = video(tmp_path / "in.mkv", [image] * 4)
        before = path.read_bytes()
        options = LiveOptions(overwrite=True, source=SourceOptions(paced=True))
        with pytest.raises(SinkError, match=r"in\.mkv: is the input; choose another name"):
            Session(Inverts(), path, [path], options).run()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_restorer_of_any_kind_streams(self, image, tmp_path):
        path = video(tmp_path / "in.mkv", [image] * 4)
        images = list(stream_images(Inverts(), str(path)))  # type: ignore[arg-type]
        assert len(images) == 4
        assert np.array_equal(images[0], 255 - image)

    def test_an_iterator_that_is_left_leaves_nothing(self, image):
        images = stream_images(Inverts(), repeat(image))  # type: ignore[arg-type]
        next(images)
        began_s = time.perf_counter()
        images.close()
        assert time.perf_counter() - began_s < 1


def test_only_what_was_loaded_has_controls(image):
    with Session(Inverts(), [image], [Shown()]) as session:
        with pytest.raises(ArgumentError, match="can be controlled"):
            session.status()
        with pytest.raises(ArgumentError, match="can be controlled"):
            session.strength = 0.5
    with pytest.raises(ArgumentError, match="target_fps"):
        Session(Inverts(), [image], [Shown()], LiveOptions(target_fps=25))


def test_frames_of_a_video_are_judged_together_and_images_are_not(image, tmp_path):
    seen = []

    def source(restorer):
        for _ in range(3):
            seen.append(restorer.steady)
            yield image

    with edgerestore.load("deblur", strength=0.0) as restorer:
        Session(restorer, source(restorer), [Shown()]).run()
        assert seen == [True] * 3
        assert not restorer.steady
        restorer.steady = True
        path = str(save(tmp_path / "a.png", image))
        edgerestore.restore_path(restorer, path, tmp_path / "b.png", progress="none")
        assert restorer.steady


def test_stopping_needs_no_poll(image):
    never = threading.Event()

    def silent():
        yield image
        never.wait(10)

    shown = Shown()
    session = Session(Inverts(), silent(), [shown])
    session.start()
    shown.wait_for(1)
    session.stop()
    summary = session.join(2)
    never.set()
    assert summary is not None
    assert session.state is StreamState.ENDED
    assert not summary.interrupted


def test_an_outside_stop_is_told_as_one(image):
    stop = threading.Event()

    def source():
        for _ in range(3):
            yield image
        stop.set()
        yield from repeat(image, 10_000)

    session = Session(Inverts(), source(), [Shown()])
    assert session.run(stop).interrupted
    assert (session.events[-1].message, session.events[-1].cause) == ("stopped", "asked")


class TestLog:
    def test_notices_are_lines_of_the_log(self, image, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        save(folder / "good.png", image)
        (folder / "bad.png").write_bytes(b"no picture")
        lines: list[str] = []
        before = logging.getLogger("edgerestore").level
        summary = edgerestore.restore_path(
            Inverts(), str(folder), tmp_path / "out", progress="none", notice=lines.append
        )
        assert summary.exit_code == 1
        assert len(lines) == 2
        assert "bad.png" in lines[0]
        assert lines[1] == f"{folder}: 1 of 2 images were skipped"
        package = logging.getLogger("edgerestore")
        assert package.level == before
        assert [type(one) for one in package.handlers] == [logging.NullHandler]

    @pytest.mark.parametrize(
        ("source", "output", "error"),
        [
            ("gopher://x", "out.mp4", SourceError),
            ("none.mp4", "out.mp4", SourceError),
            ("-", "gopher://x", SinkError),
        ],
    )
    def test_what_cannot_be_opened_leaves_no_handler(self, source, output, error):
        with pytest.raises(error):
            Session(Inverts(), source, [output], notice=print)
        handlers = logging.getLogger("edgerestore").handlers
        assert [type(one) for one in handlers] == [logging.NullHandler]

    def test_a_session_that_never_ran_leaves_no_handler(self, image):
        with Session(Inverts(), [image], [Shown()], notice=print):
            assert len(logging.getLogger("edgerestore").handlers) == 2
        assert len(logging.getLogger("edgerestore").handlers) == 1

    def test_each_of_two_sessions_has_its_own_notices(self, image, tmp_path):
        package = logging.getLogger("edgerestore")
        lines: tuple[list[str], list[str]] = ([], [])
        folders = [tmp_path / name for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
            save(folder / "good.png", image)
            (folder / f"{folder.name}.png").write_bytes(b"no picture")
        sessions = [
            Session(
                Inverts(),
                folder,
                [tmp_path / f"{folder.name} out"],
                notice=one.append,
                kind=InputKind.FOLDER,
            )
            for folder, one in zip(folders, lines, strict=True)
        ]
        sessions[0].start()
        sessions[0].join()
        package.info("of no session")
        sessions[1].run()
        assert [len(one) for one in lines] == [2, 3]
        assert "first.png" in lines[0][0]
        assert lines[1][0] == "of no session"
        assert "second.png" in lines[1][1]
        assert package.level == logging.NOTSET

    def test_frames_of_several_outputs_are_noticed_too(self, image):
        lines: list[str] = []
        others: list[str] = []

        def shown(_image, _frame):
            logging.getLogger("edgerestore").info("shown")

        with notices_to(others.append, object()):
            Session(Inverts(), [image], [shown, Shown()], notice=lines.append).run()
        assert (lines, others) == (["shown"], [])

    def test_events_are_lines_too_but_no_notices(self, caplog):
        lines: list[str] = []
        heard: list[Event] = []
        log = EventLog(heard.append)
        with caplog.at_level(logging.INFO), notices_to(lines.append):
            log.record(EventKind.CONNECTED, "camera:0: connected")
            log.record(EventKind.LOST, "camera:0: gone")
            log.move(StreamState.RECONNECTING, "camera:0: gone")
            logging.getLogger("edgerestore.streams").info("a notice")
        assert lines == ["a notice"]
        assert [one.kind for one in heard] == [EventKind.CONNECTED, EventKind.LOST, EventKind.STATE]
        assert [(r.levelname, r.message) for r in caplog.records] == [
            ("INFO", "camera:0: connected"),
            ("WARNING", "camera:0: gone"),
            ("INFO", "a notice"),
        ]

    def test_a_program_that_asks_for_nothing_sees_nothing(self, capfd):
        EventLog().record(EventKind.LOST, "camera:0: gone")
        assert capfd.readouterr() == ("", "")
