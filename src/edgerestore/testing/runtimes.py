"""Conformance tests of runtimes: a runtime's tests subclass `RuntimeTests` and give it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from ..bundle.bundle import Bundle, model_names
from ..bundle.precision import Precision
from ..engine.tiling.executor import Work, submit_grid
from ..engine.tiling.grid import Grid, smallest_tile
from ..errors import ArgumentError, DeviceError, InferenceError
from ..imaging.arrays import ChannelOrder, Depth, Image, round_up
from ..runtimes import open_runtime
from ..runtimes.protocol import InferQueue, Model, QueueSpec, Runtime, Tuning

__all__ = ["RuntimeTests"]

_SIDE = 64
_MOST_DIFFERING = 1e-4


class RuntimeTests:
    """The conformance class of `edgerestore.runtimes.protocol`.

    A subclass gives the fixtures ``runtime``, ``device`` and ``bundle`` (an image model of
    three channels).
    """

    @pytest.fixture
    def runtime(self) -> Runtime:
        """The runtime under test."""
        raise pytest.UsageError("a subclass gives the runtime")

    @pytest.fixture
    def device(self) -> str:
        """A device that is present."""
        return "CPU"

    @pytest.fixture
    def bundle(self) -> Bundle:
        """A three-channel image model."""
        return Bundle.find("deblur")

    @pytest.fixture
    def fault(self) -> Callable[[InferQueue, int], None]:
        """A function that lets the n-th submission from now on fail on the device."""
        pytest.skip("this runtime's tests inject no fault")

    @pytest.fixture
    def model(self, runtime: Runtime, bundle: Bundle, device: str) -> Model:
        """The bundle at f32."""
        return runtime.load(bundle, device, Precision.FP32, live=False)

    @pytest.fixture
    def queue(self, model: Model) -> Iterator[InferQueue]:
        """A queue of 64x64 u8 RGB with two requests."""
        queue = model.open_queue(QueueSpec(_SIDE, _SIDE, Depth.U8, ChannelOrder.RGB), 2)
        yield queue
        queue.close()

    def test_the_model_names_its_runtime_device_and_precision(
        self, runtime: Runtime, model: Model, device: str
    ) -> None:
        assert model.runtime == runtime.name
        assert model.device == device
        assert model.precision is Precision.FP32

    def test_the_device_is_listed(self, runtime: Runtime, device: str) -> None:
        assert device in runtime.devices()
        assert runtime.describe(device)
        assert Precision.FP32 in runtime.precisions(device)

    def test_an_absent_device_is_refused_with_the_list(
        self, runtime: Runtime, bundle: Bundle, device: str
    ) -> None:
        with pytest.raises(DeviceError, match=f"QPU is not here.*{device}"):
            runtime.load(bundle, "QPU", Precision.FP32, live=False)

    def test_a_precision_the_device_lacks_is_refused_with_the_list(
        self, runtime: Runtime, bundle: Bundle, device: str
    ) -> None:
        lacking = set(Precision) - set(runtime.precisions(device))
        for precision in lacking:
            with pytest.raises(DeviceError, match=f"no {precision}.*fp32"):
                runtime.load(bundle, device, precision, live=False)

    def test_more_submissions_than_requests_all_arrive(self, queue: InferQueue) -> None:
        images = [_image(seed) for seed in range(7)]
        outcomes = [np.zeros_like(image) for image in images]
        for completion in [queue.submit(i, 0.0, o) for i, o in zip(images, outcomes, strict=True)]:
            completion.result()
        for image, outcome in zip(images, outcomes, strict=True):
            np.testing.assert_array_equal(outcome, image)  # strength 0 is the input

    @pytest.mark.parametrize("depth", list(Depth))
    def test_every_depth_and_order_gives_the_input_back_at_strength_zero(
        self, model: Model, depth: Depth
    ) -> None:
        image = (_image(1) / 255 * depth.peak).astype(depth.value)
        for order in (ChannelOrder.RGB, ChannelOrder.BGR):
            outcome = _outcome(model, QueueSpec(_SIDE, _SIDE, depth, order), image, 0.0)
            np.testing.assert_allclose(outcome, image, rtol=1e-6)
            assert outcome.dtype == image.dtype

    def test_channel_order_changes_nothing_but_the_order(self, model: Model) -> None:
        image = _image(2)
        rgb, bgr = (
            _outcome(model, QueueSpec(_SIDE, _SIDE, Depth.U8, order), picture.copy(), 1.0)
            for order, picture in ((ChannelOrder.RGB, image), (ChannelOrder.BGR, image[..., ::-1]))
        )
        np.testing.assert_array_equal(rgb, bgr[..., ::-1])

    def test_tones_are_applied_before_the_one_rounding(self, model: Model) -> None:
        image = _image(4)
        tone = np.array([[0.5, 1.3, 1.0], [0.1, -0.2, 0.003]], np.float32)
        wanted = np.clip(image / 255 * tone[0] + tone[1], 0, 1) * 255
        spec = QueueSpec(_SIDE, _SIDE, Depth.U8, ChannelOrder.RGB, toned=True)
        outcome = _outcome(model, spec, image, 0.0, tone)
        assert np.abs(outcome - wanted).max() <= 0.5 + 1e-3

    def test_read_and_keep_name_the_same_pixels(self, queue: InferQueue) -> None:
        frame = np.ascontiguousarray(np.tile(_image(3), (2, 3, 1)))
        outcome = np.zeros((10, 20, 3), np.uint8)
        surround = np.full((30, 40, 3), 7, np.uint8)
        into = surround[5:15, 5:25]
        queue.submit(frame, 0.0, outcome, read=(17, 33), keep=(8, 4)).result()
        queue.submit(frame, 0.0, into, read=(17, 33), keep=(8, 4)).result()
        np.testing.assert_array_equal(outcome, frame[25:35, 37:57])
        np.testing.assert_array_equal(into, outcome)
        surround[5:15, 5:25] = 7
        assert (surround == 7).all(), "pixels outside the destination were written"

    def test_inputs_are_never_written(self, queue: InferQueue) -> None:
        """Dense inputs and tiles of a larger frame in turn, on the same requests."""
        dense, frame = _image(4), np.ascontiguousarray(np.tile(_image(5), (2, 2, 1)))
        kept = dense.copy(), frame.copy()
        for _ in range(3):
            outcome = np.empty_like(dense)
            queue.submit(dense, 1.0, outcome).result()
            queue.submit(frame, 1.0, outcome, read=(8, 24)).result()
        np.testing.assert_array_equal(dense, kept[0])
        np.testing.assert_array_equal(frame, kept[1])

    def test_a_map_and_a_number_agree(self, queue: InferQueue) -> None:
        image = _image(6)
        by_number, by_map = np.empty_like(image), np.empty_like(image)
        queue.submit(image, 0.75, by_number).result()
        queue.submit(image, np.full((_SIDE, _SIDE), 0.75, np.float32), by_map).result()
        np.testing.assert_array_equal(by_number, by_map)

    def test_results_may_be_asked_for_in_any_order_and_again(self, queue: InferQueue) -> None:
        image = _image(7)
        outcomes = [np.empty_like(image) for _ in range(4)]
        completions = [queue.submit(image, 1.0, outcome) for outcome in outcomes]
        for completion in (*reversed(completions), *completions):
            completion.result()
            assert completion.done()
        assert all(np.array_equal(outcomes[0], other) for other in outcomes)

    def test_an_error_belongs_to_its_submission(self, queue: InferQueue) -> None:
        image = _image(8)
        fine = queue.submit(image, 1.0, np.empty_like(image))
        with pytest.raises(InferenceError):
            # Too small for the queue's shape: refused here, or where its result is asked.
            queue.submit(image[:9, :9].copy(), 1.0, np.empty_like(image)).result()
        fine.result()
        queue.submit(image, 1.0, np.empty_like(image)).result()

    def test_threads_may_share_a_queue(self, queue: InferQueue) -> None:
        images = [_image(seed) for seed in range(16)]
        outcomes = [np.zeros_like(image) for image in images]

        def work(start: int) -> None:
            for index in range(start, 16, 4):
                queue.submit(images[index], 0.0, outcomes[index]).result()

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for image, outcome in zip(images, outcomes, strict=True):
            np.testing.assert_array_equal(outcome, image)

    def test_two_images_in_flight_give_two_outcomes(self, queue: InferQueue) -> None:
        images = [_image(seed) for seed in (10, 11)]
        alone, together = ([np.zeros_like(image) for image in images] for _ in range(2))
        for image, outcome in zip(images, alone, strict=True):
            queue.submit(image, 1.0, outcome).result()
        pending = [queue.submit(i, 1.0, o) for i, o in zip(images, together, strict=True)]
        for completion in pending:
            completion.result()
        assert not np.array_equal(together[0], together[1])
        np.testing.assert_array_equal(together, alone)

    def test_a_fault_of_one_request_loses_no_other_image(
        self, queue: InferQueue, fault: Callable[[InferQueue, int], None]
    ) -> None:
        images = [_image(seed) for seed in range(6)]
        outcomes = [np.zeros_like(image) for image in images]
        fault(queue, 3)
        pending = [queue.submit(i, 0.0, o) for i, o in zip(images, outcomes, strict=True)]
        for place, completion in enumerate(pending):
            if place == 2:
                with pytest.raises(InferenceError, match="injected"):
                    completion.result()
                continue
            completion.result()
            np.testing.assert_array_equal(outcomes[place], images[place])

    @pytest.mark.parametrize("name", model_names())
    def test_shipped_models_give_what_the_reference_gives(
        self, runtime: Runtime, device: str, name: str
    ) -> None:
        """At f32: by one level at most, in one byte of ten thousand at most."""
        image, expected = _scene(name), _reference(name)
        model = runtime.load(Bundle.find(name), device, Precision.FP32)
        outcome = _restored(model, Bundle.find(name), image)
        off = np.abs(outcome.astype(int) - expected.astype(int))
        assert off.max() <= 1
        assert np.count_nonzero(off) <= _MOST_DIFFERING * off.size

    @pytest.mark.parametrize("name", model_names())
    def test_tiles_of_shipped_models_give_the_whole(
        self, runtime: Runtime, device: str, name: str
    ) -> None:
        bundle = Bundle.find(name)
        image = _scene(name)
        model = runtime.load(bundle, device, Precision.FP32)
        tile = min(image.shape[:2])
        tiled = _restored(model, bundle, image, tile)
        np.testing.assert_array_equal(tiled, _restored(model, bundle, image))

    def test_settings_change_no_outcome(
        self, runtime: Runtime, bundle: Bundle, device: str, model: Model
    ) -> None:
        spec = QueueSpec(_SIDE, _SIDE, Depth.U8, ChannelOrder.RGB)
        expected = _outcome(model, spec, _image(12), 1.0)
        for name, values in model.tunables().items():
            setting: dict[str, Any] = {name: values[-1]}
            tuning = Tuning(**setting)
            tuned = runtime.load(bundle, device, Precision.FP32, tuning=tuning)
            np.testing.assert_array_equal(_outcome(tuned, spec, _image(12), 1.0), expected)
        for tuning in (Tuning(graphs=True), Tuning(streams=1)):
            if not tuning.stated.keys() & model.tunables().keys():
                with pytest.raises(ArgumentError, match="to set, only"):
                    runtime.load(bundle, device, Precision.FP32, tuning=tuning)

    def test_close_finishes_what_runs_and_refuses_more(self, model: Model) -> None:
        queue = model.open_queue(QueueSpec(_SIDE, _SIDE, Depth.U8, ChannelOrder.RGB), 2)
        image = _image(9)
        outcome = np.zeros_like(image)
        completion = queue.submit(image, 0.0, outcome)
        queue.close()
        queue.close()
        completion.result()
        np.testing.assert_array_equal(outcome, image)
        with pytest.raises(InferenceError, match="closed"):
            queue.submit(image, 0.0, outcome)


def _outcome(
    model: Model, spec: QueueSpec, image: Image, strength: float, tone: Image | None = None
) -> Image:
    queue = model.open_queue(spec, 1)
    outcome = np.zeros_like(image)
    queue.submit(image, strength, outcome, tone=tone).result()
    queue.close()
    return outcome


def _restored(model: Model, bundle: Bundle, image: Image, tile: int | None = None) -> Image:
    """Restore a picture as the engine does, in tiles of a size or whole."""
    face, output = bundle.manifest.input, bundle.manifest.output
    height, width = image.shape[:2]
    side, multiple = tile or max(height, width), face.multiple_of
    halo = bundle.manifest.tiling.halo_px
    grid = Grid.plan(height, width, side, halo=halo, multiple=multiple, upscale=output.upscale)
    assert (len(grid.tiles) > 1) == (tile is not None)
    sides = (round_up(grid.tile_height, multiple), round_up(grid.tile_width, multiple))
    order = ChannelOrder.GRAY if face.channels == 1 else ChannelOrder.RGB
    queue = model.open_queue(QueueSpec(*sides, Depth.U8, order), 2)
    work = Work(1.0, output.channels, output.upscale, Depth.U8)
    completions, gather = submit_grid(queue, grid, image, work)
    for completion in completions:
        completion.result()
    queue.close()
    return gather()


@cache
def _scene(name: str) -> Image:
    """Return a seeded picture of edges and noise, larger than a model's smallest tile."""
    face, tiling = Bundle.find(name).manifest.input, Bundle.find(name).manifest.tiling
    height = round_up(smallest_tile(tiling.halo_px, face.multiple_of) + 16, face.multiple_of)
    width = height + 40
    rng = np.random.default_rng(5)
    blocks = rng.uniform(0, 255, (height // 16 + 1, width // 16 + 1, face.channels))
    flat = blocks.repeat(16, 0).repeat(16, 1)[:height, :width]
    return (flat + rng.normal(0, 6, flat.shape)).clip(0, 255).astype(np.uint8)


@cache
def _reference(name: str) -> Image:
    model = open_runtime("openvino").load(Bundle.find(name), "CPU", Precision.FP32)
    return _restored(model, Bundle.find(name), _scene(name))


def _image(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
