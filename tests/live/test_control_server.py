"""The control endpoint: what it changes, what it refuses, and that refusing changes nothing."""

from __future__ import annotations

import http.client
import json
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

import edgerestore
from edgerestore.errors import ArgumentError, SinkError
from edgerestore.server.control import Change, ControlServer, parse_change

from .fake_controls import FakeControls
from .live_tools import Shown

JSON = {"Content-Type": "application/json"}


pytestmark = pytest.mark.usefixtures("servers_end_at_once")


@pytest.fixture
def controls():
    return FakeControls()


@pytest.fixture
def server(controls):
    with ControlServer(controls, "127.0.0.1:0") as one:
        yield one


def ask(server, method="GET", path="/", body=None, headers=None):
    """Return the status and the JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.headers["Content-Type"] == "application/json"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def patch(server, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return ask(server, "PATCH", "/", body, {**JSON, **headers})


@pytest.mark.parametrize("path", ["/", "/status", "/?pretty"])
def test_the_status_is_told(server, controls, path):
    assert ask(server, path=path) == (200, controls.status())
    assert ask(server, "HEAD", path) == (200, None)


@pytest.mark.parametrize(
    ("state", "code"),
    [("RUNNING", 200), ("PAUSED", 200), ("RECONNECTING", 503), ("FAILED", 503), ("ENDED", 503)],
)
def test_health(server, controls, monkeypatch, state, code):
    monkeypatch.setattr(controls, "status", lambda: {"state": state})
    assert ask(server, path="/health") == (code, {"state": state})
    assert ask(server, "HEAD", "/health") == (code, None)


def test_the_address_is_told(server):
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}/"


def test_strength_is_turned(server, controls):
    for strength in (0, 0.4, 1, 2, 2.0):
        code, status = patch(server, {"strength": strength})
        assert (code, status["strength"]) == (200, strength)
        assert controls.strength == strength


def test_pausing_and_going_on(server, controls):
    assert patch(server, {"paused": True})[1]["state"] == "PAUSED"
    assert patch(server, {"paused": False})[1]["state"] == "RUNNING"
    assert controls.calls == [("pause",), ("resume",)]


def test_a_switch_is_under_way(server, controls):
    assert patch(server, {"precision": "int8"})[0] == 202
    assert patch(server, {"model": "/models/été"})[0] == 202
    assert patch(server, {"model": "denoise", "precision": "auto"})[0] == 202
    assert controls.calls == [
        ("switch", None, "int8"), ("switch", "/models/été", None), ("switch", "denoise", "auto"),
    ]  # fmt: skip


def test_a_switch_under_way_is_cancelled(server, controls):
    assert patch(server, {"switching": False})[0] == 202
    assert controls.calls == [("cancel switch",)]


@pytest.mark.parametrize("model", ["deblur+" * 580, "deblur*nan", "deblur*-1+denoise"])
def test_a_name_that_is_no_model_is_refused_before_anything_is_opened(restorer, image, model):
    with (
        edgerestore.Live(restorer, iter([image]), [Shown()]) as live,
        ControlServer(live, "127.0.0.1:0") as server,
    ):
        code, answer = patch(server, {"model": model, "strength": 0.1})
        assert code == 400
        assert "averages 581 models" in answer["error"] or "a weight is a number" in answer["error"]
        assert len(answer["error"]) < 200
        status = ask(server)[1]
        assert (status["switching"], status["strength"]) == (False, 1.0)


def test_any_combination_is_one_change(server, controls):
    change = {"paused": True, "strength": 0.25, "model": "denoise"}
    code, status = patch(server, change)
    assert (code, status["strength"], status["state"]) == (202, 0.25, "PAUSED")
    assert controls.calls == [("switch", "denoise", None), ("strength", 0.25), ("pause",)]


def test_nothing_asked_is_nothing_done(server, controls):
    assert patch(server, {}) == (200, controls.status())
    assert controls.calls == []


def test_a_second_switch_conflicts_and_changes_nothing(server, controls):
    controls.switching = True
    code, answer = patch(server, {"model": "denoise", "strength": 0.1, "paused": True})
    assert (code, answer) == (409, {"error": "another switch is under way; wait for it"})
    assert controls.calls == []


BAD = [
    (b'{"strength": 2.001}', "strength is a number from 0 to 2, got 2.001"),
    (b'{"strength": -0.1}', "strength is a number from 0 to 2, got -0.1"),
    (b'{"strength": 1e400}', "strength is a number from 0 to 2, got inf"),
    (b'{"strength": 1' + b"0" * 400 + b"}", "strength is a number from 0 to 2, got 1000"),
    (b'{"strength": 1' + b"0" * 5000 + b"}", "the body is not JSON"),
    (b'{"strength": NaN}', "NaN is no number of JSON"),
    (b'{"strength": -Infinity}', "-Infinity is no number of JSON"),
    (b'{"strength": true}', "strength is a number from 0 to 2, got true"),
    (b'{"strength": "1"}', 'strength is a number from 0 to 2, got "1"'),
    (b'{"strength": null}', "strength is a number from 0 to 2, got null"),
    (b'{"strength": [1]}', "strength is a number from 0 to 2, got [1]"),
    (b'{"paused": 1}', "paused is true or false, got 1"),
    (b'{"paused": "true"}', 'paused is true or false, got "true"'),
    (b'{"switching": true}', "switching is false, which cancels the switch under way"),
    (b'{"switching": 0}', "switching is false, which cancels the switch under way"),
    (b'{"switching": false, "model": "denoise"}', "switching is false, which cancels"),
    (b'{"model": ""}', "model is a name in printable characters"),
    (b'{"model": 7}', "model is a name, got 7"),
    (b'{"model": "a\\nb"}', "model is a name in printable characters"),
    (b'{"model": "\\ud800"}', "model is a name in printable characters"),
    (b'{"model": "\\u0000"}', "model is a name in printable characters"),
    (b'{"precision": "int4"}', "precision is one of auto, fp32, tf32, bf16, fp16, int8, got"),
    (b'{"precision": ["int8"]}', "precision is one of auto, fp32, tf32, bf16, fp16, int8, got"),
    (b'{"speed": 1}', "'speed' is not known; there is strength, paused, model, precision"),
    (b'{"strength": 0.1, "stopped": true}', "'stopped' is not known; there is strength"),
    (b'{"strength": 0.1, "paused": "no"}', "paused is true or false"),
    (b'{"strength": 0.1, "strength": 0.2}', "a key stands twice in one object; say it once"),
    (b"", "the body is not JSON"),
    (b"{", "the body is not JSON"),
    (b"\xff\xfe{}", "the body is not JSON"),
    ('{"strength": 1}'.encode("utf-16"), "the body is not JSON"),
    (b"[" * 60_000, "the body is not JSON"),
    (b'{"a":' * 12_000, "the body is not JSON"),
    (b"[]", "the body is no JSON object"),
    (b"1", "the body is no JSON object"),
    (b"null", "the body is no JSON object"),
]


@pytest.mark.parametrize(("body", "expected"), BAD, ids=range(len(BAD)))
def test_what_is_wrong_is_said_and_nothing_done(server, controls, body, expected):
    code, answer = patch(server, body)
    assert code == 400
    assert answer["error"].startswith(expected)
    assert "\n" not in answer["error"]
    assert len(answer["error"]) < 200
    assert controls.calls == []


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_what_a_web_page_could_send_is_not_taken(server, controls, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    code, answer = ask(server, "PATCH", "/", b'{"strength": 0}', headers)
    assert (code, answer) == (415, {"error": "send it as Content-Type: application/json"})
    assert controls.calls == []


def test_a_preflight_is_not_told_yes(server):
    headers = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "content-type",
    }
    assert ask(server, "OPTIONS", "/", headers=headers)[0] == 405


def test_names_pointed_here_are_refused(server, controls):
    code, _ = patch(server, {"strength": 0}, Host="evil.example")
    assert code == 421
    assert controls.calls == []


def test_charset_is_no_other_type(server):
    assert ask(
        server, "PATCH", "/", b"{}", {"Content-Type": "Application/JSON; charset=utf-8"}
    )[0] == 200  # fmt: skip


def test_bodies_are_bounded(server, controls):
    code, answer = patch(server, b'{"strength": 0.5' + b" " * 65_536 + b"}")
    assert (code, answer) == (413, {"error": "the body is longer than 65536 bytes"})
    assert controls.calls == []
    fits = b'{"strength": 0.5}'
    assert patch(server, fits + b" " * (65_536 - len(fits)))[0] == 200


def test_a_body_says_its_length(server, controls):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("PATCH", "/", iter([b'{"strength": 0}']), JSON)  # chunked
    assert connection.getresponse().status == 411
    connection.close()
    assert controls.calls == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(server, method):
    code, answer = ask(server, method, "/", b"{}", JSON)
    assert (code, answer) == (405, {"error": "the method is not taken here; use HEAD, GET, PATCH"})
    assert ask(server, "GET", "/nothing")[0] == 404


def test_a_token_is_asked_for(controls):
    with ControlServer(controls, "127.0.0.1:0", token="s3cret") as server:
        for value in ("", "s3cret", "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret",
                      "Bearer \xe9"):  # fmt: skip
            for method, path in (
                ("GET", "/"),
                ("PATCH", "/"),
                ("GET", "/health"),
                ("GET", "/nothing"),
            ):
                code, answer = ask(
                    server, method, path, b'{"strength": 0}', {**JSON, "Authorization": value}
                )
                assert code == 401
                assert "s3cret" not in answer["error"]
        assert controls.calls == []
        good = {"Authorization": "Bearer s3cret"}
        assert ask(server, headers=good) == (200, controls.status())
        assert patch(server, {"strength": 0.5}, **good)[0] == 200
    assert controls.calls == [("strength", 0.5)]


@pytest.mark.parametrize("token", ["", "two\nlines", "schlüssel", "tab\t", " first", "last ", " "])
def test_a_token_that_no_header_can_carry(controls, token):
    with pytest.raises(ArgumentError, match="printable ASCII"):
        ControlServer(controls, "127.0.0.1:0", token=token)


def test_other_machines_need_a_token(controls):
    with pytest.raises(ArgumentError, match="use 127.0.0.1, or give a token"):
        ControlServer(controls, "0.0.0.0:0")
    with ControlServer(controls, "0.0.0.0:0", token="t") as server:
        headers = {"Host": "kiosk.lan", "Authorization": "Bearer t"}
        assert ask(server, headers=headers)[0] == 200


def test_a_port_in_use(server, controls):
    with pytest.raises(SinkError, match="is in use; choose another port"):
        ControlServer(controls, f"127.0.0.1:{server.port}")
    with pytest.raises(ArgumentError, match="an address is HOST:PORT"):
        ControlServer(controls, "8080")


def test_changes_at_once_are_each_whole(server, controls):
    """A switch, a strength and a pause of one request are never mixed with another's."""
    codes = []

    def turn(number):
        change = {"model": f"m{number}", "strength": number / 10, "paused": bool(number % 2)}
        codes.append(patch(server, change)[0])

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)
    assert codes == [202] * 12
    for first in range(0, 36, 3):
        switch, strength, pause = controls.calls[first : first + 3]
        number = int(switch[1][1:])
        assert strength == ("strength", number / 10)
        assert pause == ("pause" if number % 2 else "resume",)


