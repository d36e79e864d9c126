"""``edgerestore run`` on streams, as a person types it: what is told, written and refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from edgerestore.cli.app import run_command_line

from ..checked import not_none
from ..streams.servers import HttpServer, RtspServer, wait_for

SECRET = "geheimnis"


@pytest.fixture
def run(capfd):
    """Run a command in this process; return its code, output and error lines."""

    def call(*arguments):
        code = run_command_line([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, [line for line in captured.err.splitlines() if line]

    return call


def command(*arguments):
    return [sys.executable, "-m", "edgerestore", "run", *map(str, arguments)]


def y4m(images, tag="C444"):
    """Grey frames, as y4m bytes."""
    height, width = images[0].shape
    head = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 {tag}\n".encode()
    neutral = np.full((2, height, width), 128, np.uint8).tobytes()
    return head + b"".join(b"FRAME\n" + one.tobytes() + neutral for one in images)


@pytest.fixture
def grey():
    rng = np.random.default_rng(3)
    return [rng.integers(16, 236, (48, 64), np.uint8) for _ in range(6)]


def frames_of(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
        return [one if one.ndim == 2 else one[0] for one in frames]


def test_y4m_goes_in_and_comes_out(grey, tmp_path):
    done = subprocess.run(
        command("-", "-o", "-", "--strength", "0", "--pix-fmt", "yuv444p"),
        input=y4m(grey),
        capture_output=True,
        check=True,
        timeout=60,
    )
    path = tmp_path / "out.y4m"
    path.write_bytes(done.stdout)
    back = frames_of(path)
    assert len(back) == len(grey)
    for one, other in zip(back, grey, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_the_reader_of_a_pipe_may_leave(grey):
    """As ``| head`` does: no traceback, and no endless wait."""
    writer = subprocess.Popen(
        command("-", "-o", "-", "--strength", "0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdin, stdout, stderr = map(not_none, (writer.stdin, writer.stdout, writer.stderr))
    stdin.write(y4m(grey * 4))
    stdin.flush()
    assert stdout.read(9) == b"YUV4MPEG2"
    stdout.close()
    try:
        for _ in range(200):
            stdin.write(y4m(grey)[len(y4m(grey[:1])) - 6 - 3 * 48 * 64 :])
            stdin.flush()
    except BrokenPipeError:
        pass
    assert writer.wait(30) == 0
    errors = stderr.read().decode()
    assert "Traceback" not in errors
    for pipe in (stdin, stderr):
        try:
            pipe.close()
        except BrokenPipeError:
            continue


def test_raw_frames_come_in(grey, tmp_path):
    out = tmp_path / "out.mkv"
    raw = ["--raw", "gray", "--size", "64x48", "--fps", "30000/1001"]
    done = subprocess.run(
        command("-", "-o", out, *raw, "--strength", "0", "--codec", "ffv1", "--pix-fmt", "gray"),
        input=b"".join(one.tobytes() for one in grey),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(frames_of(out), grey)


def test_what_does_not_change_is_not_restored_again(grey, tmp_path):
    still = y4m([grey[0]] * 8 + [grey[1]] * 4)
    outcomes = []
    for more in ([], ["--reuse-static"]):
        out = tmp_path / f"out{len(more)}.mkv"
        coding = ["--codec", "ffv1", "--pix-fmt", "yuv444p", "--progress", "json"]
        done = subprocess.run(
            command("-", "-o", out, *coding, *more),
            input=still,
            capture_output=True,
            timeout=60,
            check=True,
        )
        outcomes.append((frames_of(out), json.loads(done.stdout.splitlines()[-1])))
    (plain, said), (reused, said_of_reuse) = outcomes
    np.testing.assert_array_equal(plain, reused)
    assert said["reuse"] is None
    assert said_of_reuse["reuse"]["frames_reused"] == 10


def test_a_camera_on_the_network_is_recorded_until_ctrl_c(tmp_path):
    """In segments, with its events as JSON, and all files play."""
    with HttpServer(size=(64, 48)) as server:
        process = subprocess.Popen(
            command(
                server.url, "-o", tmp_path / "cam.mp4", "--segment", "1s", "--progress", "json"
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: len(list(tmp_path.glob("cam-*.mp4"))) >= 2, 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [one["event"] for one in events]
    assert {"state", "connected", "progress", "done"} <= set(kinds)
    assert events[-1]["frames_in"] == events[-1]["frames_out"] + sum(
        events[-1]["frames_dropped"].values()
    )
    files = sorted(tmp_path.iterdir())
    assert [one.name for one in files] == [f"cam-{i + 1:04}.mp4" for i in range(len(files))]
    assert sum(len(frames_of(one)) for one in files) == events[-1]["frames_out"]


def test_a_service_manager_s_signal_ends_it_too(tmp_path):
    with HttpServer() as server:
        process = subprocess.Popen(
            command(server.url, "-o", tmp_path / "cam.mp4"), stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: any(p.stat().st_size for p in tmp_path.iterdir()), 30)
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err  # what managers of services take for success
    assert frames_of(tmp_path / "cam.mp4")


@pytest.mark.parametrize("frames", [1, 20])
def test_ctrl_c_while_standard_input_is_silent(tmp_path, frames):
    process = subprocess.Popen(
        command("-", "-o", tmp_path / "out.mp4"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdin = not_none(process.stdin)
    stdin.write(y4m([np.full((48, 64), 90, np.uint8)] * frames))
    stdin.flush()
    if frames > 10:
        wait_for(lambda: list(tmp_path.iterdir()), 30)
    else:  # too few to tell what it is: it waits for more
        time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    stdin.close()
    not_none(process.stderr).close()
    # It is stopped as soon as something is written, wherever it is then.
    recorded = [len(frames_of(one)) for one in tmp_path.iterdir()]
    assert (recorded == []) if frames < 10 else (0 < recorded[0] <= frames)


def test_the_stream_is_watched_and_turned_from_outside():
    import http.client

    with HttpServer(size=(64, 48)) as server, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        process = subprocess.Popen(
            command(server.url, "-o", "http://127.0.0.1:0", "--control", f"127.0.0.1:{port}"),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EDGERESTORE_CONTROL_TOKEN": SECRET},
        )

        def ask(method, body=None, token=SECRET):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            try:
                connection.request(method, "/", body, headers)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except ConnectionError:
                return 0, {}
            finally:
                connection.close()

        wait_for(lambda: ask("GET")[1].get("state") == "RUNNING", 30)
        assert ask("PATCH", '{"strength": 0.25}')[1]["strength"] == 0.25
        assert ask("GET", token="wrong")[0] == 401
        assert ask("PATCH", '{"strength": 7}')[0] == 400
        assert ask("GET")[1]["strength"] == 0.25
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert SECRET not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full disk to write to")
@pytest.mark.parametrize(("telling", "where"), [("auto", "stderr"), ("json", "stdout")])
def test_a_full_disk_behind_what_is_told_fails_nothing(tmp_path, grey, telling, where):
    (tmp_path / "in.y4m").write_bytes(y4m(grey))
    run = command(tmp_path / "in.y4m", "-o", tmp_path / "out.mp4", "--progress", telling)
    with Path("/dev/full").open("w") as full:
        out, err = (full, None) if where == "stdout" else (None, full)
        code = subprocess.run(run, stdout=out, stderr=err, check=False).returncode
    assert code == 0
    assert len(frames_of(tmp_path / "out.mp4")) == len(grey)


def recorded_until(tmp_path, end):
    """Record a camera, end it, and return the process and how many frames its file holds."""
    with HttpServer(size=(64, 48)) as server:
        process = subprocess.Popen(
            command(server.url, "-o", tmp_path / "cam.mp4"), stderr=subprocess.PIPE, text=True
        )
        partial = ".cam.part-*.mp4"
        wait_for(lambda: any(p.stat().st_size > 5_000 for p in tmp_path.glob(partial)), 30)
        end(process)
        process.wait(30)
    not_none(process.stderr).close()
    (made,) = tmp_path.iterdir()
    assert made.name == "cam.mp4"
    return process, len(frames_of(made))


def test_a_terminal_that_is_closed_finishes_the_file(tmp_path):
    def close(process):
        process.stderr.close()  # nobody reads what is told any more
        process.send_signal(signal.SIGHUP)

    process, count = recorded_until(tmp_path, close)
    assert process.returncode == 0
    assert count > 10


def test_what_nohup_ignores_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as of nohup
    try:

        def hang_up_then_end(process):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)

        process, _ = recorded_until(tmp_path, hang_up_then_end)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.returncode == 0


@pytest.mark.parametrize("kind", [HttpServer, RtspServer])
def test_a_wrong_login_is_one_line_without_it(run, kind, tmp_path):
    with kind(login=True) as server:
        url = server.url.replace("://", f"://anna:{SECRET}@")
        code, out, lines = run("run", url, "-o", tmp_path / "out.mp4", "--quiet")
    assert code == 1
    assert len(lines) == 1
    assert "login" in lines[0]
    assert SECRET not in out + "".join(lines)
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_is_no_stream(run, tmp_path):
    with HttpServer(mode="page") as server:
        code, _, lines = run("run", server.url, "-o", tmp_path / "out.mp4", "--quiet")
    assert code == 1
    assert len(lines) == 1
    assert "web page" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gopher://x", "-o", "out.mp4"], 1, "gopher"),
        (["camera:99", "-o", "out.mp4", "--quiet"], 1, "camera"),
        (["camera:x", "-o", "out.mp4"], 1, "camera"),
        (["-", "-o", "out.png"], 1, "one image"),
        (["-", "-o", "gopher://x"], 1, "gopher"),
        (["-"], 2, "nothing to write to"),
        (["-", "-o", "a.mp4", "--segment", "soon"], 2, "soon"),
        (["-", "-o", "a.mp4", "--segment", "0.5s"], 2, "0.5s"),
        (["-", "-o", "a.mp4", "--raw", "rgb24"], 2, "add --size"),
        (["-", "-o", "a.mp4", "--raw", "rgb25", "--size", "4x4"], 2, "rgb25"),
        (["-", "-o", "a.mp4", "--size", "big"], 2, "1280x720"),
        (["-", "-o", "a.mp4", "--fps", "0"], 2, "fps"),
        (["-", "-o", "a.mp4", "--max-staleness", "0"], 2, "max_staleness"),
        (["-", "-o", "a.mp4", "--retries", "-1"], 2, "retries"),
        (["-", "-o", "a.mp4", "--target-fps", "-5"], 2, "target_fps"),
        (["-", "-o", "a.mp4", "--quality", "good"], 2, "good"),
        (["-", "-o", "a.mp4", "--quality", "best", "--model", "deblur+deblur"], 2, "name one"),
        (["-", "-o", "a.mp4", "--model", "auto", "--mask-only"], 2, "makes no masks"),
        (["-", "-o", "a.mp4", "--strength", "9"], 2, "strength"),
        (["-", "-o", "http://0.0.0.0:0"], 2, "0.0.0.0"),
        (["-", "-o", "http://192.0.2.1:80"], 2, "192.0.2.1"),
        (["-", "-o", "http://me:secret@127.0.0.1:80"], 1, "***@127.0.0.1"),
        (["-", "-o", "a.mp4", "--model", "a" * 300], 1, "no bundle there"),
        (["camera:0", "-o", "a.mp4", "--control", "nonsense"], 2, "nonsense"),
        (["camera:0", "-o", "a.mp4", "--control", "0.0.0.0:0"], 2, "0.0.0.0"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        got, _, lines = run("run", *arguments, "--quiet")
    assert got == code, lines
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        for outputs in (["-o", f"http://{where}"], ["-o", tmp_path / "a.mp4", "--control", where]):
            code, _, lines = run("run", "tcp://127.0.0.1:9", *outputs, "--quiet")
            assert code in (1, 2)
            assert len(lines) == 1
            assert "in use" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_left_as_it_was_when_the_control_port_is_in_use(run, tmp_path, capfd):
    (tmp_path / "in.y4m").write_bytes(y4m([np.full((48, 64), 90, np.uint8)] * 3))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, lines = run(
            "run", tmp_path / "in.y4m", "-o", tmp_path / "out.mp4", "--control", where, "--quiet"
        )
    assert code == 1
    assert len(lines) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["in.y4m"]


@pytest.mark.parametrize("progress", ["none", "json"])
def test_events_are_lines_of_the_log_or_of_json(run, tmp_path, progress):
    arguments = ["-o", tmp_path / "a.mp4", "--retries", "1", "--progress", progress]
    code, out, lines = run("run", "tcp://127.0.0.1:9", *arguments)
    assert code == 4
    told = [line for line in lines if "; trying again in " in line]
    assert len(told) == (0 if progress == "json" else 1)
    kinds = [json.loads(line)["event"] for line in out.splitlines()]
    assert ("lost" in kinds) == (progress == "json")


def test_a_lost_source_has_an_exit_code_of_its_own(run, tmp_path):
    code, _, lines = run(
        "run", "tcp://127.0.0.1:9", "-o", tmp_path / "a.mp4", "--retries", "0", "--quiet"
    )
    assert code == 4
    assert len(lines) == 1
