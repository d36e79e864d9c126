"""Loading of a model, or of several as an ensemble, by name."""

from __future__ import annotations

import os
from typing import Literal

from ..errors import ArgumentError
from ..imaging.arrays import ChannelOrder
from ..runtimes.protocol import DEFAULT_TUNING, Tuning
from .intensity import IntensityRange
from .loader import Loader
from .restorer import Restorer
from .strength import check_scalar

__all__ = ["load"]


def load(
    model: str | os.PathLike[str] = "deblur",
    *,
    device: str = "CPU",
    runtime: str = "auto",
    precision: str = "auto",
    tile: int | Literal["auto"] = "auto",
    strength: float = 1.0,
    color: str = "rgb",
    live: bool = False,
    memory_mb: int | None = None,
    tta: bool = False,
    reuse_static: float | None = None,
    guard: bool = False,
    intensity_range: IntensityRange | str | tuple[float, float] = "auto",
    tuning: Tuning = DEFAULT_TUNING,
) -> Restorer:
    """Load a model, or several as an ensemble, onto a device.

    Parameters
    ----------
    model : str or path
        A name that ``edgerestore models`` lists, or a bundle's folder. Several joined by
        ``+``, each with a weight if need be (``a*0.7+b*0.3``), are averaged. ``auto`` is the
        default model; `choose_model` finds the one that holds a frame rate.
    device : str
        As OpenVINO spells it: ``CPU``, ``GPU``, ``NPU``, ``AUTO``, ``AUTO:GPU,CPU``, ...; or
        ``CUDA``, ``CUDA:1``, ``TENSORRT``.
    runtime : str
        Inference library: a name that ``edgerestore devices`` lists, or ``auto`` for the
        first one that has the device.
    precision : str
        ``auto``, ``fp32``, ``tf32``, ``bf16``, ``fp16`` or ``int8``. ``auto`` takes INT8 where the
        bundle has it within its quality budget and the device runs it faster, else the
        device's native half, else f32; `Restorer.precision_reason` says why.
    tile : int or ``auto``
        Side of a tile in pixels. ``auto`` chooses by memory and measured speed.
    strength : float
        From 0 (the input) over 1 (the model) to 2.
    color : str
        ``rgb`` or ``bgr``: the order of colour channels, in and out.
    live : bool
        Favour the latency of one image over the throughput of many.
    memory_mb : int, optional
        What the tiles in flight may take, in MiB; 512 or a quarter of what is free,
        whichever is less, when not given.
    reuse_static : float, optional
        Restore only what changed since the image before: a number of 8-bit levels, 0 to 255,
        that do not count as a change; at 0 the bytes are those of full inference. Results are
        then read-only, since the next image may hand them out again.
    guard : bool
        Show the input of a tile whose outcome is no restoration of it; see `Restorer.guarded`.
    intensity_range : IntensityRange, str or pair of numbers
        Values that the network sees as black to white: ``auto``, ``full``, ``LOW:HIGH``,
        ``pLOW:pHIGH`` or ``(low, high)``; see `Restorer.intensity_range`.
    tta : bool
        Test-time augmentation: average the model's outcomes of the picture's eight turns and
        mirrorings, at eight times the work.

    tuning : Tuning
        Threads, streams and the like, where the runtime's own are not the best; what the model
        obeys here is in `Model.tunables`.

    Returns
    -------
    Restorer
        A context manager; close it to free the device.

    Raises
    ------
    BundleError, DeviceError, ArgumentError
        Where the model, the device, or a value is not usable; ``tta`` does not go with
        ``reuse_static``.
    """
    if color not in ("rgb", "bgr"):
        raise ArgumentError(f"color is rgb or bgr, got {color!r}")
    if tta and reuse_static is not None:
        raise ArgumentError(
            "tta shows a model eight turns of a picture one after another, none like the one"
            " before: use it without reuse_static"
        )
    check_scalar(strength)  # before anything is compiled
    wanted = IntensityRange.parse(intensity_range)

    loader = Loader(
        model,
        device,
        runtime,
        precision,
        tile,
        memory_mb,
        live=live,
        tta=tta,
        reuse_static=reuse_static,
        guard=guard,
        tuning=tuning,
    )
    predictor = loader.open()
    try:
        return Restorer(
            predictor,
            strength=strength,
            order=ChannelOrder(color),
            intensity_range=wanted,
            loader=loader,
        )
    except ArgumentError:
        predictor.close()
        raise
