"""The preview window without a window: what it shows, and what its keys do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgerestore.streams.sinks.window import HELP, KEYS, Action, View, handle_key
from edgerestore.streams.sinks.window_screen import (
    compose,
    large_enough,
    placeholder,
    write_banner,
    write_help,
    write_line,
)

from ..live.fake_controls import FakeControls

UP, DOWN, LEFT, RIGHT = 65362, 65364, 65361, 65363


@pytest.fixture
def controls():
    return FakeControls()


def test_original_to_the_left_and_restored_to_the_right():
    original, restored = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    shown = compose(original, restored, 0.25)
    assert (shown[:, :18] == 10).all()
    assert (shown[:, 22:] == 200).all()
    assert (shown[:, 20] == 255).all()
    assert (original == 10).all()
    assert (restored == 200).all()


@pytest.mark.parametrize(
    ("split", "left", "right"),
    [(0.0, None, 200), (1.0, 10, None), (-3.0, None, 200), (7.0, 10, None)],
)
def test_a_line_at_the_edge(split, left, right):
    original, restored = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    shown = compose(original, restored, split)
    assert (shown[:, 4:-4] == (left or right)).all()


@pytest.mark.parametrize("original", [None, np.zeros((60, 80, 3), np.uint8)])
def test_restored_alone(original):
    restored = np.full((60, 80, 3), (1, 2, 3), np.uint8)
    shown = compose(original, restored, 0.5 if original is None else None)
    assert (shown == (3, 2, 1)).all()  # OpenCV's windows take BGR
    assert not np.shares_memory(shown, restored)


def test_an_enlarged_picture_stands_beside_its_enlarged_original(picture_at):
    small = picture_at(0, 60, 80)
    large = cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC)
    shown = compose(small, large, 0.5)
    assert shown.shape == (240, 320, 3)
    difference = np.abs(shown[:, :150, ::-1].astype(int) - large[:, :150])
    assert difference.max() <= 1


def test_a_large_picture_is_made_smaller():
    restored = np.full((3000, 6000), 30_000, np.uint16)
    shown = compose(np.full((750, 1500, 3), 0.5, np.float32), restored, 0.5)
    assert shown.shape == (960, 1920, 3)
    assert (shown[:, 1000:] == round(30_000 / 257)).all()
    assert (np.abs(shown[:, :900].astype(int) - 128) <= 1).all()


@pytest.mark.parametrize(
    "restored",
    [
        np.zeros((60, 80), np.uint8), np.zeros((60, 80, 1), np.float32),
        np.zeros((60, 80, 4), np.uint16), np.zeros((1, 1, 3), np.uint8),
        np.zeros((5, 4000), np.uint8),
    ],
)  # fmt: skip
def test_any_picture_takes_any_text(restored):
    shown = compose(np.zeros((60, 80, 3), np.uint8), restored, 0.5)
    write_line(shown, "strength 40 %   running   25.0 fps")
    write_banner(shown, "reconnecting")
    write_help(shown, HELP)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((240, 320), (480, 640)), ((64, 96), (384, 576)), ((360, 640), (360, 640)),
     ((1080, 1920), (1080, 1920)), ((10, 1000), (10, 1000)), ((1, 1), (360, 360))],
)  # fmt: skip
def test_small_pictures_are_enlarged_for_the_text(size, expected):
    small = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    large = large_enough(small)
    assert large.shape[:2] == expected
    times = expected[0] // size[0]
    np.testing.assert_array_equal(large[::times, ::times], small)


def test_text_can_be_read_on_white_and_on_black():
    for level in (0, 255):
        shown = np.full((360, 640, 3), level, np.uint8)
        write_line(shown, "strength")
        strip = shown[320:, :200]
        assert int(strip.max()) - int(strip.min()) > 150
        assert (shown[:300] == level).all()


def test_the_help_names_every_action():
    assert {action for _, action in HELP} == set(Action) == set(KEYS.values())
    shown = placeholder()
    write_help(shown, HELP)
    assert shown.max() > 200


@pytest.mark.parametrize(
    ("keys", "calls"),
    [
        ([ord("q")], [("stop",)]),
        ([27], [("stop",)]),
        ([ord("Q")], [("stop",)]),
        ([ord(" ")], [("pause",)]),
        ([ord(" "), ord(" ")], [("pause",), ("resume",)]),
        ([ord("0")], [("strength", 0.0)]),
        ([ord("1")], [("strength", 1.0)]),
        ([ord("+")], [("strength", 1.05)]),
        ([UP, UP], [("strength", 1.05), ("strength", 1.1)]),
        ([DOWN], [("strength", 0.95)]),
        ([ord("-")], [("strength", 0.95)]),
        ([-1, 0, 65505, ord("z"), 10**9], []),
        ([ord("s"), ord("f"), ord("h"), LEFT, RIGHT], []),
    ],
)
def test_keys_turn_the_stream(controls, keys, calls):
    view = View()
    for key in keys:
        view = handle_key(key, view, controls)
    assert controls.calls == calls
    assert view.quit == (("stop",) in calls)


def test_strength_stays_in_its_range(controls):
    for _ in range(50):
        handle_key(UP, View(), controls)
    assert controls.strength == 2.0
    for _ in range(50):
        handle_key(DOWN, View(), controls)
    assert controls.strength == 0.0
    assert all(value == round(value, 2) for _, value in controls.calls)


def test_keys_change_the_view():
    assert not handle_key(ord("s"), View(), None).split_shown
    assert handle_key(ord("s"), handle_key(ord("s"), View(), None), None) == View()
    assert handle_key(ord("h"), View(), None).help_shown
    assert handle_key(65470, View(), None).help_shown
    assert handle_key(ord("F"), View(), None).full_screen
    assert handle_key(LEFT, View(), None).split == pytest.approx(0.48)
    assert handle_key(RIGHT, View(split=1.0), None).split == 1.0
    assert handle_key(LEFT, View(split=0.01), None).split == 0.0


def test_without_controls_keys_of_the_stream_do_nothing():
    for key in (ord(" "), ord("0"), ord("1"), UP, DOWN):
        assert handle_key(key, View(), None) == View()
    assert handle_key(ord("q"), View(), None).quit
