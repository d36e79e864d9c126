"""PSNR and SSIM agree with the reference implementation, and degradations with their seed."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from edgerestore.errors import ArgumentError
from edgerestore.imaging.degradations import (
    PROTOCOL,
    TRAINING,
    Blur,
    defocus_kernel,
    degrade,
    gaussian_kernel,
    motion_kernel,
)
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


def test_kernels_sum_to_one_are_centred_and_as_wide_as_asked():
    rng = np.random.default_rng(3)
    kernels = [motion_kernel(rng, length) for length in (2, 5, 10)]
    kernels += [defocus_kernel(r) for r in (0.6, 1.7, 2.8)]
    kernels += [gaussian_kernel(s) for s in (0.4, 2.0)]
    for kernel in kernels:
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]] - kernel.shape[0] // 2
        assert abs((kernel * y).sum()) < 0.02
        assert abs((kernel * x).sum()) < 0.02
    disk = defocus_kernel(2.8)
    assert (disk > 0).sum() == pytest.approx(np.pi * 2.8**2, rel=0.6)
    y = np.arange(gaussian_kernel(2.0).shape[0]) - gaussian_kernel(2.0).shape[0] // 2
    assert (gaussian_kernel(2.0).sum(1) * y**2).sum() == pytest.approx(4.0, rel=0.02)


def test_a_seed_names_a_degraded_picture(picture):
    clean = picture(64, 64).astype(np.float32) / 255
    first = degrade(clean, TRAINING, np.random.default_rng(7))
    again = degrade(clean, TRAINING, np.random.default_rng(7))
    other = degrade(clean, TRAINING, np.random.default_rng(8))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_the_kinds_of_blur_come_in_their_shares(picture):
    clean = picture(16, 16).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    kinds = [degrade(clean, PROTOCOL, rng)[1] for _ in range(600)]
    assert kinds.count(Blur.MOTION) / 600 == pytest.approx(0.45, abs=0.06)
    assert kinds.count(Blur.DEFOCUS) / 600 == pytest.approx(0.35, abs=0.06)
