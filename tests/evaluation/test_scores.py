"""The measures against their definitions and against another implementation."""

import math

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edgerestore.bundle.kinds import OutputKind
from edgerestore.evaluation.results import ImageScore, Row, WorstCrops
from edgerestore.evaluation.scores import SCORING, Metric, as_fractions, measured, studio_luma
from edgerestore.imaging.bicubic import resized
from edgerestore.imaging.degradations import Degradation

IMAGE, MASK = OutputKind.IMAGE, OutputKind.MASK
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.fixture(scope="module")
def two(picture):
    clean = picture(60, 71)
    rng = np.random.default_rng(3)
    return np.clip(clean + rng.normal(0, 9, clean.shape), 0, 255).astype(np.uint8), clean


@pytest.mark.parametrize("border", [0, 4])
def test_all_measures_agree_with_scikit_image(two, border):
    made, clean = two
    found = measured(IMAGE, as_fractions(made), as_fractions(clean), border)
    cut = (slice(border, 60 - border), slice(border, 71 - border))
    made, clean = made[cut], clean[cut]
    assert found["psnr_db"] == pytest.approx(peak_signal_noise_ratio(clean, made), abs=1e-9)
    by_channel = [
        # Its mean leaves out the 5 pixels where the window does not fit.
        structural_similarity(made[..., c], clean[..., c], data_range=255, **SSIM)
        for c in range(3)
    ]
    assert found["ssim"] == pytest.approx(np.mean(by_channel), abs=1e-7)
    made_y, clean_y = (rgb2ycbcr(picture)[..., 0] for picture in (made, clean))
    expected = peak_signal_noise_ratio(clean_y, made_y, data_range=255)
    assert found["psnr_y_db"] == pytest.approx(expected, abs=1e-6)
    expected = structural_similarity(made_y, clean_y, data_range=255, **SSIM)
    assert found["ssim_y"] == pytest.approx(expected, abs=1e-7)


def test_ssim_is_its_definition_at_one_window():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 11, 11, 1))
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(line, line)[..., None] / np.outer(line, line).sum()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    shared = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    assert measured(IMAGE, a, b, 0)["ssim"] == pytest.approx(expected, abs=1e-12)


def test_luma_of_known_colours():
    colours = np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]], np.float64)
    expected = np.array([[16, 235, 81.481, 144.553, 40.966]]) / 255
    np.testing.assert_allclose(studio_luma(colours), expected, atol=1e-12)
    np.testing.assert_allclose(studio_luma(np.array([[[1.0]]])), [[235 / 255]])


@pytest.mark.parametrize(
    ("dtype", "step", "peak"), [("uint8", 1, 255), ("uint16", 257, 65535), ("float32", 0.01, 1)]
)
def test_known_values_in_every_depth(dtype, step, peak):
    target = np.full((16, 16, 3), 10 * step, dtype)
    made = target + np.asarray(step, dtype)
    found = measured(IMAGE, as_fractions(made), as_fractions(target), 0)
    assert found["psnr_db"] == pytest.approx(20 * math.log10(peak / step), abs=1e-4)
    # Grey moves luma by 219 of 255.
    expected = found["psnr_db"] + 20 * math.log10(255 / 219)
    assert found["psnr_y_db"] == pytest.approx(expected, abs=1e-4)


def test_equal_pictures_are_equal_across_depths_and_channels(picture):
    bytes_ = picture(20, 20, 1)[..., 0]
    words = np.repeat(bytes_[..., None].astype(np.uint16) * 257, 3, axis=2)
    found = measured(IMAGE, as_fractions(bytes_), as_fractions(words), 0)
    assert found["psnr_db"] == found["psnr_y_db"] == math.inf
    assert found["ssim"] == pytest.approx(1)


def test_masks_by_hand():
    target = np.zeros((4, 4, 1))
    target[:, :2] = 1
    made = np.zeros((4, 4, 1))
    made[:, 1:3] = 0.5
    made[0, 3] = 0.49
    found = measured(MASK, made, target, 0)
    assert found["iou"] == pytest.approx(4 / 12)
    assert found["mae"] == pytest.approx((4 * 1 + 4 * 0.5 + 4 * 0.5 + 0.49) / 16)
    assert measured(MASK, target, target, 1) == {"mae": 0, "iou": 1}
    empty = np.zeros((3, 3, 1))
    assert measured(MASK, empty, empty, 0)["iou"] == 1


def _score(name: str, **values: float) -> ImageScore:
    return ImageScore(name, 8, 8, values, 2.0, 0.5)


def test_means_are_over_the_finite():
    row = Row("m", images=[_score("a", p=30.0), _score("b", p=math.inf), _score("c", p=40.0)])
    assert row.mean("p") == 35
    assert row.equal == 1
    assert row.milliseconds == 2
    assert row.megapixels_per_second == 250
    assert Row("m", images=[_score("a", p=math.inf)]).mean("p") == math.inf
    assert SCORING[IMAGE].metrics[0].shown(math.inf) == "equal"
    assert SCORING[IMAGE].metrics[0].named(30) == "PSNR 30.00 dB"


@pytest.mark.parametrize("size", [(60, 72), (61, 47), (5, 3)])
def test_resizing_agrees_with_pytorch(picture, size):
    torch = pytest.importorskip("torch")
    image = picture(49, 63).astype(np.float32) / 255
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    expected = torch.nn.functional.interpolate(planes, size=size, mode="bicubic", antialias=True)
    np.testing.assert_allclose(
        resized(image, *size), expected[0].numpy().transpose(1, 2, 0), atol=2e-6
    )


def test_a_reduction_is_that_of_the_degradation(picture):
    pytest.importorskip("torch")
    image = picture(49, 63).astype(np.float32) / 255
    expected = Degradation("downscale", upscale=3).apply(image, np.random.default_rng())
    found = np.clip(resized(image[:48], 16, 21), 0, 1)
    # The degradation rounds to 8 bits, and a tie may fall to either side.
    np.testing.assert_allclose(found, expected, atol=0.51 / 255)


def test_the_worst_are_kept_in_order_and_cut_where_they_are_worst():
    worst = WorstCrops(Metric("p", "P", "", 1, ""), border_px=2)
    rng = np.random.default_rng(0)
    for value in (5.0, 3.0, math.inf, 4.0, 1.0, 3.0):
        target = rng.random((200, 300, 3))
        made = target.copy()
        made[150:160, 250:260] += value if value < 9 else 0
        made[:2] += 100  # within the border, which is not looked at
        worst.offer(_score(f"{value}", p=value), target, made, target)
    crops = worst.crops()
    assert [crop.score.name for crop in crops] == ["1.0", "3.0", "3.0"]
    for crop in crops:
        assert crop.made.shape == crop.given.shape == crop.target.shape == (1, 3, 160, 160)
        assert crop.y <= 150 <= 160 <= crop.y + 160
        assert crop.x <= 250 <= 260 <= crop.x + 160
        assert np.abs(crop.made - crop.target).max() == pytest.approx(crop.score.values["p"])
