"""What skipping saves and costs: frames that stand still, change in part, or change wholly."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.engine.restorer import Restorer
from edgerestore.engine.temporal.cover import Canvas, refresh_grid

from .harness import Effort, Table, interleaved, paired, stream_rate
from .scenes import canvas, moving_frames

Picture = NDArray[np.uint8]
Tables = Callable[[str], Table]

HEIGHT, WIDTH = 720, 1280
PATCH_PX = 64
COUNT = 8


@pytest.fixture(scope="module")
def precision() -> str:
    """INT8 where the bundle has it; the reuse of slower precisions only gains more."""
    return "int8" if "int8" in Bundle.find("deblur").manifest.variants else "auto"


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Picture]]:
    still = canvas(HEIGHT, WIDTH)
    patched = []
    for step in range(COUNT):
        frame = still.copy()
        top, left = 301 + 3 * step, 555 + 5 * step  # on no grid
        frame[top : top + PATCH_PX, left : left + PATCH_PX] = still[:PATCH_PX, :PATCH_PX]
        patched.append(frame)
    # There and back again, so that the patch never jumps.
    return {
        "nothing changing": [still.copy() for _ in range(COUNT)],
        f"one moving patch of {PATCH_PX}x{PATCH_PX}": patched + patched[-2:0:-1],
        "everything changing": list(moving_frames(HEIGHT, WIDTH, COUNT)),
    }


def test_reuse(
    scenes: dict[str, list[Picture]], precision: str, table: Tables, effort: Effort
) -> None:
    out = table(f"reuse_static=0 against full inference: {WIDTH}x{HEIGHT} u8, {precision}")
    halo = Bundle.find("deblur").manifest.tiling.halo_px
    least = PATCH_PX + 4 * halo
    targets = dict(zip(scenes, (15.0, 4.0, 0.95), strict=True))
    with (
        edgerestore.load("deblur", precision=precision) as full,
        edgerestore.load("deblur", precision=precision, reuse_static=0) as reusing,
    ):
        for name, frames in scenes.items():
            for frame in frames:
                np.testing.assert_array_equal(reusing(frame), full(frame))
            speeds = _beside(full, reusing, frames, effort)
            ratios = paired(speeds["other"], speeds["full"])
            value, bound = _fps(speeds["other"]), _fps(speeds["full"])
            out.ratio(name, value, bound, ratios, targets[name])
        told = _taken_over(reusing)
    out.note(f"a patch reaches {halo} px and its outcome as far again: at least {least}x{least}")
    out.note(f"px are inferred, so the bound is {HEIGHT * WIDTH / least**2:.1f}; {told}")


def _taken_over(restorer: Restorer) -> str:
    counts = restorer.reuse
    assert counts is not None
    return f"{counts.pixels_reused:.1%} of {counts.frames} frames' pixels were taken over"


def test_threshold(precision: str, table: Tables, effort: Effort) -> None:
    """A camera that stands still: only its noise changes."""
    still = canvas(HEIGHT, WIDTH)
    rng = np.random.default_rng(0)
    frames = [
        np.clip(still + rng.integers(-1, 2, still.shape), 0, 255).astype(np.uint8)
        for _ in range(COUNT)
    ]
    out = table(f"reuse_static=2 on noise of one level: {WIDTH}x{HEIGHT} u8, {precision}")
    with (
        edgerestore.load("deblur", precision=precision) as full,
        edgerestore.load("deblur", precision=precision, reuse_static=2) as reusing,
    ):
        speeds = _beside(full, reusing, frames, effort)
    ratios = paired(speeds["other"], speeds["full"])
    out.ratio("noise", _fps(speeds["other"]), _fps(speeds["full"]), ratios, None)


def test_cadence(
    scenes: dict[str, list[Picture]], precision: str, table: Tables, effort: Effort
) -> None:
    out = table(f"cadence against full inference: {WIDTH}x{HEIGHT} u8, {precision}")
    frames = scenes["everything changing"]
    with (
        edgerestore.load("deblur", precision=precision) as full,
        edgerestore.load("deblur", precision=precision) as turning,
    ):
        for cadence in (2, 3, 4, 8):
            turning.cadence = cadence
            speeds = _beside(full, turning, frames, effort)
            ratios = paired(speeds["other"], speeds["full"])
            what = f"cadence {cadence}, at most {_frame_over_turn(cadence):.2f}"
            out.ratio(what, _fps(speeds["other"]), _fps(speeds["full"]), ratios, None)
    out.note("at most: pixels of the frame over those of one turn, its halo included")


def _frame_over_turn(cadence: int) -> float:
    manifest = Bundle.find("deblur").manifest
    frame = Canvas(HEIGHT, WIDTH, manifest.tiling.halo_px, manifest.input.multiple_of)
    grid = refresh_grid(frame, cadence)
    assert grid is not None
    return HEIGHT * WIDTH / (grid.tile_height * grid.tile_width)


def test_guard(
    scenes: dict[str, list[Picture]], precision: str, table: Tables, effort: Effort
) -> None:
    frames = scenes["everything changing"]
    with (
        edgerestore.load("deblur", precision=precision) as full,
        edgerestore.load("deblur", precision=precision, guard=True) as guarded,
    ):
        speeds = _beside(full, guarded, frames, effort)
        assert guarded.guarded is not None
        assert guarded.guarded.fallen_back == 0
    out = table(f"guard against none: {WIDTH}x{HEIGHT} u8, {precision}")
    both = list(zip(speeds["other"], speeds["full"], strict=True))
    cost_ms = statistics.median((1 / other - 1 / plain) * 1e3 for other, plain in both)
    out.at_most("cost a frame", cost_ms, 1.0, "ms")
    out.ratio("frames", _fps(speeds["other"]), _fps(speeds["full"]), [a / b for a, b in both], None)


def _beside(
    full: Restorer, other: Restorer, frames: list[Picture], effort: Effort
) -> dict[str, list[float]]:
    for restorer in (full, other):
        list(restorer.stream(itertools.islice(itertools.cycle(frames), COUNT)))
    seconds = effort.seconds / 4
    stages = {
        "full": lambda: stream_rate(full, frames, seconds),
        "other": lambda: stream_rate(other, frames, seconds),
    }
    return interleaved(stages, effort.repeats)


def _fps(speeds: list[float]) -> str:
    return f"{statistics.median(speeds):.1f} fps"
