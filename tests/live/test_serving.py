"""The HTTP servers' common ground: where they listen, what they refuse, how they end."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response

import edgerestore
from edgerestore.errors import ArgumentError, SinkError
from edgerestore.server import mjpeg
from edgerestore.server.address import Address, is_local_name, parse_address
from edgerestore.server.connection import MOST_WAITING
from edgerestore.server.http import HttpServer, json_response, read_body
from edgerestore.server.mjpeg import MjpegSink
from edgerestore.streams.options import LiveOptions, SourceOptions

from ..checked import not_none
from .live_tools import until


async def hello(request):
    return json_response({"hello": "you"})


async def echo(request):
    return Response(await read_body(request))


pytestmark = pytest.mark.usefixtures("servers_end_at_once")


@pytest.fixture
def serve():
    servers: list[HttpServer] = []

    def one(address="127.0.0.1:0", get=hello, **options):
        async def wait(request):
            await servers[-1].closing.wait()
            return json_response({"closing": True})

        options = {"name": "test", "max_clients": 4, "remote_hint": "please", **options}
        routes = {"/": {"GET": get, "POST": echo}, "/wait": {"GET": wait}}
        servers.append(HttpServer(parse_address(address), routes, **options))
        return servers[-1]

    yield one
    for server in servers:
        server.close()


def say(server, text, wait_s=3.0):
    """Send raw bytes; return all that is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=wait_s) as client:
        client.sendall(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def status(answer):
    return int(answer.split(b" ", 2)[1])


def message(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:8080", "::1", 8080),
        ("localhost:0", "localhost", 0),
        ("my-box.lan:65535", "my-box.lan", 65535),
    ],
)
def test_addresses_are_read_and_written(text, host, port):
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1",
        "127.0.0.1:65536", "127.0.0.1:99999999", "::1:8080", "[::1]", "[127.0.0.1:1", "[]:1",
        "a b:1", "http://localhost:1", "localhost:1/", "loc\nalhost:1", "127.1:80", "1:80",
        "-a:1", "a..b:1", "\u0661.1.1.1:80", "127.0.0.1:\u0661", None, 8080,
    ],
)  # fmt: skip
def test_nonsense_is_no_address(text):
    with pytest.raises(ArgumentError) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.9.9.9", "::1"])
def test_names_of_this_machine(host):
    assert is_local_name(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "evil.example", "localhost.evil.example", ""])
def test_other_names(host):
    assert not is_local_name(host)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_other_machines_are_kept_out(serve, address):
    with pytest.raises(ArgumentError, match="other machines would reach it; use 127.0.0.1, please"):
        serve(address)


def test_other_machines_where_they_are_allowed(serve):
    server = serve("0.0.0.0:0", remote=True)
    assert status(say(server, "GET / HTTP/1.1\nHost: box.lan\n\n")) == 200


def test_a_port_in_use_is_one_line(serve):
    port = serve().address.port
    with pytest.raises(SinkError, match=f"^127.0.0.1:{port}: is in use; choose another port$"):
        serve(f"127.0.0.1:{port}")


def test_an_address_of_another_machine(serve):
    with pytest.raises(SinkError, match="is no address of this machine"):
        serve("192.0.2.1:0", remote=True)


def test_a_host_that_nobody_knows(serve):
    with pytest.raises(SinkError, match="the host is not known; use 127.0.0.1"):
        serve("nobody.invalid:0")


def test_ipv6(serve):
    try:
        server = serve("[::1]:0")
    except SinkError:
        pytest.skip("this machine has no IPv6")
    with socket.create_connection(("::1", server.address.port), timeout=3) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")
        assert status(client.recv(65536)) == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "[::1]:80", "LocalHost:1"])
def test_hosts_that_are_served(serve, host):
    assert status(say(serve(), f"GET / HTTP/1.1\nHost: {host}\n\n")) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", "localhost:x", "[::1", ""]
)
def test_other_hosts_are_refused(serve, host):
    answer = say(serve(), f"GET / HTTP/1.1\nHost: {host}\n\n")
    assert status(answer) == HTTPStatus.MISDIRECTED_REQUEST
    assert message(answer) == "this host name is not served; ask localhost"


