"""Degradations: spellings, the registry, what they do to pictures, and that seeds repeat."""

from __future__ import annotations

import hashlib
from importlib.metadata import EntryPoint

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.errors import ArgumentError
from edgerestore.imaging.degradations import (
    PROTOCOL,
    Amount,
    Blur,
    Degradation,
    DegradationKind,
    DegradationModel,
    Scaling,
    ScalingMix,
    SensorNoise,
    ToneFaults,
    box_kernel,
    defocus_kernel,
    degrade,
    downscaled,
    gaussian_kernel,
    h264,
    motion_kernel,
    poisson_gaussian,
)


def noise(height=48, width=60, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def chance():
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("text", "upscale", "degradation"),
    [
        ("none", 1, Degradation("none")),
        ("none", 4, Degradation("none", upscale=4)),
        ("blur", 1, Degradation("blur")),
        ("noise", 1, Degradation("noise", 25)),
        ("noise:7.5", 1, Degradation("noise", 7.5)),
        (" Noise:15 ", 1, Degradation("noise", 15)),
        ("downscale", 3, Degradation("downscale", upscale=3)),
        ("nearest", 2, Degradation("nearest", upscale=2)),
        ("jpeg", 1, Degradation("jpeg", 20)),
        ("jpeg:100", 1, Degradation("jpeg", 100)),
        ("shake:45", 1, Degradation("shake", 45)),
        ("exposure", 1, Degradation("exposure")),
    ],
)
def test_spellings(text, upscale, degradation):
    assert Degradation.parse(text, upscale=upscale) == degradation
    assert Degradation.parse(str(degradation), upscale=upscale) == degradation


@pytest.mark.parametrize(
    ("text", "upscale", "said"),
    [
        ("fog", 1, "none, noise, blur, downscale"),
        ("", 1, "none, noise, blur, downscale"),
        ("blur:3", 1, "takes no amount; noise:25 does"),
        ("noise:", 1, "above 0"),
        ("noise:loud", 1, "above 0"),
        ("noise:0", 1, "above 0"),
        ("noise:-5", 1, "above 0"),
        ("noise:inf", 1, "above 0"),
        ("noise:nan", 1, "above 0"),
        ("downscale", 1, "model that keeps the size; use none, noise, blur"),
        ("blur", 2, "enlarges 2 times; use none, downscale"),
        ("noise:5", 2, "enlarges 2 times; use none, downscale"),
        ("none", 0, "not 0"),
        ("jpeg:101", 1, "the quality is a number above 0 and below 101, up to 100; try jpeg:20"),
        ("aliased", 1, "model that keeps the size"),
    ],
)
def test_what_is_no_degradation_is_refused_in_one_line(text, upscale, said):
    with pytest.raises(ArgumentError, match=said) as caught:
        Degradation.parse(text, upscale=upscale)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "upscale", "kind"),
    [
        ("deblur", 1, "blur"),
        ("Denoise", 1, "noise"),
        ("super-resolution", 4, "downscale"),
        ("denoise", 2, "downscale"),
        ("dejpeg", 1, "jpeg"),
        ("retouch", 1, "none"),
    ],
)
def test_the_task_tells_the_degradation(task, upscale, kind):
    degradation = Degradation.for_task(task, upscale)
    assert degradation.kind == kind
    assert degradation.upscale == (upscale if kind == "downscale" else 1)


