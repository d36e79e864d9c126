"""The command line: what it prints, and the code it exits with."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile

from edgerestore.bundle.bundle import Bundle
from edgerestore.cli.app import run_command_line
from edgerestore.imaging.arrays import check_image

from ..checked import imread, not_none


@pytest.fixture
def run(capsys):
    """Run a command in this process; return its code, output and error lines."""

    def call(*arguments):
        code = run_command_line([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, [line for line in captured.err.splitlines() if line]

    return call


@pytest.fixture
def photo(tmp_path, picture):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), picture(60, 80))
    return path


def test_it_restores_a_picture_and_says_with_what(run, photo, tmp_path):
    out = tmp_path / "out.png"
    code, _, lines = run("run", photo, "-o", out)
    assert code == 0
    assert "deblur on CPU (openvino) at" in lines[0]
    assert imread(out).shape == (60, 80, 3)
    assert not np.array_equal(imread(out), imread(photo))


def test_strength_zero_writes_the_same_pixels(run, photo, tmp_path):
    out = tmp_path / "out.png"
    assert run("run", photo, "-o", out, "--strength", "0", "--quiet") == (0, "", [])
    np.testing.assert_array_equal(imread(out), imread(photo))


@pytest.fixture
def frame(tmp_path):
    """A frame of a 12-bit camera in 16 bits, with one hot pixel."""
    y, x = np.mgrid[0:60, 0:80]
    wave = 600 + 300 * np.sin(x / 17) * np.cos(y / 13)
    image = np.rint(wave + np.random.default_rng(0).normal(0, 30, wave.shape)).astype(np.uint16)
    image[3, 4] = 65535
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, image, description="a slide", metadata=None)
    return path


DENOISE = ("--model", "denoise-gray", "--precision", "fp32")


def test_the_range_of_intensities_is_printed_and_written(run, frame, tmp_path):
    out, picture = tmp_path / "out.tif", tmp_path / "out.png"
    code, _, lines = run("run", frame, "-o", out, *DENOISE)
    assert code == 0
    given = tifffile.imread(frame)
    low = given.min()
    (seen,) = [line for line in lines if "seen as black to white (auto)" in line]
    assert f"intensities {low}:" in seen
    assert "intensities of 1 frame mapped" in lines[-1]
    assert "1 value outside passed through" in lines[-1]
    with tifffile.TiffFile(out) as file:
        tags = file.pages.first.tags
        assert tags["ImageDescription"].value == "a slide"
        assert f"intensities {low}:" in tags["ImageHistory"].value
        made = file.asarray()
    assert made[3, 4] == 65535
    assert made[made < 65535].std() < given[given < 65535].std()
    assert run("run", out, "-o", picture, *DENOISE, "--range", "300:900")[0] == 0
    assert b"ImageHistory\0edgerestore: intensities 300:900" in picture.read_bytes()
    again = tmp_path / "again.tif"
    assert run("run", out, "-o", again, *DENOISE, "--range", "300:900")[0] == 0
    with tifffile.TiffFile(again) as file:
        first, second = file.pages.first.tags["ImageHistory"].value.splitlines()
    assert "(auto)" in first
    assert "(300:900)" in second


def test_floats_of_any_range_are_restored_unless_it_is_stated(run, frame, tmp_path):
    floats, out = tmp_path / "floats.tif", tmp_path / "out.tif"
    tifffile.imwrite(floats, tifffile.imread(frame).astype(np.float32))
    assert run("run", floats, "-o", out, *DENOISE)[0] == 0
    assert tifffile.imread(out).max() == 65535
    code, _, lines = run("run", floats, "-o", tmp_path / "no.tif", *DENOISE, "--range", "full")
    assert (code, "floats.tif: holds values" in lines[-1]) == (1, True)


def test_a_range_that_a_format_cannot_hold_is_told(run, frame, tmp_path):
    pgm = tmp_path / "out.pgm"
    _, _, lines = run("run", frame, "-o", pgm, *DENOISE)
    assert any(".pgm cannot hold" in line and "range of intensities" in line for line in lines)


def test_what_is_judged_on_a_video_follows_slowly(run, tmp_path):
    """A file of video is a stream as well: a light that is switched on must not pump."""
    shape = (48, 64, 3)
    frames = [np.full(shape, level, np.uint8) for level in [40] * 6 + [120] * 2]
    path, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    tones = ["--brightness", "auto", "--strength", "0", "--codec", "ffv1", "--pix-fmt", "bgr0"]
    assert run("run", path, "-o", out, "--quiet", *tones)[0] == 0
    with av.open(str(out)) as container:
        means = [one.to_ndarray(format="rgb24").mean() for one in container.decode(video=0)]
    # Judged alone, the light frames would be left nearly as they are.
    assert means[-1] > means[0] * 2.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--strength", "nan"], 2, "strength is a number from 0 to 2"),
        (["--strength", "-1"], 2, "strength is a number from 0 to 2"),
        (["--strength", "3"], 2, "strength is a number from 0 to 2"),
        (["--strength", "strong"], 2, "a valid"),
        (["--device", "GPU.7"], 1, "device GPU.7 is not here; devices: CPU"),
        (["--precision", "fp64"], 2, "precision is one of"),
        (["--tile", "big"], 2, "tile is auto or a number"),
        (["--tile", "0"], 2, "tile is auto or a number"),
        (["--tile", "-8"], 2, "tile is auto or a number"),
        (["--memory-mb", "0"], 2, "memory_mb is above 0"),
        (["--model", "no-such"], 1, "no-such: no bundle there"),
        (["--progress", "loud"], 2, "loud"),
        (["--sharpen"], 2, "--sharpen"),
        (["--range", "255"], 2, "an intensity range is auto, full, LOW:HIGH"),
        (["--intensity-range", "9:1"], 2, "lower value first"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(
    run, photo, tmp_path, arguments, code, message
):
    out = tmp_path / "out.png"
    found, _, lines = run("run", photo, "-o", out, *arguments)
    assert found == code
    assert message in lines[-1]
    assert lines[-1].startswith("edgerestore: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png"]


def test_an_output_that_exists_is_kept_without_overwrite(run, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    code, _, lines = run("run", photo, "-o", out)
    assert code == 1
    assert "--overwrite" in lines[-1]
    assert out.read_bytes() == b"precious"
    assert run("run", photo, "-o", out, "--overwrite")[0] == 0
    assert imread(out) is not None


def test_an_edited_bundle_is_refused(run, photo, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(Bundle.find("deblur").folder, copy)
    weights = next(p for p in sorted((copy / "fp16").iterdir()) if p.suffix == ".bin")
    content = bytearray(weights.read_bytes())
    content[100] ^= 255
    weights.write_bytes(content)
    code, _, lines = run("info", copy)
    assert code == 1
    assert "was changed or is corrupted" in lines[-1]
    (copy / "model.onnx").write_bytes(b"other" * 99)
    code, _, lines = run(
        "run", photo, "-o", tmp_path / "out.png", "--model", copy, "--precision", "fp32"
    )
    assert code == 1
    assert "model.onnx was changed or is corrupted" in lines[-1]
    assert not (tmp_path / "out.png").exists()


def test_models_devices_and_info_speak_to_people_and_to_programs(run):
    code, out, _ = run("models")
    assert code == 0
    table = out.split("\n\n")[0].splitlines()
    assert table[0].split() == [
        "name", "task", "family", "MB", "parameters", "GMAC", "speed", "quality", "licence"
    ]  # fmt: skip
    assert [line.split()[:3] for line in table[2:] if line.startswith("deblur ")] == [
        ["deblur", "deblur", "deblur"]
    ]
    row = next(r for r in json.loads(run("models", "--json")[1]) if r["name"] == "deblur")
    manifest = Bundle.find("deblur").manifest
    assert (row["parameters"], row["GMAC"]) == (manifest.parameters, manifest.gmac_720p)
    assert row["frame_time"]["ms"] > 0
    assert {"width", "height", "precision", "machine", "origin"} <= row["frame_time"].keys()
    for score in row["scores"]:
        assert {"metric", "value", "precision", "data"} <= score.keys()
    assert "CPU" in run("devices")[1]
    rows = json.loads(run("devices", "--json")[1])
    assert rows[0]["device"] == "CPU"
    assert "fp32" in rows[0]["precisions"]
    code, out, _ = run("info", "deblur")
    assert code == 0
    for told in ("halo", "unchanged", " ms for 1280x720 at ", " dB PSNR, "):
        assert told in out
    assert json.loads(run("info", "deblur", "--json")[1])["format"] == 2


def test_the_model_of_a_video_is_chosen_by_its_rate(run, tmp_path, timed_family, picture):
    video, image = tmp_path / "in.mkv", picture(48, 64)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    family = timed_family(check_image(image), small=5.0, base=20.0, large=60.0)
    model, out = family["large"].folder, tmp_path / "out.mkv"
    code, _, lines = run("run", video, "-o", out, "--model", model, "--quality", "balanced")
    assert code == 0
    assert [line for line in lines if "out.mkv" not in line] == [
        "edgerestore: base on CPU (openvino) at fp32: 20 ms for 64x48 of the 28.3 ms that 30"
        " frames a second allow; large takes 60 ms"
    ]
    assert out.exists()
    code, _, lines = run("run", video, "-o", tmp_path / "auto.mkv", "--model", "auto")
    assert code == 0
    assert "deblur" in lines[0]


def test_pictures_take_the_default_model_for_auto(run, photo, tmp_path):
    for name, arguments in (("auto", ["--model", "auto"]), ("named", [])):
        assert run("run", photo, "-o", tmp_path / f"{name}.png", *arguments)[0] == 0
    np.testing.assert_array_equal(imread(tmp_path / "auto.png"), imread(tmp_path / "named.png"))


def test_help_and_version(run):
    text = run("--help")[1]
    assert "Commands" in text
    assert not [line for line in text.splitlines()[1:] if line.endswith("...")]  # cut off
    assert run("--version")[1].startswith("edgerestore 0.")
    code, _, lines = run("restore")
    assert code == 2
    assert "restore" in lines[-1]
    assert run("run")[0] == 2
    code, out, lines = run()
    assert (code, lines) == (2, [])
    assert out == run("-h")[1]
    assert run("run", "-h")[1] == run("run", "--help")[1]


def test_every_option_of_run_stands_in_a_panel(run):
    code, text, _ = run("run", "--help")
    assert code == 0
    sections = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert sections == [
        "Arguments:", "Input:", "Output:", "Model:", "Quality:", "Live:", "Video:", "Options:"
    ]  # fmt: skip
    own = text[text.index("\nOptions:") :].splitlines()[2:]
    assert [line.split()[0] for line in own if line.strip()] == ["-h,"]


def test_quiet_prints_nothing_and_is_forgotten(run, photo, tmp_path):
    assert run("run", photo, "-o", tmp_path / "a.png", "-q") == (0, "", [])
    assert len(run("run", photo, "-o", tmp_path / "b.png")[2]) == 2


def test_a_closed_standard_error_leaves_standard_output_alone(photo, tmp_path):
    command = [sys.executable, "-m", "edgerestore", "run", str(photo), "-o"]
    for name, code in (("out.png", 0), ("out.png", 1)):  # the second time it is there already
        output = str(tmp_path / name)
        closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command, output]
        done = subprocess.run(closed, capture_output=True, timeout=120)
        assert (done.returncode, done.stdout) == (code, b"")


def test_debug_shows_where_it_went_wrong(photo, tmp_path):
    command = [sys.executable, "-m", "edgerestore"]
    for arguments in (["--debug", "run", "no.png"], ["run", "no.png", "--debug"]):
        done = subprocess.run(
            [*command, *arguments, "-o", "out.png"], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_several_pictures_go_into_one_folder(run, photo, tmp_path, picture):
    other, out = tmp_path / "other.png", tmp_path / "out"
    cv2.imwrite(str(other), picture(20, 30))
    assert run("run", photo, other, "-o", out, "--strength", "0", "-q") == (0, "", [])
    for path in (photo, other):
        np.testing.assert_array_equal(imread(out / path.name), imread(path))
    code, _, lines = run("run", photo, other, "-o", out, "-q")
    assert (code, len(lines)) == (1, 1)
    assert "photo.png: exists" in lines[0]
    assert run("run", photo, other, "-o", out, "-q", "-y")[0] == 0
    code, _, lines = run("run", photo, other)
    assert (code, len(lines)) == (2, 1)
    code, _, lines = run("run", photo, tmp_path / "no.mp4", "-o", out, "-y")
    assert code == 1
    assert "no.mp4: is not there" in lines[-1]


def test_one_picture_may_go_into_a_folder_that_is_there(run, photo, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert run("run", photo, "-o", out, "--strength", "0", "-q")[0] == 0
    np.testing.assert_array_equal(imread(out / "photo.png"), imread(photo))


def video_of(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    return path


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("photo.png", ["-o", "out.xyz"], "no image format"),
        ("photo.png", ["-o", "photo.png"], "is the input"),
        ("photo.png", ["-o", "no/out.png"], "create it"),
        ("in.mkv", ["-o", "out.xyz"], "no video format"),
        ("in.mkv", ["-o", "taken.mp4"], "taken.mp4: exists"),
        ("in.mkv", ["-o", "out.mp4", "--codec", "nope"], "no video encoder nope"),
        ("in.mkv", ["-o", "udp://127.0.0.1:9", "--codec", "nope"], "no video encoder nope"),
        ("in.mkv", ["-o", "out.mp4", "-o", "ftp://a/b"], "cannot be sent to"),
        ("in.mkv", ["--preview"], "display"),
        ("in.mkv", ["-o", "http://127.0.0.1:PORT"], "is in use"),
        ("in.mkv", ["-o", "out.mp4", "--control", "127.0.0.1:PORT"], "is in use"),
        ("in.mkv", ["-o", "out.mp4", "--control", "0.0.0.0:1"], "other machines"),
        ("no.mkv", ["-o", "out.mp4", "--segment", "1m"], "no.mkv: is not there"),
    ],
)
def test_cheap_mistakes_are_told_before_the_model_is_looked_for(
    run, photo, tmp_path, monkeypatch, name, arguments, told
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    video_of(tmp_path / "in.mkv")
    (tmp_path / "taken.mp4").write_bytes(b"precious")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = [one.replace("PORT", port) for one in arguments]
        code, _, lines = run("run", name, *arguments, "--model", "no-such")
    assert code in (1, 2)
    assert len(lines) == 1
    assert told in lines[0]


def test_convert_reports_a_missing_source(run, tmp_path):
    code, _, lines = run("convert", tmp_path / "no.pth", "-o", tmp_path / "bundle")
    assert code == 1
    assert "no.pth" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_finishes_the_file_and_exits_130(tmp_path):
    import av

    source = tmp_path / "long.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        rng = np.random.default_rng(0)
        still = rng.integers(0, 255, (240, 320, 3), np.uint8)
        for index in range(3000):
            frame = av.VideoFrame.from_ndarray(np.roll(still, index, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "edgerestore", "run", str(source), "-o", str(out)]
    process = subprocess.Popen(
        [*command, "--progress", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ},
    )
    deadline = time.monotonic() + 60
    while not any(p.name.startswith(".out") for p in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None, not_none(process.stdout).read()
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    with av.open(str(tmp_path / "out.partial.mp4")) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert 0 < frames < 3000
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".out.partial.mp4.json",  # the settings that --resume compares
        "long.mp4",
        "out.partial.mp4",
    ]


def test_libraries_keep_their_own_lines_off_the_terminal(photo, tmp_path):
    """libpng, OpenCV and SVT-AV1 write to standard error by themselves."""
    raw, video = photo.read_bytes(), video_of(tmp_path / "in.mkv")
    (tmp_path / "cut.png").write_bytes(raw[: len(raw) // 2])
    damaged = bytearray(raw)
    damaged[60:62] = b"\xff\xff"
    (tmp_path / "damaged.png").write_bytes(damaged)
    command = [sys.executable, "-m", "edgerestore", "run"]
    for name in ("cut.png", "damaged.png"):
        done = subprocess.run(
            [*command, name, "-o", "out.png", "-q"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"edgerestore: {name}: ")
        assert done.stderr.count("\n") == 1
    if "libsvtav1" in av.codecs_available:
        encode = [*command, video, "-o", "out.mkv", "-q", "--codec", "libsvtav1"]
        done = subprocess.run(encode, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_options_that_do_not_apply_are_told(run, photo, tmp_path):
    out = ["-o", tmp_path / "out.png", "-y", "--strength", "0"]
    for option in (
        ["--codec", "ffv1"],
        ["--crf", "3"],
        ["--fps", "30"],
        ["--resume"],
        ["--overrun", "latest"],
        ["--image-quality", "50"],
        ["--reuse-threshold", "2"],
        ["--control-token", "secret"],
    ):
        lines = run("run", photo, *out, *option)[2]
        assert [f"{option[0]} does nothing here" in line for line in lines].count(True) == 1
    video = video_of(tmp_path / "in.mkv")
    out = ["-o", tmp_path / "out.mkv", "-y", "--strength", "0", "--codec", "ffv1"]
    assert not any("does nothing" in line for line in run("run", video, *out)[2])
    unused = ("--realtime", "--max-staleness", "2", "--overrun", "latest", "--lighter", "denoise")
    lines = run("run", video, *out, *unused)[2]
    assert ["does nothing here" in line for line in lines].count(True) == 4
    lines = run("run", video, *out, "--raw", "rgb24", "--size", "4x4")[2]
    assert ["does nothing here" in line for line in lines].count(True) == 2


def test_the_quality_of_pictures(run, photo, tmp_path):
    sizes = []
    for quality in ("20", "95"):
        out = tmp_path / f"{quality}.jpg"
        arguments = ("--strength", "0", "--image-quality", quality)
        code, _, lines = run("run", photo, "-o", out, *arguments)
        assert code == 0
        assert not any("does nothing" in line for line in lines)
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1] / 2
    code, _, lines = run("run", photo, "-o", tmp_path / "x.jpg", "--image-quality", "0")
    assert (code, lines) == (2, ["edgerestore: image_quality is from 1 to 100, got 0"])


def test_what_is_there_already_is_skipped(run, photo, tmp_path, picture):
    cv2.imwrite(str(tmp_path / "other.png"), picture(20, 30))
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.png").write_bytes(b"made before")
    arguments = ["run", photo, tmp_path / "other.png", "-o", out, "--skip-existing"]
    code, _, lines = run(*arguments)
    assert code == 0
    assert any("1 image there already" in line for line in lines)
    assert (out / "photo.png").read_bytes() == b"made before"
    assert imread(out / "other.png").shape == (20, 30, 3)
    for again in (arguments, ["run", photo, "-o", out / "photo.png", "--skip-existing"]):
        code, _, lines = run(*again, "--model", "no-such")  # nothing is left to do
        assert (code, len(lines)) == (0, 1)
        assert "is there already and is skipped" in lines[0]


def test_what_a_killed_run_left_is_cleared_and_told(run, photo, tmp_path):
    left = tmp_path / ".out.part-0123abcd.png"
    left.write_bytes(b"half a picture")
    video = video_of(tmp_path / "in.mkv")
    recorded = tmp_path / ".out.part-0123abcd.mkv"
    shutil.copy(video, recorded)
    lines = run("run", photo, "-o", tmp_path / "out.png", "--strength", "0")[2]
    assert any(str(left) in line and "removed" in line for line in lines)
    lines = run("run", video, "-o", tmp_path / "out.mkv", "--strength", "0")[2]
    assert any("out.recovered.mkv: recovered" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.mkv", "out.mkv", "out.png", "out.recovered.mkv", "photo.png"
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full disk to write to")
def test_a_standard_output_that_is_full_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgerestore", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "edgerestore: standard output cannot be written: No space left on device\n"
    )


def test_an_error_of_the_system_that_is_not_standard_outputs_is_not_taken_for_it(
    monkeypatch, capsys
):
    def fails(**_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edgerestore.cli.app.app", fails)
    with pytest.raises(OSError, match="Input/output error"):
        run_command_line(["models"])
    assert "standard output" not in capsys.readouterr().err
