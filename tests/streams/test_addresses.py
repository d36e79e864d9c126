"""What INPUT may be, and that nobody ever reads a password in what is said about it."""

from __future__ import annotations

import base64
import logging
import socket
import threading
import traceback

import pytest

from edgerestore.errors import SourceError, SourceLostError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources.address import parse_address, redacted
from edgerestore.streams.sources.reconnect import ABSENT, ANSWERS, READY, probe, probed

from ..checked import not_none
from .servers import LOGIN, HttpServer, RtspServer, TsServer, wait_for
from .tools import Taker, open_live, told


@pytest.mark.parametrize(
    ("text", "scheme", "shown"),
    [
        ("camera:0", "camera", "camera:0"),
        ("/dev/video12", "camera", "camera:12"),
        ("-", "-", "-"),
        ("rtsp://a:b@host/live", "rtsp", "rtsp://***@host/live"),
        ("RTSP://host:8554/live", "rtsp", "rtsp://host:8554/live"),
        ("udp://@239.1.1.1:5000", "udp", "udp://@239.1.1.1:5000"),
        ("srt://host:9000?mode=caller", "srt", "srt://host:9000?mode=caller"),
    ],
)
def test_addresses(text, scheme, shown):
    address = not_none(parse_address(text))
    assert address.scheme == scheme
    assert str(address) == shown
    assert "a:b" not in repr(address)


@pytest.mark.parametrize(
    "text", ["in.mp4", "tiles/*.tif", "camera", "a:b.mp4", "./-", "/dev/shm/in.mp4", "/dev/null"]
)
def test_paths_are_no_addresses(text):
    assert parse_address(text) is None


def test_a_link_to_a_camera_is_the_camera(monkeypatch):
    from pathlib import Path

    monkeypatch.setattr(Path, "resolve", lambda path: Path("/dev/video3"))
    assert not_none(parse_address("/dev/v4l/by-id/usb-camera")).camera == 3


def test_what_is_not_known_is_told_with_what_is():
    with pytest.raises(
        SourceError, match=r"foo://\*\*\*@host: foo:// is not known.*rtsp://"
    ) as error:
        parse_address("foo://u:secret@host")
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="a camera has a number"):
        parse_address("camera:front")
    with pytest.raises(SourceError, match="a camera has a number"):
        parse_address("CAMERA://5")
    assert not_none(parse_address("Camera:5")).camera == 5


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("rtsp://a:b@host/x", ("host", 554)),
        ("http://host:8080/x", ("host", 8080)),
        ("https://[::1]/x", ("::1", 443)),
        ("tcp://host:1234", ("host", 1234)),
        ("tcp://host", None),
        ("udp://host:1", None),
        ("rtsp://host:port/x", None),
        ("camera:0", None),
    ],
)
def test_endpoints(text, endpoint):
    assert not_none(parse_address(text)).endpoint == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://anna:geheim@host/live",
        "rtsp://geheim@host/live",
        "rtsp://anna:ge@heim@host:554/live?x=1",
        "rtsp://anna:geheim/2@host/live",
        "rtsp://anna:12/geheim@host/live",
        "rtsp://anna:x?geheim#@host/live",
        "http://host/mjpeg?user=anna&password=geheim&fps=5",
        "http://host/mjpeg?fps=5&access_token=geheim",
        "http://host/mjpeg?loginpas=geheim;x=1",
        "http://host/mjpeg#apikey=geheim",
        "srt://host:9000?passphrase=geheim&streamid=x",
        "two: rtsp://anna:geheim@host/live, and 'http://anna:geheim@other/'",
    ],
)
def test_secrets_are_left_out(text):
    shown = redacted(text)
    assert "geheim" not in shown
    assert "heim" not in shown
    assert "host" in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/a/b.m3u8?fps=5&at=a@b.de",
        "http://[::1]:80/x?mail=a@b.de",
        "udp://@:1234",
        "in.mp4",
        "/home/anna@home/in.mp4",
        "rtsp://host/a@b",
    ],
)
def test_the_rest_is_left_in(text):
    assert redacted(text) == text


class Overheard:
    """Everything that can be read about a source: events, errors, logs, both outputs."""

    def __init__(self, capfd, caplog):
        self.log = EventLog()
        self._capfd, self._caplog = capfd, caplog
        caplog.set_level(logging.DEBUG)
        self._errors: list[str] = []

    def heard(self, error):
        while error is not None:
            self._errors += traceback.format_exception(error)
            self._errors += [repr(error), repr(error.__context__), *map(str, error.args)]
            error = error.__cause__

    def everything(self):
        out, err = self._capfd.readouterr()
        events = [str(event.as_dict()) + repr(event) for event in self.log.events]
        return "\n".join([out, err, self._caplog.text, *events, *self._errors])


@pytest.fixture
def overheard(capfd, caplog):
    return Overheard(capfd, caplog)


