"""Devices whose memory is full, or that go away: smaller tiles, and a device opened anew."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine.predictors.model import ModelPredictor
from edgerestore.engine.restorer import Restorer
from edgerestore.engine.tiling.tile_size import TileChooser
from edgerestore.errors import DeviceLostError, InferenceError, OutOfDeviceMemoryError
from edgerestore.runtimes import open_runtime
from edgerestore.runtimes.device_errors import device_error_kind
from edgerestore.runtimes.onnxruntime.runtime import _Session as Session

from ..bundles import write_bundle


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Bundle:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))
    return write_bundle(tmp_path / "small")


class Small:
    """A model on a device whose memory holds tiles of so many pixels."""

    def __init__(self, model, pixels):
        self._model, self._pixels, self.opened = model, pixels, []
        self.runtime, self.device, self.precision = model.runtime, model.device, model.precision

    def tunables(self):
        return self._model.tunables()

    def open_queue(self, spec, requests=None):
        self.opened.append((spec.height, spec.width))
        if spec.height * spec.width > self._pixels:
            raise OutOfDeviceMemoryError("compiling: CUDA out of memory")
        return self._model.open_queue(spec, requests)


def opened(bundle, pixels):
    model = open_runtime("openvino").load(bundle, "CPU", Precision.FP32)
    small = Small(model, pixels)
    return small, Restorer(ModelPredictor(bundle, small, TileChooser("auto")))


def test_smaller_tiles_are_taken_told_and_remembered(bundle, picture, caplog):
    image = picture(192, 256)
    with edgerestore.load(bundle.folder, precision="fp32") as restorer:
        expected = restorer(image)
    small, restorer = opened(bundle, 100 * 100)
    with restorer, caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(restorer(image), expected)
        assert restorer.plan == "tiles of 64 px: the device's memory did not hold larger ones"
    assert small.opened[0] == (192, 256)
    assert "holds no frame to compare tiles with" in caplog.text
    assert "out of memory; tiles of 128 px are taken instead of 256" in caplog.text
    again, restorer = opened(bundle, 100 * 100)
    with restorer:
        np.testing.assert_array_equal(restorer(image), expected)
    assert again.opened[-1] == (64, 64)
    assert (128, 128) not in again.opened, "what the memory holds was tried anew"


def test_a_device_that_holds_not_even_the_smallest_tile_is_an_error(bundle, picture):
    _, restorer = opened(bundle, 1)
    with restorer, pytest.raises(OutOfDeviceMemoryError, match="out of memory"):
        restorer(picture(64, 64))


def test_a_lost_device_fails_what_is_in_flight_and_is_opened_anew(
    bundle, picture, monkeypatch, caplog
):
    images = [picture(40, 48, seed=seed) for seed in range(4)]
    start, calls = Session.start, []

    def failing(self, inputs, output):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("CUDA failure 719: unspecified launch failure")
        return start(self, inputs, output)

    with edgerestore.load(bundle.folder, runtime="onnxruntime", precision="fp32") as restorer:
        expected = [restorer(image) for image in images]
    monkeypatch.setattr(Session, "start", failing)
    with edgerestore.load(bundle.folder, runtime="onnxruntime", precision="fp32") as restorer:
        np.testing.assert_array_equal(restorer(images[0]), expected[0])
        with pytest.raises(DeviceLostError, match="unspecified launch failure"):
            restorer(images[1])
        for image, wanted in zip(images[2:], expected[2:], strict=True):
            np.testing.assert_array_equal(restorer(image), wanted)
    assert "the device was lost; it is opened anew" in caplog.text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", OutOfDeviceMemoryError),
        ("[CL_EXT] clEnqueueMapBuffer, error code: -5 CL_OUT_OF_RESOURCES", OutOfDeviceMemoryError),
        ("BFCArena::AllocateRawInternal Failed to allocate memory", OutOfDeviceMemoryError),
        ("std::bad_alloc", OutOfDeviceMemoryError),
        ("CUDA error: an illegal memory access was encountered", DeviceLostError),
        ("ZE_RESULT_ERROR_DEVICE_LOST, code 0x70000001", DeviceLostError),
        ("shape mismatch", InferenceError),
    ],
)
def test_errors_of_libraries_are_told_apart(text, kind):
    assert device_error_kind(RuntimeError(text)) is kind
    assert device_error_kind(MemoryError()) is OutOfDeviceMemoryError
