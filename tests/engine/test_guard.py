"""Where a model's numbers break, its input is shown; where they do not, nothing is touched."""

import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore import Adjustments, Cutout
from edgerestore.engine.guard import Cause, Guard, GuardCounts
from edgerestore.imaging.arrays import Depth

from ..checked import imread, not_none

CODE = """
import torch
from torch import nn


class Touchy(nn.Module):
    black, value_range = 0.0, 1.0

    # NaN on saturated red, far too bright on green, a cast of its own on blue.
    def __init__(self):
        super().__init__()
        self.told = nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x):
        red, green, blue = self.told(x).split(1, 1)
        broken = 1e-3 * torch.sqrt(0.9 - red) + 1e6 * torch.relu(green - 0.9)
        return x + broken - 2 * torch.relu(blue - 0.7)


class Larger(Touchy):
    def forward(self, x):
        return nn.functional.interpolate(super().forward(x), scale_factor=2, mode="nearest")


def make():
    return Touchy()


def enlarge():
    return Larger()
"""
RED, GREEN, BLUE = np.eye(3)


@pytest.fixture(scope="module")
def touchy(tmp_path_factory):
    """Convert a network that returns its input, but for three colours that it cannot stand."""
    import torch

    from edgerestore.convert import convert

    folder = tmp_path_factory.mktemp("touchy")
    (folder / "touchy.py").write_text(CODE)
    weights = torch.full((3, 3, 5, 5), -0.5 / 25)
    weights[range(3), range(3)] = 1 / 25
    torch.save({"told.weight": weights, "told.bias": torch.zeros(3)}, folder / "touchy.pth")
    bundles = {}
    for name in ("make", "enlarge"):
        architecture = f"{folder / 'touchy.py'}:{name}"
        convert(
            folder / "touchy.pth",
            folder / name,
            architecture=architecture,
            task="denoise",
            trust=True,
        )
        bundles[name] = folder / name
    return bundles


