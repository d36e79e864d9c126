"""The flaws that clean pictures are given."""

from __future__ import annotations

import numpy as np
import pytest

from edgerestore.errors import ArgumentError
from edgerestore.imaging.flaws import Flaw


def noise(height=48, width=60, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def chance():
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("text", "upscale", "flaw"),
    [
        ("none", 1, Flaw("none")),
        ("none", 4, Flaw("none", upscale=4)),
        ("blur", 1, Flaw("blur")),
        ("noise", 1, Flaw("noise", 25)),
        ("noise:7.5", 1, Flaw("noise", 7.5)),
        (" Noise:15 ", 1, Flaw("noise", 15)),
        ("downscale", 3, Flaw("downscale", upscale=3)),
    ],
)
def test_spellings(text, upscale, flaw):
    assert Flaw.parse(text, upscale=upscale) == flaw


@pytest.mark.parametrize(
    ("text", "upscale", "said"),
    [
        ("fog", 1, "none, blur, noise, downscale"),
        ("", 1, "none, blur, noise, downscale"),
        ("blur:3", 1, "only noise takes an amount"),
        ("noise:", 1, "above 0"),
        ("noise:loud", 1, "above 0"),
        ("noise:0", 1, "above 0"),
        ("noise:-5", 1, "above 0"),
        ("noise:inf", 1, "above 0"),
        ("noise:nan", 1, "above 0"),
        ("downscale", 1, "models that enlarge"),
        ("blur", 2, "keeps the size"),
        ("noise:5", 2, "keeps the size"),
        ("none", 0, "not 0"),
    ],
)
def test_what_is_no_flaw_is_refused_in_one_line(text, upscale, said):
    with pytest.raises(ArgumentError, match=said) as caught:
        Flaw.parse(text, upscale=upscale)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "upscale", "kind"),
    [
        ("deblur", 1, "blur"),
        ("Denoise", 1, "noise"),
        ("super-resolution", 4, "downscale"),
        ("denoise", 2, "downscale"),
        ("retouch", 1, "none"),
    ],
)
def test_the_task_tells_the_flaw(task, upscale, kind):
    flaw = Flaw.for_task(task, upscale)
    assert flaw.kind == kind
    assert flaw.upscale == (upscale if kind == "downscale" else 1)


def test_none_is_a_copy_at_full_depth():
    clean = noise()
    same = Flaw("none").apply(clean, chance())
    np.testing.assert_array_equal(same, clean)
    assert not np.shares_memory(same, clean)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flaw", [Flaw("blur"), Flaw("noise", 25), Flaw("downscale", upscale=3)])
def test_what_comes_out_is_what_a_file_holds(flaw, channels):
    clean = noise(channels=channels)
    spoilt = flaw.apply(clean, chance())
    assert spoilt.shape == (48 // flaw.upscale, 60 // flaw.upscale, channels)
    assert spoilt.dtype == np.float32
    assert spoilt.min() >= 0
    assert spoilt.max() <= 1
    levels = spoilt.astype(np.float64) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    np.testing.assert_array_equal(spoilt, flaw.apply(clean, chance()))
    assert len(np.unique(levels.round())) > 50


@pytest.mark.parametrize("sigma", [5.0, 25.0])
def test_noise_has_the_sigma_asked_for(sigma):
    grey = np.full((200, 200, 1), 0.5, np.float32)
    grain = (Flaw("noise", sigma).apply(grey, chance()) - grey) * 255
    assert grain.std() == pytest.approx(sigma, rel=0.02)
    assert abs(grain.mean()) < 0.5


def test_seeds_give_other_blurs():
    clean = noise()
    first, second = (Flaw("blur").apply(clean, np.random.default_rng(i)) for i in (1, 2))
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
    small = Flaw("downscale", upscale=factor).apply(clean, chance())[..., 0]
    ours = imresize(imresize(clean[..., 0], factor).T, factor).T
    inner = slice(3, -3)
    # Half a level is the rounding to 8 bits; bilinear is off by 6 and more, no antialiasing by 60.
    assert np.abs(small - ours)[inner, inner].max() * 255 < 0.51


def test_downscaling_cuts_to_a_multiple_first():
    clean = noise(50, 63)
    flaw = Flaw("downscale", upscale=4)
    small = flaw.apply(clean, chance())
    assert small.shape == (12, 15, 3)
    np.testing.assert_array_equal(small, flaw.apply(clean[:48, :60], chance()))
