"""Intensities: frames that use a part of their dtype are restored, and no value is invented."""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import edgerestore
from edgerestore.engine.intensity import IntensityMapping, IntensityRange
from edgerestore.engine.predictors.protocol import Settings
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import check_image

DTYPES = ["u1", "<u2", ">u2", "<f4", ">f4"]


@pytest.fixture(scope="module")
def denoise():
    with edgerestore.load("denoise-gray", precision="fp32") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _as_loaded(request):
    yield
    if "denoise" in request.fixturenames:
        restorer = request.getfixturevalue("denoise")
        restorer.intensity_range, restorer.strength = "auto", 1.0


def scene(height=96, width=120, low=250.0, high=950.0):
    """A smooth picture with an edge, its values from low to high."""
    y, x = np.mgrid[0:height, 0:width]
    wave = np.sin(x / 17) * np.cos(y / 13) * 0.8 + 0.2 * np.sign(x - width / 2)
    return low + (high - low) * (wave + 1) / 2


def camera(sigma=30.0, **shape):
    """A noisy frame of a camera of 12 bits in 16, and what it was without noise."""
    clean = scene(**shape)
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    return np.clip(np.rint(noisy), 0, 4095).astype(np.uint16), clean


def rms(image, clean):
    return float(np.sqrt(np.mean((image.astype(np.float64) - clean) ** 2)))