def spotted(colour, depth=Depth.U8, side=40):
    """Return a grey picture of 400 x 400 with one square of a colour, in the tile at top left."""
    image = np.full((400, 400, 3), 0.5)
    image[40 : 40 + side, 40 : 40 + side] = colour
    return (image * depth.peak).astype(depth.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("depth", list(Depth))
@pytest.mark.parametrize(
    ("colour", "cause"), [(RED, "clipped"), (GREEN, "clipped"), (BLUE, "drift")]
)
def test_a_broken_tile_shows_its_input(touchy, needs_precision, precision, depth, colour, cause):
    needs_precision(precision)
    image = spotted(colour, depth)
    lines: list[str] = []
    with (
        edgerestore.load(touchy["make"], precision=precision, tile=200) as bare,
        edgerestore.load(touchy["make"], precision=precision, tile=200, guard=True) as guarded,
    ):
        guarded.on_guarded = lines.append
        broken, mended = bare(image), guarded(image)
        counts = not_none(guarded.guarded)
    assert bare.guarded is None
    differs = (broken != image).any(axis=2)
    assert differs[50:70, 50:70].all()
    np.testing.assert_array_equal(mended[:190, :190], image[:190, :190])
    np.testing.assert_array_equal(mended[200:], broken[200:])  # other tiles are left alone
    assert counts.as_dict()[cause] == counts.fallen_back == 1
    assert counts.tiles == 9
    assert len(lines) == 1
    assert lines[0].endswith(f"fell back to its input: {cause}")


def test_an_enlarged_tile_falls_back_to_its_input_enlarged(touchy):
    image = spotted(RED)
    with edgerestore.load(touchy["enlarge"], precision="fp32", guard=True) as restorer:
        mended = restorer(image)
        assert not_none(restorer.guarded).clipped == 1
    wanted = cv2.resize(image, (800, 800), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(mended, wanted)


def test_a_tile_that_falls_back_has_its_tones_all_the_same(touchy):
    adjustments = Adjustments(brightness=0.5, balance=0.5)
    image = spotted(RED)
    with edgerestore.load(touchy["make"], precision="fp32", guard=True) as restorer:
        restorer.adjustments = adjustments
        mended = restorer(image)
        assert not_none(restorer.guarded).fallen_back == 1
        plain = image.copy()
        plain[40:80, 40:80] = image[0, 0]
        toned = restorer(plain)
        assert not_none(restorer.guarded).fallen_back == 1
    assert np.abs(mended[200:].astype(int) - toned[200:].astype(int)).max() <= 1


def test_only_what_is_inferred_anew_falls_back(touchy):
    image = spotted(BLUE)
    with edgerestore.load(touchy["make"], precision="fp32", guard=True, reuse_static=0) as restorer:
        np.testing.assert_array_equal(restorer(image), image)
        np.testing.assert_array_equal(restorer(image), image)
        assert not_none(restorer.guarded).tiles == 1
        plain = image.copy()
        plain[40:80, 40:80] = 127
        assert (restorer(plain)[40:80, 40:80] < 200).all()
        np.testing.assert_array_equal(restorer(image)[30:90, 30:90], image[30:90, 30:90])
        assert restorer.guarded == GuardCounts(tiles=3, drift=2)


def test_members_of_an_average_fall_back_each(touchy):
    image = spotted(GREEN)
    lines: list[str] = []
    name = f"{touchy['make']}+{touchy['make']}"
    with edgerestore.load(name, precision="fp32", guard=True) as restorer:
        restorer.on_guarded = lines.append
        np.testing.assert_array_equal(restorer(image), image)
        assert restorer.guarded == GuardCounts(tiles=2, clipped=2)
    assert len(lines) == 2


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_photographs_raise_no_alarm(shared_data, strength):
    with (
        edgerestore.load("deblur", guard=True) as guarded,
        edgerestore.load("deblur") as bare,
    ):
        for path in sorted((shared_data / "kodak").glob("*.png")):
            image = imread(path)
            for adjustments in (Adjustments(), Adjustments(brightness=2, contrast=1, balance=1)):
                guarded.adjustments = bare.adjustments = adjustments
                np.testing.assert_array_equal(guarded(image, strength), bare(image, strength))
        assert not_none(guarded.guarded).fallen_back == 0


def test_bright_tones_on_a_page_of_text_raise_no_alarm():
    """A block's mean with a tone is not the tone of its mean: white clips, black does not."""
    rng = np.random.default_rng(5)
    page = np.full((256, 256, 3), 250, np.uint8)
    page[np.repeat(np.repeat(rng.random((64, 64)) < 0.4, 4, 0), 4, 1)] = 10
    for depth in Depth:
        image = (page / 255 * depth.peak).astype(depth.value)
        with edgerestore.load("deblur", precision="fp32", guard=True) as restorer:
            restorer.adjustments = edgerestore.Adjustments(brightness=1.0, contrast=0.5)
            restorer(image)
            assert not_none(restorer.guarded).fallen_back == 0


@pytest.mark.parametrize("tile", [136, 248, "auto"])
def test_drawn_pictures_of_any_depth_and_size_raise_no_alarm(picture, tile):
    rng = np.random.default_rng(0)
    with edgerestore.load("deblur", tile=tile, guard=True) as restorer:
        for seed, size in enumerate([(203, 301), (9, 130), (1, 1), (256, 256)]):
            image = picture(*size, seed=seed)
            strength = rng.uniform(0, 2, size)
            for depth in Depth:
                restorer((image / 255 * depth.peak).astype(depth.value), 2.0)
                restorer((image / 255 * depth.peak).astype(depth.value), strength)
        assert not_none(restorer.guarded).fallen_back == 0


def test_noise_that_a_denoiser_takes_away_raises_no_alarm():
    """Dark noise is cut off at black, so its mean falls when it is gone."""
    rng = np.random.default_rng(0)
    with edgerestore.load("deblur", precision="fp32", guard=True) as opened:
        guard = Guard(opened.bundle.manifest)
    noisy = np.clip(rng.normal(0, 50, (256, 256, 3)), 0, 255).astype(np.uint8)
    guard.validate(np.zeros_like(noisy), noisy, 1, None, 1.0)
    assert guard.counts == GuardCounts(tiles=1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_told_by_name(mask_bundle, value):
    """No runtime here lets them through; another might."""
    image = np.full((40, 40, 3), 0.5, np.float32)
    with edgerestore.load("deblur", precision="fp32") as opened:
        guard = Guard(opened.bundle.manifest)
    outcome = image.copy()
    outcome[7, 7, 1] = value
    guard.validate(outcome, image, 1, None, 1.0)
    np.testing.assert_array_equal(outcome, image)
    with edgerestore.load(mask_bundle, precision="fp32") as opened:
        guard = Guard(opened.bundle.manifest)
    mask = np.full((40, 40, 1), value, np.float32)
    guard.validate(mask, image, 1, None, 1.0)
    assert (mask == 1).all()  # nothing is cut out
    assert guard.counts.as_dict()[Cause.NOT_FINITE] == 1


def test_masks_are_no_picture_of_their_input(mask_bundle, picture):
    with Cutout(edgerestore.load(mask_bundle, precision="fp32", guard=True)) as restorer:
        restorer(picture(100, 100))
        assert restorer.guarded == GuardCounts(tiles=1)
