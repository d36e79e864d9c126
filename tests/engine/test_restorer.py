"""The Python API as a user meets it."""

import re
import threading

import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError, BundleError, DeviceError, InferenceError


@pytest.fixture(scope="module")
def restorer():
    with edgerestore.load("deblur", precision="fp32") as opened:
        yield opened


def test_it_sharpens(restorer, picture):
    import cv2

    sharp = picture(96, 128)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.2)
    outcome = restorer(blurred)

    def detail(image):
        return np.abs(cv2.Laplacian(image, cv2.CV_32F)).mean()

    assert detail(outcome) > 1.1 * detail(blurred)


def test_strength_moves_from_the_input_through_the_model_and_beyond(restorer, picture):
    image = picture(64, 64).astype(np.float32) / 255 * 0.5 + 0.25
    half, full, double = (restorer(image, strength=s) - image for s in (0.5, 1.0, 2.0))
    unclamped = np.abs(full) < 0.1
    np.testing.assert_allclose(half[unclamped], full[unclamped] / 2, atol=1e-6)
    np.testing.assert_allclose(double[unclamped], full[unclamped] * 2, atol=1e-6)


def test_a_map_is_the_numbers_it_holds(restorer, picture):
    image = picture(40, 60)
    strength = np.zeros((40, 60))
    strength[:, 30:] = 1.5
    outcome = restorer(image, strength=strength)
    np.testing.assert_array_equal(outcome[:, :30], image[:, :30])
    np.testing.assert_array_equal(outcome[:, 30:], restorer(image, strength=1.5)[:, 30:])


def test_turning_the_strength_takes_effect_at_the_next_image(restorer, picture):
    image = picture(48, 48)
    try:
        restorer.strength = 0.0
        before = restorer.submit(image)
        restorer.strength = 1.0
        after = restorer.submit(image)
        np.testing.assert_array_equal(before.result(), image)
        np.testing.assert_array_equal(after.result(), restorer(image, strength=1.0))
        assert not np.array_equal(after.result(), image)
    finally:
        restorer.strength = 1.0


@pytest.mark.parametrize("bad", [-1, 3, 2.01, float("nan"), float("inf"), "much", None, [1]])
def test_a_strength_that_is_none_is_refused(restorer, picture, bad):
    if bad is not None:
        with pytest.raises(ArgumentError, match="from 0 to 2"):
            restorer(picture(16, 16), strength=bad)
    with pytest.raises(ArgumentError, match="from 0 to 2"):
        restorer.strength = bad
    assert restorer.strength == 1.0


@pytest.mark.parametrize("bad", [np.full((16, 16), 2.5), np.full((16, 16), np.nan)])
def test_a_map_with_values_out_of_range_is_refused(restorer, picture, bad):
    with pytest.raises(ArgumentError, match="numbers from 0 to 2"):
        restorer(picture(16, 16), strength=bad)


@pytest.mark.parametrize("shape", [(16, 17), (1, 16), (16, 16, 1), (16,)])
def test_a_map_of_another_shape_is_refused(restorer, picture, shape):
    with pytest.raises(ArgumentError, match=r"\(16, 16\)"):
        restorer(picture(16, 16), strength=np.ones(shape))


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_rank_channels_and_dtype_come_back(restorer, shape, dtype):
    rng = np.random.default_rng(0)
    image = rng.random(shape).astype(np.float32)
    if dtype != np.float32:
        image = (image * np.iinfo(dtype).max).astype(dtype)
    outcome = restorer(image)
    assert outcome.shape == shape
    assert outcome.dtype == dtype
    if shape[-1] == 4:
        np.testing.assert_array_equal(outcome[..., 3], image[..., 3])


def test_bit_depths_agree(restorer, picture):
    image = picture(40, 40)
    by_u8 = restorer(image).astype(np.float64) / 255
    by_u16 = restorer(image.astype(np.uint16) * 257).astype(np.float64) / 65535
    by_f32 = restorer(image.astype(np.float32) / 255).astype(np.float64)
    assert np.abs(by_u8 - by_f32).max() <= 0.5 / 255 + 1e-6
    assert np.abs(by_u16 - by_f32).max() <= 0.5 / 65535 + 1e-6