@pytest.mark.parametrize("hosts", ["", "Host: localhost\nHost: localhost\n"])
def test_one_host_is_named(serve, hosts):
    assert status(say(serve(), f"GET / HTTP/1.1\n{hosts}\n")) == 400


def test_answers(serve):
    answer = say(serve(), "GET /?x=1 HTTP/1.1\nHost: localhost\n\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b'{"hello": "you"}\n'
    assert b"Content-Length: %d" % len(body) in head
    assert b"Server: edgerestore\r\n" in head
    assert b"Access-Control" not in head


def test_head_is_get_without_its_body(serve):
    server = serve()
    got = say(server, "GET / HTTP/1.1\nHost: localhost\n\n")
    head = say(server, "HEAD / HTTP/1.1\nHost: localhost\n\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 17" in head
    assert status(got) == status(head) == 200


def test_paths_and_methods(serve):
    server = serve()
    none = say(server, "GET /none HTTP/1.1\nHost: localhost\n\n")
    assert (status(none), message(none)) == (404, "there is no such path; use /, /wait")
    for method in ("DELETE", "OPTIONS", "patch", "TRACE"):
        wrong = say(server, f"{method} / HTTP/1.1\nHost: localhost\nOrigin: http://evil\n\n")
        assert status(wrong) == 405
        assert b"Allow: HEAD, GET, POST\r\n" in wrong
        assert b"Access-Control" not in wrong


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        ("nonsense\n\n", 400),
        ("GET / HTTP/9.9\nHost: localhost\n\n", 505),
        ("GET / HTTP/x\nHost: localhost\n\n", 400),
        ("GET / HTTP/0.9\nHost: localhost\n\n", 505),
        ("GET / HTTP/0.9\n\n", 505),
        ("GET /\n\n", 400),
        ("PRI * HTTP/2.0\n\nSM\n\n", 505),
        ("POST / HTTP/1.1\nHost: localhost\n\n", 411),
        ("POST / HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked\n\n0\n\n", 411),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: -1\n\n", 400),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: 1e3\n\n", 400),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: 1\nContent-Length: 2\n\nab", 400),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: 99999999999999999999\n\n", 400),
        ("POST / HTTP/1.1\nHost: localhost\nContent-Length: 65537\n\n", 413),
        ("GET / HTTP/1.1\nHost: localhost\nX: " + "x" * 40_000 + "\n\n", 431),
        ("GET /" + "x" * 40_000 + " HTTP/1.1\n\n", 431),
        ("GET / HTTP/1.1\nHost: localhost\n" + "X: 1\n" * 200 + "\n", 431),
    ],
)
def test_requests_that_are_none(serve, request_text, expected):
    answer = say(serve(), request_text)
    assert status(answer) == expected
    assert "\n" not in message(answer)


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\n"])
def test_a_body_that_is_too_long_is_refused_while_it_comes(serve, expect):
    head = f"POST / HTTP/1.1\nHost: localhost\n{expect}Content-Length: 400000\n\n"
    answer = say(serve(), head.replace("\n", "\r\n").encode() + b"x" * 400_000)
    assert status(answer) == 413


def test_the_go_ahead_comes_when_the_request_is_judged(serve):
    server = serve()
    head = "POST / HTTP/1.1\nHost: localhost\nExpect: 100-continue\nContent-Length: 2\n\nok"
    answer = say(server, head)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")


def test_a_body_that_ends_early(serve):
    with socket.create_connection(("127.0.0.1", serve().address.port), timeout=3) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        client.shutdown(socket.SHUT_WR)
        assert status(client.recv(65536)) == 400


