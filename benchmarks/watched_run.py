"""Restore a file as the command does and print what was seen as JSON.

``watched_run.py INPUT OUTPUT LAST``: ends after frame ``LAST``. Prints the moment the first
restored frame was there, on the machine's monotonic clock, and resident memory by frame.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edgerestore.engine.load import load
from edgerestore.engine.predictors.protocol import Pending
from edgerestore.engine.restorer import Restorer
from edgerestore.streams.session import restore_path

EVERY = 20


def main(source: str, output: Path, last: int) -> None:
    stop = threading.Event()
    with load("deblur") as restorer:
        watched = Watched(restorer, last, stop)
        summary = restore_path(
            watched, source, output, progress="none", notice=lambda _: None, stop=stop
        )
    seen = {"first_s": watched.first_s, "frames": summary.frames_out}
    print(json.dumps({**seen, "resident_mib": watched.resident_mib}))


class Watched:
    """A restorer that looks at the clock and at memory while it is used."""

    def __init__(self, restorer: Restorer, last: int, stop: threading.Event) -> None:
        self._restorer, self._last, self._stop = restorer, last, stop
        self._frames = 0
        self.first_s = 0.0
        self.resident_mib: dict[int, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._restorer, name)

    def submit(self, image: Any) -> Pending:
        self._frames += 1
        if self._frames % EVERY == 0:
            self.resident_mib[self._frames] = _resident_mib()
        if self._frames >= self._last:
            self._stop.set()
        pending = self._restorer.submit(image)
        if self._frames == 1:
            pending.result()
            self.first_s = time.monotonic()
        return pending


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