@pytest.mark.parametrize("kind", [HttpServer, RtspServer])
def test_a_login_is_used_and_never_told(kind, overheard):
    with kind(login=True) as server:
        url = server.url.replace("://", f"://{LOGIN[0]}:{LOGIN[1]}@")
        with Taker(open_live(url, overheard.log)) as taker:
            taker.more()
            server.stop()
            wait_for(told(overheard.log, EventKind.LOST), 5)
            server.start()
            taker.more()
    everything = overheard.everything()
    assert "***@127.0.0.1" in everything
    assert LOGIN[1] not in everything
    assert base64.b64encode(":".join(LOGIN).encode()).decode() not in everything


@pytest.mark.parametrize("kind", [HttpServer, RtspServer])
@pytest.mark.parametrize(
    ("login", "advice"),
    [
        ("", "wants a login; put it in the address"),
        ("anna:geheim2@", "refuses the login of the address; check name and password"),
    ],
)
def test_a_wrong_login_ends_it_at_once(kind, login, advice, overheard):
    with kind(login=True) as server:
        source = open_live(server.url.replace("://", f"://{login}"), overheard.log)
        with pytest.raises(SourceError, match=advice) as error:
            next(source)
        source.close()
        overheard.heard(error.value)
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)
    assert "geheim2" not in overheard.everything()


@pytest.mark.parametrize("kind", [HttpServer, TsServer])
def test_a_stream_of_larger_pictures_than_allowed_is_refused(kind):
    with kind() as server:
        source = open_live(server.url, options=SourceOptions(max_pixels=1000))
        with pytest.raises(SourceError, match="64 x 48 pixels.*--max-pixels 3072"):
            next(source)
        source.close()


def test_a_part_of_two_gigabytes_is_given_up(monkeypatch):
    """FFmpeg makes room for as many bytes as a part of motion JPEG says that it has."""
    monkeypatch.setattr("edgerestore.streams.sources.http_bytes.LARGEST_PACKET_BYTES", 4 << 20)
    log = EventLog()
    with HttpServer(mode="endless") as server:
        source = open_live(server.url, log, SourceOptions(retries=0))
        with pytest.raises(SourceLostError, match="sends a picture of more than 4 MiB"):
            next(source)
        source.close()
    assert [event.cause for event in log.events] == []


def test_a_refused_connection_tells_no_password(overheard):
    with TsServer() as server:
        port = server.port
    url = f"http://anna:geheim@127.0.0.1:{port}/x?token=geheim"
    source = open_live(url, overheard.log, SourceOptions(retries=0))
    with pytest.raises(SourceLostError) as error:
        next(source)
    source.close()
    overheard.heard(error.value)
    assert "geheim" not in overheard.everything()
    assert "http://***@127.0.0.1" in str(error.value)


def test_a_web_page_is_recognised(overheard):
    with HttpServer(login=True) as server:
        source = open_live(f"http://anna:geheim@127.0.0.1:{server.port}/index", overheard.log)
        with pytest.raises(
            SourceError, match="answers with a web page, not a stream; give"
        ) as error:
            next(source)
        source.close()
        overheard.heard(error.value)
    assert "geheim" not in overheard.everything()


def test_sound_alone_is_no_stream(tmp_path):
    import wave

    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    with HttpServer(folder=tmp_path) as server:
        source = open_live(f"http://127.0.0.1:{server.port}/sound.wav")
        with pytest.raises(SourceError, match="sends no video"):
            next(source)
        source.close()


def test_a_protocol_that_is_not_built_in_is_told():
    source = open_live("srt://127.0.0.1:9")
    try:
        with pytest.raises(SourceError, match="the installed PyAV cannot read srt://"):
            next(source)
    finally:
        source.close()


def test_a_probe_sends_no_login():
    """It would send it unasked, in clear text, twice a second."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def listen():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(4096))

        thread = threading.Thread(target=listen)
        thread.start()
        for scheme in ("rtsp", "http"):
            probe(not_none(parse_address(f"{scheme}://anna:geheim@127.0.0.1:{port}/x")))
        thread.join()
    assert [one.split()[0] for one in heard] == [b"DESCRIBE", b"GET"]
    assert not [one for one in heard if b"uthorization" in one or b"anna" in one]


def test_probes():
    with HttpServer() as http, RtspServer() as rtsp, TsServer() as tcp:
        assert [probe(not_none(parse_address(one.url))) for one in (http, rtsp)] == [READY, READY]
        assert not probed(not_none(parse_address(tcp.url)))
        http.mode = "silent"
        rtsp.login = True
        assert probe(not_none(parse_address(http.url))) == ANSWERS
        assert probe(not_none(parse_address(rtsp.url))) == READY
        http.mode, http.login = "run", True
        assert probe(not_none(parse_address(http.url))) == READY
        address = not_none(parse_address(http.url.replace("://", f"://{':'.join(LOGIN)}@")))
        assert probe(address) == READY
    assert probe(address) == ABSENT
    assert probe(not_none(parse_address("http://..:80/"))) == ABSENT
    assert probe(not_none(parse_address("camera:99"))) == ABSENT
    assert not probed(not_none(parse_address("udp://127.0.0.1:5")))