def test_bgr_is_rgb_in_another_order(restorer, picture):
    image = picture(40, 40)
    with edgerestore.load("deblur", precision="fp32", color="bgr") as other:
        np.testing.assert_array_equal(
            other(np.ascontiguousarray(image[..., ::-1]))[..., ::-1], restorer(image)
        )


def test_views_and_read_only_arrays_are_taken(restorer, picture):
    image = picture(80, 60)
    expected = restorer(image[::2, ::-1].copy())
    np.testing.assert_array_equal(restorer(image[::2, ::-1]), expected)
    fixed = image[::2, ::-1].copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(restorer(fixed), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1, 2]], "NumPy array"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros((4, 4), np.float64), "float64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_image_is_refused(restorer, image, message):
    with pytest.raises(ArgumentError, match=message):
        restorer(image)


@pytest.mark.parametrize("dtype", [">u2", ">f4", "<u2", "<f4"])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_either_byte_order_is_restored_as_what_it_holds(restorer, picture, dtype, strength):
    values = picture(48, 40).astype(np.float32) / 255
    levels = np.rint(values * 65535) if dtype.endswith("u2") else values
    image = levels.astype(dtype)
    outcome = restorer(image, strength=strength)
    assert outcome.dtype == image.dtype
    plain = image.astype(image.dtype.newbyteorder("="))
    np.testing.assert_array_equal(outcome, restorer(plain, strength=strength))


def test_the_check_of_floats_reads_either_byte_order(restorer):
    image = np.zeros((8, 8), ">f4")
    image[2, 3] = np.nan
    with pytest.raises(ArgumentError, match="row 2, column 3"):
        restorer(image)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "int16", ">i2", "uint32", "int64", "float16", "float64", "complex64", "S2"],
)
def test_any_other_dtype_is_refused_by_its_name(restorer, dtype):
    image = np.zeros((8, 8), dtype)
    with pytest.raises(ArgumentError, match=re.escape(f"dtype {image.dtype} is not taken")):
        restorer(image)


def test_a_stream_keeps_order_and_reads_only_a_little_ahead(restorer):
    frames = [np.full((16, 16, 3), value, np.uint8) for value in range(0, 200, 10)]
    taken = []

    def producer():
        for frame in frames:
            taken.append(frame)
            yield frame

    outcomes = restorer.stream(producer(), strength=0)
    first = next(outcomes)
    np.testing.assert_array_equal(first, frames[0])
    assert len(taken) <= restorer.depth + 1
    rest = list(outcomes)
    assert [int(o[0, 0, 0]) for o in rest] == list(range(10, 200, 10))