def test_closing_does_not_wait_for_clients(controls):
    server = ControlServer(controls, "127.0.0.1:0")
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    idle.connect()
    started_s = time.monotonic()
    server.close()
    assert time.monotonic() - started_s < 1
    server.close()
    idle.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KNOWN = {"strength", "paused", "model", "precision", "switching"}
KEYS = st.sampled_from(sorted(KNOWN)) | st.text(max_size=8)
LIKELY = st.floats(-0.5, 2.5) | st.sampled_from([True, "int8", "deblur", 0, 1])


def outcome(body):
    """Return the change, or the one line that refuses it."""
    try:
        return parse_change(body)
    except ArgumentError as error:
        return str(error)


@given(st.dictionaries(KEYS, LIKELY | VALUES, max_size=4))
@settings(max_examples=400, deadline=None)
def test_any_object_is_a_change_or_refused(wanted):
    change = outcome(json.dumps(wanted).encode())
    if isinstance(change, str):
        assert change.isprintable()
        return
    assert set(wanted) <= KNOWN
    assert change == Change(**wanted)
    assert change.strength is UNSET or 0 <= change.strength <= 2


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_change_or_refused(body):
    change = outcome(body)
    assert isinstance(change, Change) or change.isprintable()


def test_the_server_outlives_whatever_is_sent(server, controls):
    @given(
        st.sampled_from(["PATCH", "GET", "POST", "X"]),
        st.sampled_from(["/", "/status", "//", "/..", "/?", "*", "/%00"]),
        st.dictionaries(KEYS, LIKELY | VALUES, max_size=3),
    )
    @settings(max_examples=150, deadline=None)
    def fuzz(method, path, wanted):
        before = controls.status(), list(controls.calls)
        code, answer = ask(server, method, path, json.dumps(wanted).encode(), JSON)
        if code >= 400:
            assert code in (400, 404, 405)
            assert list(answer) == ["error"]
            assert (controls.status(), controls.calls) == before

    fuzz()
    assert ask(server)[0] == 200
