"""Cutting out: transparency, backgrounds, masks, and masks that do not flicker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore.cli.app import run_command_line
from edgerestore.engine.predictors.cutout import Background, Cutout, SteadyMasks, parse_background
from edgerestore.errors import ArgumentError, InferenceError, SourceError

from ..checked import imread


@pytest.fixture
def masks(mask_bundle):
    with edgerestore.load(mask_bundle, precision="fp32") as opened:
        yield opened


@pytest.fixture
def scene():
    """A red disc on grey, with a soft edge and some noise."""

    def draw(seed=0, at=60, dtype=np.uint8):
        image = np.full((90, 120, 3), 110, np.float32)
        cv2.circle(image, (at, 45), 25, (230, 30, 40), -1, cv2.LINE_AA)
        cv2.GaussianBlur(image, (0, 0), 1.5, dst=image)
        image += np.random.default_rng(seed).normal(0, 3, image.shape)
        peak = 1 if dtype is np.float32 else np.iinfo(dtype).max
        return (np.clip(image / 255, 0, 1) * peak).astype(dtype)

    return draw


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_rest_becomes_transparent(masks, scene, dtype):
    image = scene(dtype=dtype)
    made = Cutout(masks)(image)
    assert made.dtype == dtype
    assert made.shape == (90, 120, 4)
    np.testing.assert_array_equal(made[..., :3], image)
    np.testing.assert_allclose(made[..., 3], masks(image)[..., 0], atol=1e-6)
    peak = 1 if dtype is np.float32 else np.iinfo(dtype).max
    assert made[45, 60, 3] > 0.99 * peak
    assert made[5, 5, 3] < 0.05 * peak


def test_backgrounds(masks, scene):
    image = scene()
    alpha = masks(image).astype(np.float64) / 255
    blue = Cutout(masks, parse_background("#0000ff"))(image)
    wanted = alpha * image + (1 - alpha) * np.array([0, 0, 255])
    assert np.abs(blue - wanted).max() <= 0.51
    # A picture of another shape covers the frame, its middle kept.
    tall = np.zeros((400, 40, 3), np.uint8)
    tall[190:210] = 200
    made = Cutout(masks, Background(picture=tall))(image)
    assert made[45, 2].mean() > 150
    assert made[2, 2].mean() < 60


def test_backgrounds_have_the_pictures_order(mask_bundle, scene):
    image = scene()
    made = []
    for color, step in (("rgb", 1), ("bgr", -1)):
        with edgerestore.load(mask_bundle, precision="fp32", color=color) as opened:
            orange = Cutout(opened, parse_background("#ff8000"))
            made.append(orange(np.ascontiguousarray(image[..., ::step]))[..., ::step])
    np.testing.assert_array_equal(made[0], made[1])


def test_the_settings_of_the_masks_go_along(masks):
    masks.strength, masks.refresh_interval = 0.5, 3
    cutout = Cutout(masks)
    assert (cutout.strength, cutout.refresh_interval) == (0.5, 3)


def test_the_mask_alone(masks, scene):
    image = scene()
    np.testing.assert_array_equal(Cutout(masks, mask_only=True)(image), masks(image)[..., 0])


def test_strength_fades_the_rest_out(masks, scene):
    image = scene()
    cutout = Cutout(masks, parse_background("white"))
    np.testing.assert_array_equal(cutout(image, strength=0), image)
    half, full = (cutout(image, strength=s).astype(float) for s in (0.5, 1))
    assert np.abs(half - (image + full) / 2).max() <= 1
    np.testing.assert_array_equal(Cutout(masks)(image, strength=0)[..., 3], 255)
    ramp = np.zeros((90, 120), np.float32)
    ramp[:, 60:] = 1
    by_map = cutout(image, strength=ramp)
    np.testing.assert_array_equal(by_map[:, :60], image[:, :60])
    np.testing.assert_array_equal(by_map[:, 60:], full[:, 60:])


def test_grey_and_transparent_pictures(masks, scene):
    image = scene()
    assert Cutout(masks)(image[..., 0]).shape == (90, 120, 4)
    with_alpha = np.dstack([image, np.full((90, 120), 128, np.uint8)])
    made = Cutout(masks)(with_alpha)
    opaque = Cutout(masks)(image)
    assert np.abs(made[..., 3] - opaque[..., 3] * (128 / 255)).max() <= 0.51


def test_masks_of_a_stream_do_not_flicker_and_do_not_lag(masks, scene):
    still = [scene(seed) for seed in range(12)]
    cutout = Cutout(masks, mask_only=True)
    loose = np.stack(list(cutout.stream(still))).astype(float)
    cutout.steady = True
    steady = np.stack(list(cutout.stream(still))).astype(float)
    assert steady[4:].std(axis=0).mean() < 0.6 * loose[4:].std(axis=0).mean()
    moved = scene(99, at=85)
    lag = np.abs(cutout(moved).astype(float) - masks(moved)[..., 0])
    assert lag[30:60, 30:50].mean() < 4  # where the disc was
    assert lag[30:60, 90:105].mean() < 4  # and where it went
    # Another size starts anew.
    half = np.ascontiguousarray(moved[::2, ::2])
    np.testing.assert_array_equal(cutout(half), masks(half)[..., 0])


def test_a_mask_that_failed_is_one_frame_and_not_all_that_follow():
    over_time, image = SteadyMasks(), np.zeros((8, 8, 3), np.uint8)
    mask = np.ones((8, 8), np.float32)

    def fails():
        raise InferenceError("the driver failed")

    first = over_time.follow(image, lambda: mask)
    second = over_time.follow(image, fails)
    third = over_time.follow(image, lambda: mask * 0.5)
    np.testing.assert_array_equal(first(), mask)
    for _ in range(2):
        with pytest.raises(InferenceError):
            second()
    np.testing.assert_array_equal(third(), mask * 0.5)


def test_what_cannot_be(masks, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    for text, error, said in (
        ("#12345", ArgumentError, "use none, white, black, #rrggbb or a picture"),
        ("pink", ArgumentError, "is no file"),
        (str(tmp_path / "broken.png"), SourceError, "broken.png"),
    ):
        with pytest.raises(error, match=said):
            parse_background(text)
    image = np.zeros((4, 5, 3), np.uint8)
    for strength in (2.5, float("nan"), np.ones((5, 4)), np.full((4, 5), -1.0)):
        with pytest.raises(ArgumentError, match="strength"):
            Cutout(masks)(image, strength=strength)
    with edgerestore.load("deblur") as deblur, pytest.raises(ArgumentError, match="makes no masks"):
        Cutout(deblur)


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = run_command_line([str(a) for a in arguments])
        return code, [line for line in capsys.readouterr().err.splitlines() if line]

    return call


def test_on_the_command_line(run, scene, mask_bundle, tmp_path):
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), scene()[..., ::-1])
    common = ("run", photo, "--model", mask_bundle, "--precision", "fp32", "--overwrite", "-o")
    assert run(*common, tmp_path / "cut.png")[0] == 0
    assert imread(tmp_path / "cut.png", cv2.IMREAD_UNCHANGED).shape == (90, 120, 4)
    code, lines = run(*common, tmp_path / "cut.jpg")
    assert code == 0
    assert any("keeps no transparency: the background becomes white" in line for line in lines)
    assert imread(tmp_path / "cut.jpg")[3, 3].min() > 245
    assert run(*common, tmp_path / "mask.png", "--mask-only")[0] == 0
    assert imread(tmp_path / "mask.png", cv2.IMREAD_UNCHANGED).shape == (90, 120)
    code, lines = run(*common, tmp_path / "no.jpg", "--background", "none")
    assert code == 1
    assert "keeps no transparency; write .png" in lines[-1]
    code, lines = run("run", photo, "-o", tmp_path / "no.png", "--background", "white")
    assert code == 2
    assert "makes no masks" in lines[-1]
    code, lines = run(*common, tmp_path / "no.png", "--brightness", "auto")
    assert code == 2
    assert "makes masks" in lines[-1]
    code, lines = run("run", photo, "-o", tmp_path / "no.png", "--contrast", "much")
    assert code == 2
    assert lines == ["edgerestore: contrast is auto or a number, got 'much'"]
    assert not list(tmp_path.glob("no.*"))


def test_a_video_before_another_background(run, scene, mask_bundle, tmp_path):
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (120, 90))
    for index in range(10):
        writer.write(scene(index, at=40 + 4 * index)[..., ::-1])
    writer.release()
    out = tmp_path / "out.mp4"
    code, lines = run("run", clip, "-o", out, "--model", mask_bundle, "--background", "#00ff00")
    assert code == 0, lines
    capture = cv2.VideoCapture(str(out))
    frames = [frame for done, frame in iter(capture.read, (False, None)) if done]
    assert len(frames) == 10
    blue, green, red = frames[-1][5, 110].astype(int)
    assert green > 200 > 120 > max(blue, red)
    blue, green, red = frames[-1][45, 76].astype(int)
    assert red > 180 > 100 > max(blue, green)
