"""Runtimes side by side on the CPU: times of one frame as ratios to OpenVINO's f32, in one run."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.errors import MissingExtraError
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes import open_runtime
from edgerestore.runtimes.machine import cpu_info, machine_key, paired_times
from edgerestore.runtimes.protocol import InferQueue, QueueSpec

from .harness import Effort, Table
from .scenes import moving_frames

Picture = NDArray[np.uint8]

SIZES = {"deblur": (720, 1280), "dejpeg": (720, 1280), "sr-x4": (180, 320)}


@pytest.mark.parametrize("name", SIZES)
def test_runtimes(name: str, table: Callable[[str], Table], effort: Effort) -> None:
    bundle = Bundle.find(name)
    height, width = SIZES[name]
    (frame,) = moving_frames(height, width, 1)
    rows = table(f"{name} at {width}x{height} by runtime: {cpu_info().isa}")
    rows.note(machine_key("openvino"))
    rows.note(f"load {os.getloadavg()[0]:.1f}; ratios of times to OpenVINO's f32, 95 % intervals")
    spec = QueueSpec(height, width, Depth.U8, ChannelOrder.RGB)
    with ExitStack() as opened:
        queues = {}
        for runtime in ("openvino", "onnxruntime", "pytorch"):
            for precision in (Precision.FP32, Precision.INT8):
                queue = _queue(bundle, runtime, precision, spec)
                if queue is not None:
                    opened.callback(queue.close)
                    queues[runtime, precision] = queue
        reference = queues["openvino", Precision.FP32]
        expected = _restored(reference, bundle, frame)
        for (runtime, precision), queue in queues.items():
            times = paired_times(
                partial(_restored, queue, bundle, frame),
                partial(_restored, reference, bundle, frame),
                budget_s=effort.seconds,
            )
            made = _restored(queue, bundle, frame)
            close = "same" if np.array_equal(made, expected) else f"{psnr(made, expected):.1f} dB"
            rows.ratio(
                f"{runtime} {precision}",
                f"{times.first_ms:.1f} ms",
                f"to f32: {close}",
                [times.low, times.ratio, times.high],
                None,
            )


def _queue(
    bundle: Bundle, runtime: str, precision: Precision, spec: QueueSpec
) -> InferQueue | None:
    try:
        library = open_runtime(runtime)
    except MissingExtraError:
        return None
    if precision.stored not in bundle.manifest.variants:
        return None
    if precision not in library.precisions("CPU"):
        return None
    return library.load(bundle, "CPU", precision).open_queue(spec)


def _restored(queue: InferQueue, bundle: Bundle, frame: Picture) -> Picture:
    upscale, channels = bundle.manifest.output.upscale, bundle.manifest.output.channels
    outcome = np.empty((frame.shape[0] * upscale, frame.shape[1] * upscale, channels), np.uint8)
    queue.submit(frame, 1.0, outcome).result()
    return outcome
