"""Media that were damaged or made to do harm: a result or one line, and no other file."""

from __future__ import annotations

import io
import resource
import socket
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgerestore.errors import EdgerestoreError
from edgerestore.streams.events import EventLog
from edgerestore.streams.options import RawFormat, VideoOptions
from edgerestore.streams.session import restore_path
from edgerestore.streams.sources.pipe import open_pipe
from edgerestore.streams.sources.registry import open_source

from ..streams.servers import HttpServer
from ..streams.tools import QUICK
from .fuzz import damaged, fuzz

SIZE = 32, 24
FRAMES = 4
MOST_MIB = 512
VIDEOS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "mov": ("mov", "mjpeg", "yuvj420p"),
    "mkv": ("matroska", "ffv1", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
    "y4m": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
}
IMAGES = ("png", "jpg", "tif", "bmp", "webp")
PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nm=video 9 RTP/AVP 96\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>',
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>',
}


class Echo:
    depth = 2

    def submit(self, image: NDArray[Any]) -> Any:
        done: Future[object] = Future()
        done.set_result(image)
        return done


def video(container: str, codec: str, pix_fmt: str) -> bytes:
    written = io.BytesIO()
    with av.open(written, "w", format=container) as file:
        stream = cast("av.VideoStream", file.add_stream(codec, rate=25))
        (stream.width, stream.height), stream.pix_fmt = SIZE, pix_fmt
        for index in range(FRAMES):
            image = np.full((SIZE[1], SIZE[0], 3), 40 * index, np.uint8)
            image[:, index::4] = 255 - 40 * index
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return written.getvalue()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A small file of each kind."""
    found = {suffix: video(*how) for suffix, how in VIDEOS.items()}
    image = np.tile(np.arange(SIZE[0], dtype=np.uint8)[None, :, None] * 7, (SIZE[1], 1, 3))
    for suffix in IMAGES:
        found[suffix] = cv2.imencode(f".{suffix}", image)[1].tobytes()
    return found


def everything_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_message(error: EdgerestoreError) -> None:
    message = str(error)
    assert message
    assert len(message.splitlines()) <= 2
    assert "Traceback" not in message


def restore(folder: Path, suffix: str, content: bytes) -> bool:
    """Restore a file; return whether it was, after a look at what was written where."""
    source = folder / "in" / f"film.{suffix}"
    output = folder / "out" / ("film.png" if suffix in IMAGES else "film.mkv")
    for one in (source.parent, output.parent):
        one.mkdir(exist_ok=True)
    source.write_bytes(content)
    before = everything_under(folder)
    try:
        restore_path(Echo(), str(source), output, progress="none", video=VideoOptions(codec="ffv1"))
        assert everything_under(folder) == before | {str(output.relative_to(folder))}
        output.unlink()
    except EdgerestoreError as error:
        check_message(error)
        assert everything_under(folder) == before
        return False
    finally:
        assert source.read_bytes() == content
        source.unlink()
    return True


def test_each_kind_is_restored_whole(files: dict[str, bytes], tmp_path: Path) -> None:
    assert all(restore(tmp_path, suffix, content) for suffix, content in files.items())


def test_fuzz_media(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    kinds = sorted(files)
    grown_mib = peak_mib()
    done: list[bool] = []

    def target(marked: bytes) -> None:
        done.append(restore(tmp_path, kinds[marked[0]], marked[1:]))

    marked = st.sampled_from(range(len(kinds))).flatmap(
        lambda kind: damaged([files[kinds[kind]]]).map(lambda content: bytes([kind]) + content)
    )
    fuzz(marked, target)
    assert any(done)
    assert not all(done)
    assert peak_mib() - grown_mib < MOST_MIB


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_png_that_claims_a_gigabyte_takes_none(files: dict[str, bytes], tmp_path: Path) -> None:
    before_mib, whole = peak_mib(), files["png"]
    for at in (33, len(whole) - 12):  # the chunk behind the head, and the end's
        claims = (900 << 20).to_bytes(4, "big")
        assert not restore(tmp_path, "png", whole[:at] + claims + b"tEXt" + whole[at:])
    assert peak_mib() - before_mib < 256


@pytest.mark.parametrize("suffix", IMAGES)
def test_an_image_cut_off_anywhere_is_one_line(
    suffix: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    content = b"RIFF\x1a\0\0\0WEBPVP8X" if suffix == "webp" else files[suffix]
    for length in range(1, min(40, len(content)) + 1):
        restore(tmp_path, suffix, content[:length])


@pytest.mark.parametrize("kind", ["y4m", "mkv", "ts", "raw"])
def test_fuzz_pipe(files: dict[str, bytes], kind: str) -> None:
    raw = RawFormat("rgb24", *SIZE) if kind == "raw" else None
    whole = bytes(3 * SIZE[0] * SIZE[1] * FRAMES) if kind == "raw" else files[kind]
    grown_mib = peak_mib()

    def target(content: bytes) -> None:
        source = open_pipe(io.BytesIO(content), raw)
        try:
            for _ in source:
                pass
        except EdgerestoreError as error:
            check_message(error)
        finally:
            source.close()

    fuzz(damaged([whole]), target)
    assert peak_mib() - grown_mib < MOST_MIB


@pytest.fixture
def secret(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A film that lies on this machine and that nobody named."""
    path = tmp_path / "secret.ts"
    path.write_bytes(files["ts"])
    return path


