"""Small servers on the loopback that can die, fall silent, come back changed, and lie."""

from __future__ import annotations

import base64
import socket
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 25
LOGIN = "anna", "geheim"


class Loopback:
    """Serves each connection on a thread of its own; subclass it and give `serve`.

    Attributes
    ----------
    mode : str
        ``run``; ``silent`` keeps connections and sends nothing; the rest is the subclass's.
    """

    def __init__(self, **settings: Any) -> None:
        self.port = 0
        self.mode = "run"
        self.size = (64, 48)
        self.login = False
        self.connections = 0
        self.__dict__.update(settings)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.start()

    def start(self) -> None:
        """Begin to listen; on the same port as before."""
        self._stop.clear()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def stop(self) -> None:
        """Die, and every connection with it; returns when nothing is left."""
        self._stop.set()
        with self._lock:
            for one in [self._listener, *self._open]:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._threads.clear()
        self._listener.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def pause(self, seconds: float = 1 / RATE) -> None:
        """Wait for the next frame, or as long as silence is asked for."""
        self._stop.wait(seconds)
        while self.mode == "silent" and not self._stop.wait(0.01):
            pass

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
                self.connections += 1
            if self._stop.is_set():
                connection.close()
                return
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            with connection:
                self.serve(connection)
        except OSError:
            pass
        with self._lock:
            self._open.discard(connection)


def read_request(connection: socket.socket) -> str:
    """Read one request of HTTP or RTSP; empty when nobody asks any more."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        if not piece:
            return ""
        got += piece
    return got.decode()


def admitted(request: str) -> bool:
    token = base64.b64encode(":".join(LOGIN).encode()).decode()
    return f"Authorization: Basic {token}" in request


def picture(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth picture that moves."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    red, green = np.sin(x / 17 + index / 5), np.sin(y / 13 - index / 7)
    return np.rint(128 + 90 * np.stack([red, green, red * green], -1)).astype(np.uint8)


def jpeg(index: int, size: tuple[int, int]) -> bytes:
    good, data = cv2.imencode(".jpg", picture(index, size)[..., ::-1])
    assert good
    return data.tobytes()


class HttpServer(Loopback):
    """MJPEG under ``/mjpeg``, the files of ``folder`` under their names, pages elsewhere."""

    folder: Path | None = None
    broken: frozenset[int] = frozenset()
    """Pictures that are cut off."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mjpeg"

    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        path = request.split(" ")[1].partition("?")[0] if request else "/"
        if self.login and not admitted(request):
            head = 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n'
            connection.sendall(f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
        elif path == "/mjpeg" and self.mode != "page":
            self._mjpeg(connection)
        elif self.folder is not None and (self.folder / path[1:]).is_file():
            self._file(connection, (self.folder / path[1:]).read_bytes(), request)
        else:
            page = b"<!DOCTYPE html><html><body>Log in, please</body></html>"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}"
            connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + page)

    def _file(self, connection: socket.socket, data: bytes, request: str) -> None:
        first = 0
        for line in request.splitlines():
            if line.lower().startswith("range: bytes="):
                first = int(line.partition("=")[2].partition("-")[0])
        status = "206 Partial Content" if first else "200 OK"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(data) - first}\r\n"
            f"Content-Range: bytes {first}-{len(data) - 1}/{len(data)}\r\n"
            "Accept-Ranges: bytes\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + data[first:])

    def _mjpeg(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
        )
        index = 0
        while not self.stopped:
            self.pause()
            data = jpeg(index, self.size)
            if index in self.broken:
                data = data[: len(data) // 2]
            if self.mode == "garbage":
                connection.sendall(bytes(range(256)) * 8)
            head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")
            index += 1


def wait_for(condition: Any, seconds: float = 5.0) -> float:
    """Wait until something holds; return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited too long"
        time.sleep(0.005)
    return time.monotonic() - began