def test_none_is_a_copy_at_full_depth():
    clean = noise()
    same = Degradation("none").apply(clean, chance())
    np.testing.assert_array_equal(same, clean)
    assert not np.shares_memory(same, clean)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "degradation",
    [
        *(Degradation(kind) for kind in ("blur", "noise", "jpeg", "poisson", "shake", "defocus")),
        *(Degradation("box", 3), Degradation("exposure")),
        *(Degradation(kind, upscale=3) for kind in ("downscale", "aliased", "nearest")),
    ],
    ids=str,
)
def test_what_comes_out_is_what_a_file_holds(degradation, channels):
    clean = noise(channels=channels)
    spoilt = degradation.apply(clean, chance())
    assert spoilt.shape == (48 // degradation.upscale, 60 // degradation.upscale, channels)
    assert spoilt.dtype == np.float32
    assert spoilt.min() >= 0
    assert spoilt.max() <= 1
    levels = spoilt.astype(np.float64) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    np.testing.assert_array_equal(spoilt, degradation.apply(clean, chance()))
    assert len(np.unique(levels.round())) > 50


@pytest.mark.parametrize("sigma", [5.0, 25.0])
def test_noise_has_the_sigma_asked_for(sigma):
    grey = np.full((200, 200, 1), 0.5, np.float32)
    grain = (Degradation("noise", sigma).apply(grey, chance()) - grey) * 255
    assert grain.std() == pytest.approx(sigma, rel=0.02)
    assert abs(grain.mean()) < 0.5


def test_seeds_give_other_blurs():
    clean = noise()
    first, second = (Degradation("blur").apply(clean, np.random.default_rng(i)) for i in (1, 2))
    assert np.abs(first - second).max() > 0.05


def imresize(line, factor):
    """MATLAB's imresize in one dimension, by its definition, away from the borders."""
    line = line.astype(np.float64)

    def keys(x):
        x = np.abs(x)
        near = 1.5 * x**3 - 2.5 * x**2 + 1
        far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x <= 1, near, np.where(x <= 2, far, 0))

    at = (np.arange(len(line) // factor)[:, None] + 0.5) * factor - 0.5
    weights = keys((at - np.arange(len(line))[None]) / factor)
    return weights / weights.sum(axis=1, keepdims=True) @ line


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downscaling_is_the_fields_standard(factor):
    clean = 0.2 + 0.6 * noise(60, 84, 1, seed=factor)
    small = Degradation("downscale", upscale=factor).apply(clean, chance())[..., 0]
    ours = imresize(imresize(clean[..., 0], factor).T, factor).T
    inner = slice(3, -3)
    # Half a level is the rounding to 8 bits; bilinear is off by 6 and more, no antialiasing by 60.
    assert np.abs(small - ours)[inner, inner].max() * 255 < 0.51


def test_downscaling_cuts_to_a_multiple_first():
    clean = noise(50, 63)
    degradation = Degradation("downscale", upscale=4)
    small = degradation.apply(clean, chance())
    assert small.shape == (12, 15, 3)
    np.testing.assert_array_equal(small, degradation.apply(clean[:48, :60], chance()))


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


@pytest.mark.parametrize(("side", "taps"), [(1, 1), (3, 3), (14, 15), (2.5, 3)])
def test_a_box_is_as_wide_as_asked(side, taps):
    kernel = box_kernel(side)
    assert kernel.shape == (taps, taps)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
    np.testing.assert_allclose(kernel[taps // 2, taps // 2], 1 / side**2, rtol=1e-5)


def test_photons_are_counted_in_linear_light():
    """The noise of light x is sqrt(x / photons), whatever the gamma of the file."""
    for level in (0.2, 0.5, 0.9):
        grey = np.full((300, 300, 1), level, np.float32)
        light = level**2.2
        counted = poisson_gaussian(grey, 400, 0, chance()) ** 2.2
        assert counted.mean() == pytest.approx(light, rel=0.01)
        assert counted.std() == pytest.approx(np.sqrt(light / 400), rel=0.03)
        counted = poisson_gaussian(grey, 400, 3, chance(), linear=True)
        assert counted.std() == pytest.approx(np.sqrt(level / 400 + (3 / 400) ** 2), rel=0.03)


def test_the_light_noise_of_a_camera_stays_light_and_varies():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    sigmas = [(SensorNoise().apply(grey, np.random.default_rng(i)) - grey).std() for i in range(60)]
    assert 0 < min(sigmas) < 1 / 255
    assert 2 / 255 < max(sigmas) < 8 / 255


def test_jpeg_loses_more_at_lower_quality_and_keeps_the_colours(picture):
    clean = cv2.GaussianBlur(picture(64, 80), (0, 0), 1.5).astype(np.float32) / 255
    losses = [
        np.abs(Degradation("jpeg", quality).apply(clean, chance()) - clean).mean()
        for quality in (95, 50, 10)
    ]
    assert losses[0] < losses[1] < losses[2]
    red = np.tile(np.array([1, 0, 0], np.float32), (32, 32, 1))
    assert np.abs(Degradation("jpeg", 20).apply(red, chance()) - red).max() < 0.03


@pytest.mark.parametrize("size", [(64, 80), (33, 47)])
def test_a_video_frame_loses_more_at_a_coarser_rate_and_keeps_its_size(size, picture):
    clean = cv2.GaussianBlur(picture(*size), (0, 0), 1.5).astype(np.uint8)
    coded = [h264(clean, crf) for crf in (8, 40)]
    losses = [np.abs(one.astype(int) - clean).mean() for one in coded]
    assert all(one.shape == clean.shape and one.dtype == np.uint8 for one in coded)
    assert losses[0] < losses[1] / 1.5
    np.testing.assert_array_equal(h264(clean, 40), coded[1])
    teal = np.tile(np.array([20, 120, 110], np.uint8), (*size, 1))
    assert np.abs(h264(teal, 20).astype(int) - teal).max() <= 3


def test_a_ramp_keeps_its_place_when_it_is_made_smaller():
    """Aliased kinds are centred: a model must not learn to shift."""
    ramp = np.tile(np.linspace(0, 1, 65, dtype=np.float32)[None, :64, None], (64, 1, 1))
    inner = slice(2, -2)
    for factor in (2, 4):
        centred = downscaled(ramp, factor)[inner, inner]
        aliased = downscaled(ramp, factor, Scaling.ALIASED)[inner, inner]
        nearest = downscaled(ramp, factor, Scaling.NEAREST)[inner, inner]
        np.testing.assert_allclose(aliased, centred, atol=1e-4)
        np.testing.assert_allclose((nearest - centred) * 64, 0.5, atol=0.01)


def test_only_antialiasing_takes_stripes_away_that_are_too_fine():
    stripes = np.tile((np.arange(60) % 3 == 2).astype(np.float32)[None, :, None], (60, 1, 1))
    spread = {kind: downscaled(stripes, 4, kind)[3:-3, 3:-3].std() for kind in Scaling}
    assert spread[Scaling.BICUBIC] < 0.05
    assert min(spread[Scaling.ALIASED], spread[Scaling.NEAREST]) > 0.3


def test_kinds_of_scaling_come_in_their_shares():
    rng = np.random.default_rng(0)
    kinds = [ScalingMix(0.3, 0.2).draw(rng) for _ in range(500)]
    assert kinds.count(Scaling.ALIASED) / 500 == pytest.approx(0.3, abs=0.06)
    assert kinds.count(Scaling.NEAREST) / 500 == pytest.approx(0.2, abs=0.06)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]))
def test_faults_of_tone_move_no_edge_and_depend_on_the_seed_alone(seed, channels):
    clean = noise(12, 14, channels, seed=1)
    spoilt = ToneFaults().apply(clean, np.random.default_rng(seed))
    np.testing.assert_array_equal(spoilt, ToneFaults().apply(clean, np.random.default_rng(seed)))
    assert spoilt.dtype == np.float32
    assert 0 <= spoilt.min() <= spoilt.max() <= 1
    for channel in range(channels):  # brighter stays brighter, or is clipped to the same
        order = np.argsort(clean[..., channel], axis=None)
        assert (np.diff(spoilt[..., channel].ravel()[order]) >= -1e-6).all()


def test_a_cast_changes_colours_and_exposure_does_not():
    grey = np.full((4, 4, 3), 0.4, np.float32)
    cast = ToneFaults(exposure_share=0, contrast_share=0, cast_share=1, gamma_share=0)
    dark = ToneFaults(exposure_share=1, contrast_share=0, cast_share=0, gamma_share=0)
    for seed in range(5):
        coloured, exposed = (t.apply(grey, np.random.default_rng(seed)) for t in (cast, dark))
        assert np.ptp(coloured[0, 0]) > 0.01
        assert np.ptp(exposed[0, 0]) < 1e-6
        assert abs(exposed.mean() - 0.4) > 0.005


def test_a_seed_names_a_degraded_picture(picture):
    clean = picture(64, 64).astype(np.float32) / 255
    model = DegradationModel(jpeg_share=0.5)
    first = degrade(clean, model, np.random.default_rng(7))
    again = degrade(clean, model, np.random.default_rng(7))
    other = degrade(clean, model, np.random.default_rng(8))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_the_kinds_of_blur_come_in_their_shares(picture):
    clean = picture(16, 16).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    kinds = [degrade(clean, PROTOCOL, rng)[1] for _ in range(600)]
    assert kinds.count(Blur.MOTION) / 600 == pytest.approx(0.45, abs=0.06)
    assert kinds.count(Blur.DEFOCUS) / 600 == pytest.approx(0.35, abs=0.06)


# sha256 over the degraded bytes of seeds 0 to 5: figures in docs/benchmarks.md rest on them.
# Few pixels, so that the last bit of another CPU's arithmetic does not reach a rounding.
PICTURES = (
    (Blur.DEFOCUS, "66d039d92b089497"),
    (Blur.DEFOCUS, "ff5e5af2e961b5f0"),
    (Blur.MOTION, "1c1e5f0f200c5536"),
    (Blur.MOTION, "b0f6b044985e1486"),
    (Blur.GAUSSIAN, "0133b426b5c0b45a"),
    (Blur.GAUSSIAN, "17160608cafc7cf0"),
)


def test_the_protocol_gives_the_pictures_that_it_always_gave():
    y, x = np.mgrid[0:97, 0:113].astype(np.float32) / 113
    clean = np.stack([x, y, np.abs(np.sin(40 * x * y))], -1).astype(np.float32)[::6, ::7]
    clean = np.ascontiguousarray(clean[:16, :16])
    made = [degrade(clean, PROTOCOL, np.random.default_rng(seed)) for seed in range(6)]
    digests = [(blur, hashlib.sha256(image.tobytes()).hexdigest()[:16]) for image, blur in made]
    assert tuple(digests) == PICTURES


POSTERIZE = DegradationKind(
    "posterize",
    "{amount} levels a channel",
    lambda clean, levels, _: np.rint(clean * (levels - 1)) / (levels - 1),
    Amount("number of levels", "whole", 4, low=1, high=256),
    task="banding",
)


@pytest.fixture
def plugins(monkeypatch):
    """Install entry points, for a test."""

    def install(name, value):
        point = EntryPoint(name, value, "edgerestore.degradations")
        monkeypatch.setattr("edgerestore.extensions.entry_points", lambda group: [point])

    return install


def test_a_package_adds_a_degradation_by_one_row(plugins):
    plugins("posterize", f"{__name__}:POSTERIZE")
    added = Degradation.parse("posterize", upscale=1)
    assert str(added) == "posterize:4"
    assert added.describe() == "4 levels a channel"
    assert len(np.unique(added.apply(noise(), chance()))) == 4
    assert Degradation.for_task("remove banding", 1) == added
    with pytest.raises(ArgumentError, match="above 1 and below 256, whole; try posterize:4"):
        Degradation.parse("posterize:1", upscale=1)
    with pytest.raises(
        ArgumentError, match="use one of none, noise, blur, downscale, .*, posterize"
    ):
        Degradation("fog")


def test_an_entry_point_that_cannot_be_loaded_is_named(plugins):
    plugins("fog", "not.there:FOG")
    with pytest.raises(ArgumentError, match="degradations fog: not.there:FOG cannot be loaded"):
        Degradation("fog")
    assert Degradation("noise").amount == 25