def test_many_threads_share_a_restorer(restorer, picture):
    images = [picture(33 + 8 * (i % 3), 40, seed=i) for i in range(12)]
    expected = [restorer(image) for image in images]
    outcomes = [None] * 12

    def work(start):
        for index in range(start, 12, 3):
            outcomes[index] = restorer(images[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcome, wanted in zip(outcomes, expected, strict=True):
        np.testing.assert_array_equal(outcome, wanted)


def test_more_sizes_than_queues_are_kept(restorer, picture):
    for _ in range(2):
        for side in (16, 24, 32, 40, 48):
            image = picture(side, side)
            assert restorer(image).shape == image.shape


def test_pending_work_survives_the_close_and_later_work_is_refused(picture):
    image = picture(64, 64)
    opened = edgerestore.load("deblur", precision="fp32")
    pending = [opened.submit(image) for _ in range(6)]
    opened.close()
    opened.close()
    results = [p.result() for p in pending]
    assert all(np.array_equal(results[0], r) for r in results)
    assert all(p.done() for p in pending)
    with pytest.raises(InferenceError, match="closed"):
        opened(image)


def test_what_is_not_there_is_named():
    with pytest.raises(DeviceError, match="FPGA is not here; devices: CPU"):
        edgerestore.load("deblur", device="FPGA")
    with pytest.raises(BundleError, match="no-such-model.*models: .*deblur"):
        edgerestore.load("no-such-model")
    with pytest.raises(ArgumentError, match="fp64"):
        edgerestore.load("deblur", precision="fp64")
    with pytest.raises(ArgumentError, match="color"):
        edgerestore.load("deblur", color="gray")
    for tile in (0, -5, "large", 1.5, True):
        with pytest.raises(ArgumentError, match="tile"):
            edgerestore.load("deblur", tile=tile)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="memory_mb"):
        edgerestore.load("deblur", memory_mb=0)


def test_a_tile_too_small_for_the_halo_says_what_works(picture):
    with (
        edgerestore.load("deblur", tile=40) as opened,
        pytest.raises(ArgumentError, match="use at least"),
    ):
        opened(picture(200, 200))


def test_the_tile_is_chosen_by_memory_and_said(picture):
    image = picture(600, 900)
    outcomes = {}
    for memory_mb in (4000, 30, 1):
        with edgerestore.load("deblur", memory_mb=memory_mb) as opened:
            outcomes[memory_mb] = opened(image)
            assert f"{memory_mb} MiB" in opened.plan
            if memory_mb == 30:
                assert "tiles of" in opened.plan
            if memory_mb == 1:
                assert "the smallest" in opened.plan
    np.testing.assert_array_equal(outcomes[4000], outcomes[30])
    np.testing.assert_array_equal(outcomes[4000], outcomes[1])


@pytest.mark.parametrize("bad", [-0.01, 1.01])
def test_values_outside_0_to_1_are_refused_where_that_is_the_range(restorer, bad):
    image = np.full((16, 16, 3), 0.5, np.float32)
    image[3, 4, 1] = bad
    restorer.intensity_range = "full"
    try:
        with pytest.raises(ArgumentError, match="the image holds values .*; scale it to 0 to 1"):
            restorer(image)
    finally:
        restorer.intensity_range = "auto"


def test_a_misspelt_setting_is_refused(restorer):
    with pytest.raises(AttributeError, match="no setting strenght; did you mean strength"):
        restorer.strenght = 0.5
    assert restorer.strength == 1.0
    restorer.on_guarded = None


def test_it_says_what_it_is(picture):
    with edgerestore.load("deblur", precision="fp32", strength=0.5) as opened:
        assert (
            repr(opened)
            == f"<Restorer deblur: {opened.device} ({opened.runtime}) at fp32, strength 0.5>"
        )
    assert repr(opened) == "<Restorer deblur: closed, strength 0.5>"


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_paths_bytes_and_pil_pictures_are_taken(restorer, picture, tmp_path, color):
    from PIL import Image

    image = picture(40, 60)
    path = tmp_path / "in.png"
    Image.fromarray(image).save(path)
    expected = restorer(image)
    with edgerestore.load("deblur", precision="fp32", color=color) as other:
        for given in (path, str(path), path.read_bytes(), Image.open(path)):
            outcome = other(given)
            np.testing.assert_array_equal(
                outcome if color == "rgb" else outcome[..., ::-1], expected
            )
        with pytest.raises(ArgumentError, match="got list"):
            other([1, 2])  # type: ignore[arg-type]
    for mode, shape in (("L", (40, 60)), ("P", (40, 60, 3)), ("LA", (40, 60, 4)), ("1", (40, 60))):
        assert restorer(Image.fromarray(image).convert(mode)).shape == shape


def test_a_pil_picture_is_turned_upright_like_its_file(restorer, picture, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "in.png"
    Image.fromarray(picture(40, 60)).save(path, exif=exif)
    outcome = restorer(Image.open(path))
    assert outcome.shape == (60, 40, 3)
    np.testing.assert_array_equal(outcome, restorer(path))


def test_a_stream_of_a_path(restorer, picture, tmp_path):
    from PIL import Image

    path = tmp_path / "in.png"
    Image.fromarray(picture(40, 60)).save(path)
    (only,) = restorer.stream(path)
    np.testing.assert_array_equal(only, restorer(path))
