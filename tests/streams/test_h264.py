"""H.264 in parts, and what a network lost of it."""

from __future__ import annotations

import io
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sources.ffmpeg import ContainerConnection
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.h264 import PictureNumbers, decoding_threads, joined

from .servers import RtspServer, nal_units, picture
from .tools import Taker, open_live

SIZE = (160, 96)
PARAMETERS, KEY_SLICE = (7, 8), 5


def kind(unit):
    return unit[0] & 31


def encoded(picture_at, *, slices=2, frames=15, every=5, split=True):
    """Return the pictures of a stream as lists of units, parameters before each key slice."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {
        "tune": "zerolatency",
        "x264-params": f"slices={slices}:keyint={every}:scenecut=0:threads=1",
    }
    pictures = []
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(picture_at(index, *SIZE[::-1]), format="rgb24")
        frame.pts = index
        (packet,) = encoder.encode(frame)
        units = nal_units(bytes(packet))
        again = [one for one in units if kind(one) in PARAMETERS] if split else []
        first = next(one for one in units if kind(one) not in (*PARAMETERS, 6))
        pictures.append(
            [
                part
                for one in units
                for part in ([*again, one] if kind(one) == KEY_SLICE and one != first else [one])
            ]
        )
    return pictures


def stream(pictures):
    return b"".join(b"\0\0\0\1" + unit for units in pictures for unit in units)


def decoded(pictures, **options):
    container: Any = av.open(io.BytesIO(stream(pictures)), format="h264")
    connection = ContainerConnection(container, "there", finite=True, threads=4, **options)
    images = [frame.image.astype(int) for frame in connection]
    connection.close()
    return images, connection.lost


@pytest.mark.parametrize("slices", [2, 4])
def test_parameters_before_each_slice_of_a_key_picture(picture_at, slices):
    """Each part became a picture of its own, green where the others belong."""
    whole, _ = decoded(encoded(picture_at, slices=slices, split=False))
    images, lost = decoded(encoded(picture_at, slices=slices))
    assert len(images) == len(whole) == 15
    assert not lost
    assert all((image == other).all() for image, other in zip(images, whole, strict=True))
    assert np.abs(images[0] - picture_at(0, *SIZE[::-1])).mean() < 4


@pytest.mark.parametrize("name", ["in.h264", "in.ts"])
def test_a_file_of_such_a_stream(picture_at, tmp_path, name, notices):
    pictures = encoded(picture_at)
    path = tmp_path / name
    if name == "in.ts":
        with av.open(str(path), "w") as container:
            track: Any = container.add_stream("libx264", rate=25)
            track.width, track.height = SIZE
            for index, units in enumerate(pictures):
                packet: Any = av.Packet(stream([units]))
                packet.stream, packet.time_base = track, Fraction(1, 25)
                packet.pts = packet.dts = index
                container.mux(packet)
    else:
        path.write_bytes(stream(pictures))
    source = VideoFileSource(path, threads=4)
    images = [frame.image.astype(int) for frame in source if isinstance(frame, Frame)]
    source.close()
    assert len(images) == 15
    assert all(
        np.abs(image - picture_at(index, *SIZE[::-1])).mean() < 8
        for index, image in enumerate(images)
    )


def test_damaged_pictures_of_a_file_are_told(picture_at, tmp_path, notices):
    pictures = encoded(picture_at, slices=4, every=10, split=False)
    pictures[7].pop()
    path = tmp_path / "in.h264"
    path.write_bytes(stream(pictures))
    source = VideoFileSource(path, threads=4)
    assert sum(1 for _ in source) == 15
    source.close()
    assert any("1 frame damaged: a part of each is missing" in line for line in notices)


def test_only_the_first_key_picture_waits_for_the_packet_after_it(picture_at):
    container: Any = av.open(io.BytesIO(stream(encoded(picture_at))), format="h264")
    taken = []

    def packets():
        for packet in container.demux():
            taken.append(packet)
            yield packet

    waits = [len(taken) for _ in joined(packets())]
    assert waits == [3, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19]
    container.close()


@pytest.mark.parametrize("place", [7, 10])
@pytest.mark.parametrize("loss", ["slice", "cut"])
def test_a_picture_of_which_a_part_was_lost_is_counted(picture_at, place, loss):
    """With a thread for each slice, FFmpeg tells of no damage: it came green and as whole."""
    pictures = encoded(picture_at, slices=4, every=10, split=False, frames=25)
    whole, _ = decoded(pictures)
    last = pictures[place].pop()
    if loss == "cut":
        pictures[place].append(last[: len(last) // 2])
    images, lost = decoded(pictures)
    assert lost == {"broken picture": 1}
    assert len(images) == 24
    held, lost = decoded(pictures, hold_damaged=True)
    back = place + (10 - place % 10 if place % 10 else 10)
    assert lost == {"broken picture": 1, "held back until a key frame": back - place - 1}
    right = whole[:place] + whole[back:]
    assert all((image == other).all() for image, other in zip(held, right, strict=True))


@pytest.mark.parametrize("slices", [1, 4])
def test_a_picture_that_was_lost_whole_is_counted(picture_at, slices):
    """FFmpeg builds the next ones on the picture before it, without a word."""
    pictures = encoded(picture_at, slices=slices, every=10, split=False, frames=25)
    whole, _ = decoded(pictures)
    del pictures[7]
    images, lost = decoded(pictures)
    assert lost == {"lost picture": 1}
    assert len(images) == 24
    assert any((images[place] != whole[place + 1]).any() for place in (7, 8))
    held, lost = decoded(pictures, hold_damaged=True)
    assert lost == {"lost picture": 1, "held back until a key frame": 2}
    right = whole[:7] + whole[10:]
    assert all((image == other).all() for image, other in zip(held, right, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"bf": "3", "x264-params": "b-pyramid=normal:keyint=12"},
        {"profile": "baseline", "bf": "0"},
        {"profile": "high444", "x264-params": "cqm=jvt"},
        {"x264-params": "keyint=400:intra-refresh=1"},
        {"x264-params": "tff=1:bframes=2"},
    ],
)
def test_nothing_is_missed_where_nothing_was_lost(clip, tmp_path, options, notices):
    pix_fmt = "yuv444p" if options.get("profile") == "high444" else "yuv420p"
    path = clip(tmp_path / "in.ts", frames=60, options=options, pix_fmt=pix_fmt)
    container: Any = av.open(str(path))
    connection = ContainerConnection(container, "there", finite=True, hold_damaged=True)
    assert sum(1 for _ in connection) == 60
    connection.close()
    assert not connection.lost


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0x67, 0x68, 0x65, 0x41, 0x01]), st.binary(max_size=60)),
        max_size=6,
    )
)
def test_nonsense_is_no_failure(units):
    packets = [av.Packet(b"\0\0\1" + bytes([head]) + body) for head, body in units]
    for packet in packets:
        packet.time_base = Fraction(1, 25)
    numbers = PictureNumbers(stream([[bytes([0x67, 100]) + body for _, body in units]]))
    assert all(numbers.lost_before(one) in (True, False) for one in joined(packets))


@pytest.mark.parametrize(
    ("name", "size", "rate", "threads"),
    [
        ("h264", (1920, 1080), 60, 1),
        ("h264", (3840, 2160), 30, 4),
        ("hevc", (64, 64), 25, 4),
    ],
)
def test_one_thread_decodes_what_it_can(name, size, rate, threads):
    context: Any = SimpleNamespace(name=name, width=size[0], height=size[1])
    assert decoding_threads(context, Fraction(rate), 4) == threads


def test_a_sender_that_repeats_them_by_rtsp():
    with RtspServer() as server:
        server.slices = 2
        with Taker(open_live(server.url)) as taker:
            taker.more(12)
        assert not {"broken picture", "broken packet"} & taker.source.lost.keys()
    sent = [picture(index, server.size).astype(int) for index in range(100)]
    for frame in taker.frames:
        assert min(np.abs(frame.image - one).mean() for one in sent) < 12
