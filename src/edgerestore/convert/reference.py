"""The model as its author runs it: what every converted form is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from ..errors import ConversionError, first_line
from ..imaging.arrays import round_up
from .graph.signature import Face

__all__ = ["OrtGraph", "Reference", "ort_network", "torch_network"]

Planes = NDArray[np.float32]
NetworkFunction = Callable[[Planes], Planes]
"""From what the network takes (its own range and colour order) to what it returns."""


def torch_network(module: nn.Module) -> NetworkFunction:
    """Return a module as a function of arrays, run in eager PyTorch."""

    def run(image: Planes) -> Planes:
        with torch.inference_mode():
            restored: Planes = module(torch.from_numpy(np.ascontiguousarray(image))).numpy()
        return restored

    return run


def ort_network(core: ModelProto) -> NetworkFunction:
    """Return a core graph as a function of arrays, run by ONNX Runtime."""
    session = _session(core.SerializeToString())
    name = session.get_inputs()[0].name

    def run(image: Planes) -> Planes:
        restored: Planes = session.run(None, {name: image})[0]
        return restored

    return run


class OrtGraph:
    """A faced graph on ONNX Runtime's CPU, in f32."""

    def __init__(self, model: bytes | str) -> None:
        self._session = _session(model)

    def __call__(self, image: Planes, strength: float = 1.0) -> Planes:
        """Restore f32 ``[1, C, H, W]`` in [0, 1]."""
        fed = {"image": image, "strength": np.full((1, 1, 1, 1), strength, np.float32)}
        try:
            restored: Planes = self._session.run(None, fed)[0]
        except Exception as error:
            raise ConversionError(f"ONNX Runtime: {first_line(error)}") from error
        return restored


def _session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(f"ONNX Runtime: {first_line(error)}") from error


class Reference:
    """The contract of the face, computed around the network with NumPy and PyTorch alone.

    Parameters
    ----------
    network : callable
    face : Face
        ``residual`` says here whether *this* network returns a residual; a module whose
        residual is exported is compared by its ``forward``.
    """

    def __init__(self, network: NetworkFunction, face: Face) -> None:
        self._network = network
        self._face = face

    def __call__(self, image: Planes, strength: float = 1.0) -> Planes:
        """Restore f32 ``[1, C, H, W]`` in [0, 1]."""
        face = self._face
        height, width = image.shape[2:]
        least = round_up(face.minimum_px, face.multiple_of)
        more = [max(least, s + -s % face.multiple_of) - s for s in (height, width)]
        fed = np.pad(image, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode="edge")
        fed = fed[:, ::-1] if face.color == "bgr" else fed
        try:
            net = self._network(fed * np.float32(face.span) + np.float32(face.black))
        except RuntimeError as error:
            side = "x".join(map(str, fed.shape[2:]))
            raise ConversionError(f"the network fails at {side}: {first_line(error)}") from error
        net = net[:, ::-1] if face.color == "bgr" and face.out_channels == 3 else net
        net = net[:, :, : height * face.upscale, : width * face.upscale]
        if not face.kind.traits.blended:
            scaled: Planes = np.clip(net * np.float32(strength), 0, 1)
            return scaled
        if not face.residual:
            net = net - np.float32(face.black)
        net = net / np.float32(face.span)
        base = self._base(image)
        change = net if face.residual else net - base
        restored: Planes = np.clip(base + np.float32(strength) * change, 0, 1)
        return restored

    def _base(self, image: Planes) -> Planes:
        if self._face.upscale == 1:
            return image
        upscaled: Planes = torch.nn.functional.interpolate(
            torch.from_numpy(image), scale_factor=self._face.upscale, mode="bicubic"
        ).numpy()
        return upscaled
