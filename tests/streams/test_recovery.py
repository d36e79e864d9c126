"""What is left of a recording when its process is killed, or its disk is full."""

from __future__ import annotations

import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.sinks.recording import RecordingNames, recover_partials
from edgerestore.streams.sinks.registry import open_sink
from edgerestore.streams.sources.files import VideoFileSource


def names(folder):
    return sorted(path.name for path in folder.iterdir())


RECORD = """
import logging, resource, sys, threading
from fractions import Fraction
from pathlib import Path
import numpy as np
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sinks.recording import RecordingSink
from edgerestore.streams.options import SinkOptions
from edgerestore.errors import SinkError
logging.basicConfig(stream=sys.stdout, format="%(message)s")
output, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
noise = np.random.default_rng(1)
sink = RecordingSink(output, SinkOptions(segment_s=4))
try:
    for index in range(int(sys.argv[3])):
        amplitude = 120 if index > 100 else 2
        image = noise.integers(0, amplitude, (64, 96, 3)).astype(np.uint8)
        sink.write(Frame(image, index * 40, Fraction(1, 1000)))
    print("written", flush=True)
    threading.Event().wait(60)
except SinkError as error:
    print(f"failed: {error}", flush=True)
    sink.abort()
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_killed_in_the_middle(tmp_path, read, notices, suffix):
    output = tmp_path / f"cam{suffix}"
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD, str(output), "0", "280"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    # While it lives, nobody takes its file away.
    assert recover_partials(output) == []
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    assert len(names(tmp_path)) == 3
    for number in (1, 2):
        assert len(read(tmp_path / f"cam-{number:04}{suffix}").pts) == 100
    # The next recording of that name begins by looking after it.
    following = open_sink(str(output), SinkOptions(segment_s=60))
    following.write(Frame(np.zeros((64, 96, 3), np.uint8), 0, Fraction(1, 25)))
    following.close()
    (tmp_path / f"cam-0004{suffix}").unlink()
    kept = tmp_path / f"cam-0003.recovered{suffix}"
    assert names(tmp_path) == [kept.name if n == 3 else f"cam-{n:04}{suffix}" for n in (1, 2, 3)]
    recovered = read(kept)
    assert recovered.pts[0] == 0
    # Of 3.2 seconds, what stood in the encoder, or in a fragment not written yet, is lost.
    assert 25 <= len(recovered.pts) < 80
    assert [str(kept) in line and "recovered" in line for line in notices] == [True]
    assert recover_partials(output) == []


def test_a_full_disk_leaves_what_plays(tmp_path, read, notices):
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "cam.mp4"), "150000", "280"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("failed: ")]
    assert len(failed) == 1
    assert "the file grew past the largest size" in failed[0]
    assert done.stderr == ""
    first, *others = names(tmp_path)
    assert first == "cam-0001.mp4"
    assert len(read(tmp_path / first).pts) == 100
    assert others == ["cam-0002.recovered.mp4"]
    source = VideoFileSource(tmp_path / others[0])
    assert sum(isinstance(item, Frame) for item in source) > 10
    source.close()


def test_what_never_played_is_removed(tmp_path, notices):
    for name in (".cam.part-00000000.mp4", ".cam-0004.part-0000000a.mp4", ".can.part-00000000.mp4"):
        (tmp_path / name).write_bytes(b"nothing that plays")
    (tmp_path / ".cam-0005.part-0000000a.mp4").touch()  # somebody may have made it just now
    assert recover_partials(tmp_path / "cam.mp4") == []
    assert names(tmp_path) == [".cam-0005.part-0000000a.mp4", ".can.part-00000000.mp4"]
    assert len(notices) == 2
    assert all("removed" in line for line in notices)


def test_a_damaged_beginning_does_not_cost_the_rest(clip, tmp_path, notices):
    """A power cut may leave a block of the first second unwritten."""
    partial = tmp_path / ".cam-0001.part-0123abcd.mkv"
    clip(partial, frames=200, options={"g": "10"})
    data = bytearray(partial.read_bytes())
    start = data.index(b"\x1f\x43\xb6\x75") + 40
    data[start : start + 400] = bytes(400)
    partial.write_bytes(bytes(data))
    kept = recover_partials(tmp_path / "cam.mkv")
    assert [one.name for one in kept] == ["cam-0001.recovered.mkv"]
    assert "recovered" in notices[0]


def test_a_number_that_another_process_writes_is_left_to_it(tmp_path):
    (tmp_path / ".cam-0002.part-0123abcd.mp4").touch()
    mine = RecordingNames(tmp_path / "cam.mp4")
    (tmp_path / ".cam-0003.part-0123abcd.mp4").touch()  # begun after we looked
    assert mine.next().name == "cam-0004.mp4"
