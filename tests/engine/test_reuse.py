"""What did not change is not inferred, and nobody can tell from the bytes."""

import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import edgerestore
from edgerestore import Adjustments, Cutout
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.manifest import Tiling, TilingMode
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import Depth

from ..checked import not_none

EXAMPLES = int(os.environ.get("REUSE_EXAMPLES", "5"))
# Few sizes, since each is compiled; one of multiples, the others not.
SIZES = [(400, 560), (397, 601), (601, 397)]


def pictured(rng, shape, depth):
    """Flat patches with hard edges under noise: every layer is exercised."""
    height, width = shape[:2]
    coarse = rng.random((height // 7 + 1, width // 7 + 1, *shape[2:]))
    image = 0.75 * coarse.repeat(7, 0).repeat(7, 1)[:height, :width] + 0.25 * rng.random(shape)
    return (image * depth.peak).astype(depth.value)


@dataclass(frozen=True)
class Scene:
    """Frames that change in rectangles, and the strengths they are restored at."""

    size: tuple[int, int]
    channels: tuple[int, ...]
    depth: Depth
    seed: int

    def frames(self, count=7):
        rng = np.random.default_rng(self.seed)
        frame = pictured(rng, (*self.size, *self.channels), self.depth)
        strengths = [1.0, 0.7, rng.uniform(0, 2, self.size).astype(np.float32), 0.0]
        strength = strengths[0]
        for _ in range(count):
            yield frame, strength
            if rng.random() < 0.2:
                strength = strengths[rng.integers(len(strengths))]
            frame = frame.copy()
            for _ in range(rng.choice([0, 1, 1, 2, 5])):
                top, left = (rng.integers(0, side) for side in self.size)
                high, wide = (int(side) for side in rng.choice([1, 8, 64, 250], 2))
                part = frame[top : top + high, left : left + wide]
                part[...] = pictured(rng, part.shape, self.depth)


def scenes(sizes=SIZES, channels=((3,),)):
    return st.builds(
        Scene,
        size=st.sampled_from(sizes),
        channels=st.sampled_from(channels),
        depth=st.sampled_from(list(Depth)),
        seed=st.integers(0, 2**31),
    )


def check(full, reusing, scene):
    """Submit everything, then ask for the results in an order of their own."""
    frames = list(scene.frames())
    flying = [reusing.submit(frame, strength) for frame, strength in frames]
    order = np.random.default_rng(scene.seed).permutation(len(frames))
    for place in order:
        frame, strength = frames[place]
        outcome = flying[place].result()
        assert outcome.dtype == frame.dtype
        np.testing.assert_array_equal(outcome, full(frame, strength))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_outcomes_are_those_of_full_inference(precision, needs_precision):
    needs_precision(precision)
    with (
        edgerestore.load("deblur", precision=precision) as full,
        edgerestore.load("deblur", precision=precision, reuse_static=0) as reusing,
    ):

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(scenes())
        def holds(scene):
            check(full, reusing, scene)

        holds()
        assert not_none(reusing.reuse).pixels_reused > 0.2


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Convert networks of two convolutions: a grey one, and one that enlarges."""
    import torch
    from torch import nn

    from edgerestore.convert import convert

    folder = tmp_path_factory.mktemp("small")
    grey = "nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2)"
    larger = "nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1)"
    larger += ", nn.PixelShuffle(2)"
    bundles = {}
    for name, layers in (("grey", grey), ("larger", larger)):
        code = f"from torch import nn\ndef make():\n    return nn.Sequential({layers})\n"
        (folder / f"{name}.py").write_text(code)
        torch.manual_seed(3)
        network = eval(f"nn.Sequential({layers})", {"nn": nn})
        torch.save(network.state_dict(), folder / f"{name}.pth")
        maker = f"{folder / name}.py:make"
        convert(
            folder / f"{name}.pth",
            folder / name,
            architecture=maker,
            task="restore",
            force=True,
            trust=True,
        )
        bundles[name] = folder / name
    return bundles


@pytest.mark.parametrize(
    ("name", "channels"), [("grey", [(), (1,), (3,), (4,)]), ("larger", [(), (3,), (4,)])]
)
def test_every_kind_of_picture_on_every_kind_of_model(small, name, channels):
    with (
        edgerestore.load(small[name], precision="fp32") as full,
        edgerestore.load(small[name], precision="fp32", reuse_static=0) as reusing,
    ):

        @settings(max_examples=2 * EXAMPLES, suppress_health_check=list(HealthCheck))
        @given(scenes([(300, 340), (301, 339)], channels))
        def holds(scene):
            check(full, reusing, scene)

        holds()
        assert not_none(reusing.reuse).pixels_reused > 0.2


def test_grey_models_compare_each_channel(small):
    image = pictured(np.random.default_rng(0), (240, 301, 3), Depth.U8)
    with (
        edgerestore.load(small["grey"], precision="fp32") as full,
        edgerestore.load(small["grey"], precision="fp32", reuse_static=0) as reusing,
    ):
        reusing(image)
        assert not_none(reusing.reuse).tiles_inferred == 3
        image[100:110, 100:110, 1] ^= 255
        np.testing.assert_array_equal(reusing(image), full(image))
        assert not_none(reusing.reuse).tiles_inferred == 4


def test_it_counts_what_it_left_out(full, picture):
    image = picture(400, 560)
    with edgerestore.load("deblur", precision="int8", reuse_static=0) as reusing:
        assert not_none(reusing.reuse).as_dict() == {
            "frames": 0,
            "frames_reused": 0,
            "tiles_inferred": 0,
            "pixels_reused": 0.0,
        }
        for _ in range(3):
            reusing(image.copy())
        changed = image.copy()
        changed[10:60, 10:60] = 0
        np.testing.assert_array_equal(reusing(changed), full(changed))
        counts = not_none(reusing.reuse)
        assert (counts.frames, counts.frames_reused, counts.tiles_inferred) == (4, 2, 2)
        assert 0.5 < counts.pixels_reused < 0.75
    assert full.reuse is None


def test_an_unchanged_frame_is_handed_over_without_a_copy_and_cannot_be_written(reusing, picture):
    image = picture(400, 560)
    first, second = reusing(image), reusing(image.copy())
    assert np.shares_memory(first, second)
    with pytest.raises(ValueError, match="read-only"):
        second[0, 0] = 0
    np.testing.assert_array_equal(reusing(image, strength=0), image)


def test_the_caller_may_write_into_its_image_after_the_result(reusing, full, picture):
    image = picture(400, 560)
    for step in range(4):
        np.testing.assert_array_equal(reusing(image), full(image))
        image[40 * step : 40 * step + 50, 100:150] += 31
    expected = full(image)
    np.testing.assert_array_equal(reusing(image), expected)


def test_a_scene_that_moved_and_stands_still_again(full, picture):
    frames = [picture(400, 560, seed=seed) for seed in range(5)]
    frames += [frames[-1].copy() for _ in range(4)]
    frames[-1][200:240, 200:240] = 0
    with edgerestore.load("deblur", precision="int8", reuse_static=0) as reusing:
        for frame in frames:
            np.testing.assert_array_equal(reusing(frame), full(frame))
        counts = not_none(reusing.reuse)
    # While all of it moved no copy was kept, so the first still frame is inferred as well.
    assert (counts.frames_reused, counts.tiles_inferred) == (2, 7)


def test_tones_and_channel_orders_start_anew(full, picture):
    image = picture(400, 560)
    with (
        edgerestore.load("deblur", precision="int8", reuse_static=0) as reusing,
        edgerestore.load("deblur", precision="int8") as other,
    ):
        plain = reusing(image)
        for adjustments in (Adjustments(brightness=0.5), Adjustments(contrast=0.3), Adjustments()):
            reusing.adjustments = other.adjustments = adjustments
            np.testing.assert_array_equal(reusing(image), other(image))
            image = image.copy()
            image[5:40, 5:40] = 200
            np.testing.assert_array_equal(reusing(image), other(image))
        assert not np.array_equal(plain, reusing(image))


@pytest.mark.parametrize("mode", [TilingMode.WINDOWED, TilingMode.WHOLE])
def test_models_that_see_the_frame_as_a_whole_are_reused_as_a_whole(mode, tmp_path, picture):
    shipped = Bundle.find("deblur")
    shutil.copytree(shipped.folder, tmp_path / "copy")
    manifest = shipped.manifest
    tiling = Tiling(mode, window_px=192, ramp_px=48, reason="a global mean")
    if mode is TilingMode.WHOLE:
        tiling = Tiling(mode, reason="a thumbnail")
    manifest = replace(manifest, tiling=tiling)
    (tmp_path / "copy" / "bundle.json").write_text(manifest.to_json())
    image = picture(300, 260)
    with (
        edgerestore.load(tmp_path / "copy", precision="fp32") as full,
        edgerestore.load(tmp_path / "copy", precision="fp32", reuse_static=0) as reusing,
    ):
        for _ in range(2):
            np.testing.assert_array_equal(reusing(image), full(image))
        image[10, 10] ^= 255
        np.testing.assert_array_equal(reusing(image), full(image))
        assert not_none(reusing.reuse).frames_reused == 1
        assert not_none(reusing.reuse).pixels_reused == pytest.approx(1 / 3, abs=1e-4)


def test_an_average_of_models_reuses_in_each(full, picture):
    image = picture(400, 560)
    with (
        edgerestore.load("deblur+deblur*3", precision="int8") as plain,
        edgerestore.load("deblur+deblur*3", precision="int8", reuse_static=0) as reusing,
    ):
        for _ in range(3):
            np.testing.assert_array_equal(reusing(image), plain(image))
            image = image.copy()
            image[100:140, 200:240] += 9
        assert plain.reuse is None
        assert not_none(reusing.reuse).frames == 3
        assert not_none(reusing.reuse).pixels_reused > 0.3


def test_turns_of_a_picture_have_nothing_in_common():
    with pytest.raises(ArgumentError, match="without reuse_static"):
        edgerestore.load("deblur", tta=True, reuse_static=0)


def test_a_cut_out_reuses_masks(mask_bundle, picture):
    image = picture(300, 300)
    image[50:100, 50:100] = (250, 5, 5)
    with (
        Cutout(edgerestore.load(mask_bundle, precision="fp32")) as plain,
        Cutout(edgerestore.load(mask_bundle, precision="fp32", reuse_static=0)) as reusing,
    ):
        for _ in range(3):
            np.testing.assert_array_equal(reusing(image), plain(image))
            image = image.copy()
            image[200:220, 200:220] = (250, 5, 5)
        assert not_none(reusing.reuse).frames_reused == 1
        assert not_none(reusing.reuse).pixels_reused > 0.4


@pytest.mark.parametrize("bad", [True, -1, 300, float("nan"), "auto"])
def test_a_threshold_that_is_none_is_refused(bad):
    with pytest.raises(ArgumentError, match="reuse_static is None or a number"):
        edgerestore.load("deblur", precision="fp32", reuse_static=bad)
