"""A photo server of its own process, and a visitor of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

__all__ = ["Answer", "Visitor", "start_server", "stop_server"]


def start_server(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """Start a server on a free port; return its process and the port."""
    command = [sys.executable, "-m", "edgerestore", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(folder / "data"), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)/", line):
            return process, int(found[1])
    raise AssertionError(f"the server ended with {process.wait()}")


def stop_server(process: subprocess.Popen[str]) -> str:
    """End a server as a service manager does; return what it said since it began."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    return said


class Answer:
    """Status, head and body of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Visitor:
    """A browser's share of HTTP: one visitor's cookie and requests."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request and read its answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        made = Answer(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        if given := made.headers.get("set-cookie"):
            self.cookie = given.partition(";")[0]
        return made

    def upload(self, raw: bytes, name: str = "photo.png") -> Answer:
        """Upload a picture."""
        return self.ask("POST", f"/api/v1/pictures?name={name}", raw)

    def submit(self, picture: str, *recipe: dict[str, Any], **more: Any) -> Answer:
        """Submit a job."""
        body = json.dumps({"picture": picture, "recipe": list(recipe), **more}).encode()
        return self.ask("POST", "/api/v1/jobs", body, Content_Type="application/json")

    def wait(self, job: str) -> Any:
        """Return a job when it has ended."""
        for _ in range(1200):
            told = self.ask("GET", f"/api/v1/jobs/{job}").json
            if told["state"] not in ("queued", "working"):
                return told
            time.sleep(0.05)
        raise AssertionError(told)