def test_a_list_from_the_network_plays_what_lies_beside_it(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "live.m3u8").write_text(PLAYLISTS["hls"].format(secret.name))
    with HttpServer(folder=tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}/live.m3u8"
        source = open_source(url, replace(QUICK, retries=0), log=EventLog())
        assert next(iter(source))
        source.close()


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}", "../../secret.ts", "concat:{}"])
def test_a_list_from_the_network_that_names_local_files_shows_none(
    kind: str, form: str, secret: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "live.m3u8").write_text(PLAYLISTS[kind].format(form.format(secret)))
    with HttpServer(folder=folder) as server:
        url = f"http://127.0.0.1:{server.port}/live.m3u8"
        source = open_source(url, replace(QUICK, retries=0), log=EventLog())
        with pytest.raises(EdgerestoreError) as caught:
            next(iter(source))
        source.close()
    check_message(caught.value)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_list_in_a_file_opens_no_connection_and_is_no_film_by_another_name(
    kind: str, secret: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/film.ts"
        for suffix, named in (
            ("m3u8", url),
            ("mp4", url),
            ("mp4", str(secret)),
            ("ts", str(secret)),
        ):
            assert not restore(tmp_path, suffix, PLAYLISTS[kind].format(named).encode())
        with pytest.raises(TimeoutError):
            listener.accept()


DECODING = """
import io, sys, threading, time
import av
from edgerestore.imaging.error_translation import listened

def decode():
    while not done.is_set():
        with av.open(io.BytesIO(film)) as container:
            container.streams.video[0].codec_context.thread_count = 4
            for packet in container.demux(video=0):
                try:
                    packet.decode()
                except av.error.FFmpegError:
                    pass

film, done = sys.stdin.buffer.read(), threading.Event()
threads = [threading.Thread(target=decode) for _ in range(3)]
for one in threads:
    one.start()
until = time.monotonic() + 0.7
while time.monotonic() < until:
    with listened():
        pass
done.set()
for one in threads:
    one.join()
"""


def test_decoders_say_nothing_while_another_thread_listens_for_errors() -> None:
    """They did, and now and then a traceback of PyAV's came with it."""
    film = bytearray(video(*VIDEOS["mkv"]))
    for at in range(len(film) // 2, len(film) - 100, 40):
        film[at] ^= 0xFF
    done = subprocess.run([sys.executable, "-c", DECODING], input=bytes(film), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