@pytest.mark.parametrize(
    "beginning",
    ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"],
)
def test_a_request_that_trickles_in_is_cut_off(serve, beginning):
    server = serve(request_s=0.5)
    started_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.address.port), timeout=3) as client:
        client.sendall(beginning.encode())
        ended = False
        for _ in range(40):  # each byte comes well within the time for one read
            client.settimeout(0.05)
            try:
                client.sendall(b"x")
                ended = not client.recv(1)
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
    assert ended
    assert time.monotonic() - started_s < 1.5


def test_silent_clients_are_let_go(serve):
    assert say(serve(request_s=0.2), b"") == b""


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_more_clients_than_are_served(serve, method):
    server = serve(max_clients=2)
    request = f"{method} / HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n"
    held = [socket.create_connection(("127.0.0.1", server.address.port)) for _ in range(2)]
    for one in held:
        one.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: server.clients == 2)
    answer = say(server, request)
    assert (status(answer), message(answer)) == (503, "too many connections; try again later")
    for one in held:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()
    for _ in range(50):
        if status(say(server, "GET / HTTP/1.1\nHost: localhost\n\n")) == 200:
            break
        time.sleep(0.02)
    else:
        pytest.fail("a place was never free again")


@pytest.mark.parametrize(
    "begun",
    [
        "",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        "Authorization: Bearer t\r\n\r\n",
    ],
    ids=["silent", "head", "no token", "no token, body", "body"],
)
def test_who_holds_connections_keeps_nobody_out(serve, begun):
    server = serve(max_clients=2, token="t")
    request = "GET / HTTP/1.1\nHost: localhost\nAuthorization: Bearer t\n\n"
    with ExitStack() as stack:
        for _ in range(2 * MOST_WAITING):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", server.address.port)))
            with suppress(OSError):  # closed already
                one.sendall(begun.encode())
        assert status(say(server, request)) == 200
        assert len(server.waiting) <= MOST_WAITING
        assert len(server.state.connections) <= MOST_WAITING + 2


def test_the_address_that_holds_most_gives_way(serve):
    server = serve("0.0.0.0:0", remote=True)
    with ExitStack() as stack:

        def hold(source):
            address = ("127.0.0.1", server.address.port)
            one = socket.create_connection(address, source_address=(source, 0))
            one.settimeout(3)
            return stack.enter_context(one)

        patient = hold("127.0.0.2")
        greedy = [hold("127.0.0.1") for _ in range(MOST_WAITING + 8)]
        assert greedy[0].recv(1) == b"", "the longest waiting one of the busiest address"
        patient.sendall(b"GET / HTTP/1.1\r\nHost: box.lan\r\n\r\n")
        assert status(patient.recv(65536)) == 200


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Bearer a secret", 200),
        ("bearer a secret", 200),
        ("BEARER   a secret \t", 200),
        ("Bearer a secret\nAuthorization: Bearer a secret", 401),
        ("Bearer a  secret", 401),
        ("Bearer A SECRET", 401),
        ("Bearera secret", 401),
        ("Basic a secret", 401),
        ("a secret", 401),
        ("", 401),
    ],
)
def test_the_scheme_of_the_token_has_no_case_and_spaces_around_it_do_not_count(
    serve, authorization, expected
):
    text = f"GET / HTTP/1.1\nHost: localhost\nAuthorization: {authorization}\n\n"
    assert status(say(serve(token="a secret"), text)) == expected


WITHOUT_DESCRIPTORS = """
import logging, os, resource, sys, time
from edgerestore.server.address import parse_address
from edgerestore.server.connection import MOST_WAITING
from edgerestore.server.http import HttpServer, json_response

async def hello(request):
    return json_response({})

logging.basicConfig(format="%(message)s")
server = HttpServer(
    parse_address("127.0.0.1:0"), {"/": {"GET": hello}}, name="x", max_clients=4, remote_hint=""
)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, most))
print(server.address.port, flush=True)
input()
print(time.process_time(), flush=True)
input()
print(time.process_time(), flush=True)
input()
server.close()
"""