@st.composite
def any_image(draw, side=24):
    """An image of any dtype and byte order, whose values may lie anywhere."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    channels = draw(st.sampled_from([0, 1, 3, 4]))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = (side, side + 8, *([channels] if channels else []))
    if dtype.kind == "f":
        values = rng.normal(draw(st.floats(-1e6, 1e6)), draw(st.floats(1e-3, 1e6)), shape)
        values.flat[:6] = -0.0, 0.0, 1e-42, -3e30, 3e30, 1.0
    else:
        peak = np.iinfo(dtype).max
        bits = draw(st.integers(1, 8 * dtype.itemsize))
        values = rng.integers(0, 2**bits, shape).astype(np.float64)
        values.flat[:2] = 0, peak
    return values.astype(dtype)


@st.composite
def any_range(draw):
    kind = draw(st.sampled_from(["auto", "values", "percentiles"]))
    if kind == "auto":
        return "auto"
    if kind == "values":
        low = draw(st.floats(-1000, 60000, width=32))
        return low, low + draw(st.floats(1, 60000, width=32))
    low = draw(st.floats(0, 40))
    return f"p{low:.3f}:p{draw(st.floats(60, 100)):.3f}"


@settings(max_examples=60)
@given(image=any_image(), wanted=any_range())
def test_what_the_network_leaves_comes_back_bit_for_bit(image, wanted):
    plain = image.astype(image.dtype.newbyteorder("="))
    mapping = IntensityRange.parse(wanted).mapping(plain)
    if mapping is None:
        return
    levels = mapping.levels(plain)
    assert 0 <= levels.min() <= levels.max() <= 1
    assert mapping.values(levels, plain).tobytes() == plain.tobytes()


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(image=any_image(), wanted=any_range(), by_map=st.booleans())
@example(
    image=np.linspace(-3, 3, 768, dtype=np.float32).reshape(24, 32), wanted=(0, 1), by_map=False
)
def test_strength_zero_is_the_identity(denoise, image, wanted, by_map):
    denoise.intensity_range = wanted
    zero = np.zeros(image.shape[:2], np.float32) if by_map else 0.0
    outcome = denoise(image, zero)
    assert outcome.dtype == image.dtype
    assert outcome.tobytes() == image.tobytes()


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    dtype=st.sampled_from(DTYPES[1:]),
    wanted=any_range() | st.just((300.0, 900.0)),
    strength=st.floats(0.1, 2),
    seed=st.integers(0, 9),
)
def test_tiled_equals_whole(tiled_and_whole, dtype, wanted, strength, seed):
    frame, _ = camera(height=171, width=203)
    image = np.roll(frame, seed, (0, 1)).astype(dtype)
    outcomes = []
    for restorer in tiled_and_whole:
        restorer.intensity_range = wanted
        outcomes.append(restorer(image, strength))
    assert outcomes[0].tobytes() == outcomes[1].tobytes()
    assert outcomes[0].dtype == image.dtype


@pytest.fixture(scope="module")
def tiled_and_whole():
    with (
        edgerestore.load("denoise-gray", precision="fp32", tile=144) as tiled,
        edgerestore.load("denoise-gray", precision="fp32", tile=4096) as whole,
    ):
        yield tiled, whole


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4"])
def test_a_camera_of_twelve_bits_is_restored_and_keeps_its_values(denoise, dtype):
    frame, clean = camera()
    outcome = denoise(frame.astype(dtype))
    assert rms(outcome, clean) < 0.4 * rms(frame, clean)
    assert abs(float(outcome.mean()) - float(frame.mean())) < 2
    assert denoise.intensity.range == "auto"
    assert denoise.intensity.low == frame.min()
    assert denoise.intensity.high == frame.max()


def test_what_lies_outside_passes_through_and_is_counted(denoise):
    frame, _ = camera()
    frame[3, 4] = 65535
    assert denoise(frame)[3, 4] == 65535
    assert denoise.intensity.outside == 1
    denoise.intensity_range = "300:800"
    outside = (frame < 300) | (frame > 800)
    outcome = denoise(frame)
    np.testing.assert_array_equal(outcome[outside], frame[outside])
    assert 300 <= outcome[~outside].min() <= outcome[~outside].max() <= 800
    assert denoise.intensity.outside == np.count_nonzero(outside)


@pytest.mark.parametrize("wanted", ["auto", "full"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_picture_of_the_full_range_is_seen_as_it_is(denoise, picture, dtype, wanted):
    image = picture(40, 48, 1)[..., 0].astype(np.float32) / 255
    if dtype != np.float32:
        image = np.rint(image * np.iinfo(dtype).max).astype(dtype)
    kind = check_image(image)
    pending = denoise.predictor.submit(image, kind, Settings(depth=kind.depth))
    denoise.intensity_range = wanted
    np.testing.assert_array_equal(denoise(image), pending.result())
    assert denoise.intensity.mapped == 0


def test_dark_bytes_are_seen_as_they_are_unless_a_range_is_stated(denoise):
    image = (scene(low=10, high=30)).astype(np.uint8)
    assert denoise(image).dtype == np.uint8
    assert denoise.intensity.mapped == 0
    denoise.intensity_range = (10, 30)
    assert denoise(image).dtype == np.uint8
    assert (denoise.intensity.low, denoise.intensity.high) == (10, 30)


def test_floats_of_any_range_are_restored(denoise):
    frame, clean = camera()
    for scale, offset in ((1.0, 0.0), (1e-4, -2.0), (50.0, 1e4)):
        image = frame.astype(np.float32) * np.float32(scale) + np.float32(offset)
        outcome = denoise(image)
        assert rms((outcome - offset) / scale, clean) < 0.4 * rms(frame, clean)
    denoise.intensity_range = "full"
    with pytest.raises(ArgumentError, match="scale it to 0 to 1"):
        denoise(image)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_refused_with_their_place(denoise, bad):
    image = np.full((8, 9), 5.0, np.float32)
    image[2, 7] = bad
    with pytest.raises(ArgumentError, match=rf"1 value, .*\({bad:g}\) at row 2, column 7"):
        denoise(image)


def test_a_stream_keeps_the_range_of_its_first_frame(denoise, caplog):
    frame, _ = camera(height=64, width=80)
    brighter = frame * 3
    with caplog.at_level(logging.INFO, "edgerestore"):
        outcomes = list(denoise.stream([frame, brighter, frame]))
    window = (denoise.intensity.low, denoise.intensity.high)
    assert window == (frame.min(), frame.max())
    np.testing.assert_array_equal(outcomes[0], outcomes[2])
    outside = brighter > frame.max()
    np.testing.assert_array_equal(outcomes[1][outside], brighter[outside])
    assert [line for line in caplog.messages if "seen as black to white" in line] == [
        f"intensities {window[0]}:{window[1]} are seen as black to white (auto)"
    ]
    assert any("pass through" in line and "wider range" in line for line in caplog.messages)
    list(denoise.stream([brighter]))  # another stream looks anew
    assert denoise.intensity.high == brighter.max()


def test_a_black_first_frame_decides_nothing(denoise):
    frame, _ = camera(height=64, width=80)
    denoise.steady = True
    try:
        denoise(np.zeros_like(frame))
        denoise(frame)
        assert denoise.intensity.high == frame.max()
    finally:
        denoise.steady = False


def test_alpha_goes_around(denoise):
    frame, _ = camera(height=64, width=80)
    alpha = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80) * 13
    outcome = denoise(np.dstack([frame, frame, frame, alpha]))
    np.testing.assert_array_equal(outcome[..., 3], alpha)
    np.testing.assert_array_equal(outcome[..., 0], denoise(frame))


def test_tones_are_those_of_what_is_seen(denoise):
    frame, _ = camera(sigma=1)
    try:
        denoise.adjustments = edgerestore.Adjustments(brightness=0.5)
        brighter = denoise(frame)
    finally:
        denoise.adjustments = edgerestore.Adjustments()
    assert brighter.mean() > frame.mean() + 50
    assert brighter.max() <= frame.max()


def test_what_is_enlarged_keeps_what_lies_outside():
    mapping = IntensityMapping(100, 200)
    image = np.array([[50, 150], [200, 4000]], np.uint16)
    levels = mapping.levels(image).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(
        mapping.values(levels, image, upscale=2), image.repeat(2, 0).repeat(2, 1)
    )


@pytest.mark.parametrize("upscale", [1, 2])
def test_a_part_maps_as_the_whole_does(upscale):
    rng = np.random.default_rng(1)
    mapping, image = IntensityMapping(300, 800), rng.integers(0, 1200, (600, 40), np.uint16)
    restored = rng.random((600 * upscale, 40 * upscale), np.float32)
    strength = rng.integers(0, 2, restored.shape).astype(np.float32)
    whole = mapping.values(restored, image, strength, upscale)
    cut, large = slice(100, 471), slice(100 * upscale, 471 * upscale)
    part = mapping.values(restored[large], image[cut], strength[large], upscale)
    np.testing.assert_array_equal(whole[large], part)
    np.testing.assert_array_equal(mapping.levels(image)[cut], mapping.levels(image[cut]))


def test_colours_of_a_stream_keep_their_range(denoise):
    frame, _ = camera(height=64, width=80)
    colours = np.dstack([frame] * 3)
    list(denoise.stream([colours]))
    assert denoise.intensity.mapped == 0
    denoise(colours)
    assert denoise.intensity.mapped == 1


def test_masks_have_no_range(mask_bundle):
    with pytest.raises(ArgumentError, match="makes masks; a range of intensities"):
        edgerestore.load(mask_bundle, precision="fp32", intensity_range=(200, 1000))
    frame, _ = camera(height=64, width=80)
    with edgerestore.load(mask_bundle, precision="fp32") as masks:
        masks(np.dstack([frame] * 3))
        assert masks.intensity.mapped == 0
        with pytest.raises(ArgumentError, match="makes masks"):
            masks.intensity_range = "p1:p99"


def test_a_warm_up_counts_nothing(denoise):
    frame, _ = camera(height=64, width=80)
    denoise(frame)
    before = denoise.intensity
    denoise.warm_up(check_image(frame))
    assert denoise.intensity == before
    assert denoise.latest == check_image(frame)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("255", "auto, full, LOW:HIGH"),
        ("automatic", "auto, full, LOW:HIGH"),
        ("p1:99", "auto, full, LOW:HIGH"),
        ("900:200", "lower value first"),
        ("5:5", "lower value first"),
        ("p99:p1", "from 0 to 100"),
        ("p0:p101", "from 0 to 100"),
        ((1, 2, 3), "auto, full, LOW:HIGH"),
        ((float("nan"), 3), "lower value first"),
        (None, "auto, full, LOW:HIGH"),
    ],
)
def test_a_range_that_is_none_is_refused(given, said):
    with pytest.raises(ArgumentError, match=said):
        edgerestore.load("denoise-gray", intensity_range=given)
