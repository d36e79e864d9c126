"""PSNR and SSIM agree with the reference implementation; luma and rounding up to a multiple."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import luma, round_up
from edgerestore.imaging.metrics import psnr, ssim


def test_psnr_is_its_definition():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, np.full_like(black, 255)) == pytest.approx(0)
    one_off = black.copy()
    one_off[...] = 1
    assert psnr(black, one_off) == pytest.approx(20 * np.log10(255))
    as_float = np.zeros((4, 4), np.float32)
    assert psnr(as_float, as_float + np.float32(0.1)) == pytest.approx(20, abs=1e-4)


def test_ssim_agrees_with_scikit_image(picture):
    rng = np.random.default_rng(0)
    image = picture(80, 100)
    noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    expected = structural_similarity(
        image,
        noisy,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(image, noisy) == pytest.approx(expected, abs=2e-3)
    assert ssim(image, image) == pytest.approx(1)


def test_pictures_that_cannot_be_compared_are_refused(picture):
    image = picture(20, 20)
    with pytest.raises(ArgumentError, match="differ"):
        psnr(image, image[:10])
    with pytest.raises(ArgumentError, match="differ"):
        psnr(image, image.astype(np.uint16))
    with pytest.raises(ArgumentError, match="11x11"):
        ssim(image[:10], image[:10])


def test_rounding_up_to_a_multiple():
    pairs = [(0, 8), (1, 8), (8, 8), (9, 8), (17, 1), (63, 64)]
    assert [round_up(*pair) for pair in pairs] == [0, 8, 8, 16, 17, 64]


def test_luma_of_primaries_and_white():
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]], np.float32)
    made = luma(colours)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[0.299, 0.587, 0.114, 1, 0]], atol=1e-7)