def test_the_server_waits_for_descriptors_without_work_and_with_one_line():
    command = [sys.executable, "-c", WITHOUT_DESCRIPTORS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        given, said = not_none(child.stdin), not_none(child.stdout)

        def ask():
            given.write("\n")
            given.flush()
            return float(said.readline())

        port = int(said.readline())
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            before_s = ask()
            time.sleep(0.7)
            assert ask() - before_s < 0.2
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(client.recv(65536)) == 200
        errors = child.communicate("\n", timeout=30)[1]
    assert errors.splitlines() == [f"127.0.0.1:{port}: clients have to wait: Too many open files"]


def test_closing_ends_clients_and_threads_at_once(serve):
    before = open_descriptors()
    server = serve()
    clients = [socket.create_connection(("127.0.0.1", server.address.port)) for _ in range(4)]
    for one in clients[:2]:
        one.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.1)
    names = {one.name for one in threading.enumerate() if one.name.startswith("edgerestore-")}
    assert names == {"edgerestore-http-test"}
    started_s = time.monotonic()
    server.close()
    assert time.monotonic() - started_s < 1
    server.close()
    for one in clients:
        one.close()
    assert open_descriptors() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.address.port))


def test_a_client_that_comes_while_the_server_closes_is_closed_too(serve):
    before = open_descriptors()
    for _ in range(40):
        server = serve()
        with socket.create_connection(("127.0.0.1", server.address.port)):
            server.close()
    gc.collect()  # a leaked connection is a ResourceWarning here
    assert open_descriptors() == before


def test_the_port_is_free_after_closing(serve):
    server = serve()
    say(server, "GET / HTTP/1.1\nHost: localhost\n\n")
    server.close()
    serve(f"127.0.0.1:{server.address.port}")


def test_a_fault_of_ours_is_answered_and_logged(serve, caplog):
    async def broken(request):
        raise ZeroDivisionError("ours")

    answer = say(serve(get=broken), "GET / HTTP/1.1\nHost: localhost\n\n")
    assert (status(answer), message(answer)) == (500, "the server failed; see its log")
    for _ in range(50):
        if "ZeroDivisionError" in caplog.text:
            break
        time.sleep(0.02)
    assert "ZeroDivisionError: ours" in caplog.text


def test_an_error_that_is_foreseen_is_told(serve, caplog):
    async def broken(request):
        raise SinkError("the disk is full; empty it")

    async def refusing(request):
        raise HTTPException(HTTPStatus.FORBIDDEN, "not today", {"Retry-After": "9"})

    answer = say(serve(get=broken), "GET / HTTP/1.1\nHost: localhost\n\n")
    assert (status(answer), message(answer)) == (500, "the disk is full; empty it")
    answer = say(serve(get=refusing), "GET / HTTP/1.1\nHost: localhost\n\n")
    assert (status(answer), message(answer)) == (403, "not today")
    assert b"Retry-After: 9" in answer
    assert not caplog.text


def test_clients_that_vanish_are_no_news(serve, caplog, capfd):
    server = serve()
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", server.address.port))
        # A reset instead of a farewell.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        client.close()
    assert status(say(server, "GET / HTTP/1.1\nHost: localhost\n\n")) == 200
    server.close()
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("source", "live", "expected"),
    [("udp://127.0.0.1:9", False, 0.3), ("frames", True, 0.3), ("frames", False, None)],
)
def test_the_limit_of_live_sources_reaches_motion_jpeg(
    restorer, monkeypatch, image, source, live, expected
):
    opened = []

    def open_sink(match, options):
        opened.append(options.max_staleness_s)
        return MjpegSink()

    monkeypatch.setattr(mjpeg, "open_sink", open_sink)
    options = LiveOptions(source=SourceOptions(live=live), max_staleness_s=0.3)
    frames = iter([image]) if source == "frames" else source
    with edgerestore.Live(restorer, frames, ["http://127.0.0.1:0"], options):
        assert opened == [expected]
