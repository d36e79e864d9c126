"""Progress of one image by its tiles, and its end between two of them."""

import numpy as np
import pytest

import edgerestore


@pytest.fixture(scope="module")
def tiled():
    with edgerestore.load("denoise-gray", precision="fp32", tile=144) as opened:
        yield opened


class Heard(list[tuple[int, int]]):
    def __call__(self, done, total):
        self.append((done, total))


def assert_complete(heard, total=None):
    assert [done for done, _ in heard] == list(range(1, len(heard) + 1))
    assert heard[-1] == (len(heard), len(heard))
    assert total in (None, len(heard))


def test_each_tile_is_told_once(tiled, picture):
    image = picture(180, 200, 1)[..., 0]
    heard = Heard()
    outcome = tiled(image, on_progress=heard)
    assert_complete(heard)
    assert len(heard) > 10
    np.testing.assert_array_equal(outcome, tiled(image))


def test_submitting_tells_and_so_does_the_result(tiled, picture):
    image, heard = picture(180, 200, 1)[..., 0], Heard()
    pending = tiled.submit(image, on_progress=heard)
    submitted = len(heard)
    assert submitted > 0
    pending.result()
    pending.result()
    assert_complete(heard)


def test_each_channel_and_depth_counts(tiled, picture):
    grey, colour, deep = Heard(), Heard(), Heard()
    image = picture(150, 170)
    tiled(image[..., 0].copy(), on_progress=grey)
    tiled(image, on_progress=colour)
    tiled((image[..., 0].astype(np.uint16) + 200).astype(">u2"), on_progress=deep)
    assert_complete(colour, 3 * len(grey))
    assert_complete(deep, len(grey))


def test_an_ensemble_counts_all_its_parts(picture):
    image, heard = picture(150, 150, 1)[..., 0], Heard()
    with edgerestore.load("denoise-gray", precision="fp32", tile=144, tta=True) as restorer:
        restorer(image, on_progress=heard)
    assert_complete(heard)
    assert len(heard) % 8 == 0


def test_strength_zero_is_one_step(tiled, picture):
    heard = Heard()
    tiled(picture(150, 170), 0, on_progress=heard)
    assert heard == [(1, 1)]


class EnoughError(Exception):
    pass


@pytest.mark.parametrize("last", [1, 5, -1])
def test_what_it_raises_ends_the_image_and_nothing_else(tiled, picture, last):
    image = picture(180, 200, 1)[..., 0]
    before, heard = tiled(image), Heard()

    def stop(done, total):
        heard(done, total)
        if done == last % (total + 1):
            raise EnoughError

    with pytest.raises(EnoughError):
        tiled(image, on_progress=stop)
    assert heard[-1][0] == last % (heard[-1][1] + 1)
    np.testing.assert_array_equal(tiled(image), before)
