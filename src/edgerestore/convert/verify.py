"""Verification of a converted model against its source: parity, precision and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto
from torch import nn

from ..bundle.precision import Precision
from ..errors import ConversionError, VerificationError, first_line
from ..imaging.arrays import Planes, pixels_of, round_up
from ..imaging.metrics import psnr, ssim
from ..runtimes.machine import cpu_info, milliseconds
from ..runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph
from .graph.signature import Signature
from .samples import Samples

__all__ = [
    "PARITY_LIMIT",
    "PRECISION_SIZE",
    "OrtGraph",
    "ParityRow",
    "PrecisionRow",
    "Reference",
    "Timing",
    "check_unpadded",
    "measure_parity",
    "measure_precision",
    "measure_speed",
    "ort_network",
    "require_parity",
    "time_runtimes",
    "torch_network",
]


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
    """Bundle's graph on ONNX Runtime's CPU, in f32."""

    def __init__(self, model: bytes | str) -> None:
        self._session = _session(model)

    def __call__(self, image: Planes, strength: float = 1.0) -> Planes:
        """NetworkFunction f32 ``[1, C, H, W]`` in [0, 1]."""
        fed = {"image": image, "strength": np.full((1, 1, 1, 1), strength, np.float32)}
        try:
            restored: Planes = self._session.run(None, fed)[0]
        except Exception as error:
            raise ConversionError(f"ONNX Runtime: {first_line(error)}") from error
        return restored


def _session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told once
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConversionError(f"ONNX Runtime: {first_line(error)}") from error


class Reference:
    """Reference for parity: the signature computed around the network with NumPy and PyTorch.

    Parameters
    ----------
    network : callable
    signature : Signature
        ``residual`` says here whether *this* network returns a residual; a module whose
        residual is exported is compared by its ``forward``.
    """

    def __init__(self, network: NetworkFunction, signature: Signature) -> None:
        self._network = network
        self._signature = signature

    def __call__(self, image: Planes, strength: float = 1.0) -> Planes:
        """NetworkFunction f32 ``[1, C, H, W]`` in [0, 1]."""
        more = self._lacking(image)
        fed = np.pad(image, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode="edge")
        try:
            net = self._run(fed)
        except Exception as error:  # whatever an author's model raises
            side = "x".join(map(str, fed.shape[2:]))
            raise ConversionError(f"the network fails at {side}: {first_line(error)}") from error
        height, width = self._restored_size(image)
        return self._blended(image, net[:, :, :height, :width], strength)

    def unpadded(self, image: Planes) -> Planes | None:
        """Return what the network makes of an image that would be padded, as it is.

        None where nothing would be padded, or the network does not take the size: a smaller one
        than its least included.
        """
        if not any(self._lacking(image)) or min(image.shape[2:]) < self._signature.minimum_px:
            return None
        try:
            net = self._run(image)
        except Exception:  # whatever an author's model raises at a size that it does not take
            return None
        if net.shape[2:] != self._restored_size(image):
            return None
        return self._blended(image, net, 1.0)

    def _lacking(self, image: Planes) -> list[int]:
        """Return how many rows and columns an image is short of what the network takes."""
        multiple = self._signature.multiple_of
        least = round_up(self._signature.minimum_px, multiple)
        return [max(least, round_up(side, multiple)) - side for side in image.shape[2:]]

    def _restored_size(self, image: Planes) -> tuple[int, int]:
        height, width = image.shape[2:]
        return height * self._signature.upscale, width * self._signature.upscale

    def _run(self, fed: Planes) -> Planes:
        signature = self._signature
        fed = fed[:, ::-1] if signature.color == "bgr" else fed
        net = self._network(fed * np.float32(signature.span) + np.float32(signature.black))
        return net[:, ::-1] if signature.color == "bgr" and signature.out_channels == 3 else net

    def _blended(self, image: Planes, net: Planes, strength: float) -> Planes:
        signature = self._signature
        if not signature.kind.traits.blended:
            scaled: Planes = np.clip(net * np.float32(strength), 0, 1)
            return scaled
        if not signature.residual:
            net = net - np.float32(signature.black)
        net = net / np.float32(signature.span)
        base = self._base(image)
        change = net if signature.residual else net - base
        restored: Planes = np.clip(base + np.float32(strength) * change, 0, 1)
        return restored

    def _base(self, image: Planes) -> Planes:
        if self._signature.upscale == 1:
            return image
        upscaled: Planes = torch.nn.functional.interpolate(
            torch.from_numpy(image), scale_factor=self._signature.upscale, mode="bicubic"
        ).numpy()
        return upscaled


PARITY_LIMIT = 1e-4
"""Largest difference, in [0, 1] units, at which two f32 runs are the same model."""

PARITY_SIZES = ((64, 64), (131, 97), (203, 157), (1, 1))
"""Heights and widths that parity is checked at; odd ones on purpose."""

_WHOLE_LAST = (5, 3)
# A thumbnail made of one pixel is flat: instance norms divide by no variance at all there,
# and make of rounding whatever they like.

PRECISION_SIZE = (256, 256)
_PRECISION_SAMPLES = 3
TIMING_SIZE = (256, 256)
_STRENGTHS = (1.0, 0.35)  # the blend is part of what is compared


@dataclass(frozen=True)
class ParityRow:
    """Largest differences from the reference at one size, in [0, 1] units.

    ``unpadded`` is that between the reference and the source on the picture as it is, where the
    bundle continues it and the source takes it.
    """

    size: str
    sample: str
    onnxruntime: float
    openvino: float
    unpadded: float | None = None


@dataclass(frozen=True)
class PrecisionRow:
    """Distance of one stored variant at one precision from the reference, over all samples."""

    variant: str
    precision: str
    max_difference: float
    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Timing:
    """Median milliseconds for one frame."""

    runtime: str
    variant: str
    precision: str
    shape: str
    ms: float
    cpu: str
    isa: str
    cores: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, rounded for reading."""
        return {**asdict(self), "ms": round(self.ms, 3)}


def measure_parity(
    reference: Reference, onnx_path: Path, samples: Samples, *, whole: bool = False
) -> list[ParityRow]:
    """Compare the float graph on both runtimes with the reference, in f32.

    Parameters
    ----------
    reference : Reference
    onnx_path : Path
        The graph of a bundle.
    samples : Samples
    whole : bool
        The network runs on a thumbnail.
    """
    sizes = [*PARITY_SIZES[:-1], _WHOLE_LAST if whole else PARITY_SIZES[-1]]
    graphs: list[Callable[[Planes, float], Planes]] = [
        OrtGraph(str(onnx_path)),
        OpenvinoGraph(read_graph(onnx_path)),
    ]
    rows = []
    for index, (height, width) in enumerate(sizes):
        image = samples.crop(index, height, width)
        found = []
        for strength in _STRENGTHS:
            wanted = reference(image, strength)
            if not np.isfinite(wanted).all():
                raise VerificationError(
                    f"the source model returns NaN or infinity at {width}x{height}: no bundle was"
                    " written; check its weights and --range"
                )
            found.append([_difference(graph(image, strength), wanted) for graph in graphs])
        name = samples.names[index % len(samples.names)]
        # NumPy's maximum keeps NaN, which Python's drops.
        alone = None if whole else reference.unpadded(image)
        continued = None if alone is None else _difference(reference(image), alone)
        by_ort, by_openvino = np.max(found, axis=0).tolist()
        rows.append(ParityRow(f"{width}x{height}", name, by_ort, by_openvino, continued))
    return rows


def require_parity(rows: list[ParityRow]) -> None:
    """Raise where a converted model differs from its source.

    Raises
    ------
    VerificationError
        Names the runtime, the size and the difference.
    """
    for row in rows:
        for runtime, found in (("ONNX Runtime", row.onnxruntime), ("OpenVINO", row.openvino)):
            if not found <= PARITY_LIMIT:
                raise VerificationError(
                    f"{runtime} differs from the source model by {found:.2g} at {row.size},"
                    f" more than {PARITY_LIMIT:g}: no bundle was written"
                )


def check_unpadded(
    rows: list[ParityRow], signature: Signature, declared: Mapping[str, Any]
) -> str | None:
    """Return what continuing a frame changes, in one line; None where it is nothing.

    Raises
    ------
    VerificationError
        Where that is more than parity allows, and nobody declares that frames are continued.
    """
    far = [row for row in rows if row.unpadded is not None and not row.unpadded <= PARITY_LIMIT]
    if not far:
        return None
    row, multiple = far[0], signature.multiple_of
    told = (
        f"frames are continued by their edge to multiples of {multiple} px, and the source, which"
        f" takes {row.size} as it is, differs from that by {row.unpadded:.2g}"
    )
    if int(declared.get("multiple_of", 1)) % multiple:
        raise VerificationError(
            f"{told}: no bundle was written; where they are to be continued, say so with"
            f" --multiple-of {multiple} or the attribute multiple_of"
        )
    return told


def _difference(made: Planes, wanted: Planes) -> float:
    if made.shape != wanted.shape:
        raise VerificationError(f"the converted model returns {made.shape}, not {wanted.shape}")
    return float(np.abs(made - wanted).max())


def measure_precision(
    reference: Reference, variants: dict[str, Path], samples: Samples
) -> list[PrecisionRow]:
    """Compare stored variants at f32 and, where the CPU has it, bf16 with the reference."""
    images = [
        samples.crop(index, *PRECISION_SIZE)
        for index in range(min(_PRECISION_SAMPLES, len(samples.images)))
    ]
    wanted = [reference(image) for image in images]
    rows = []
    for variant, path in variants.items():
        model = read_graph(path)
        for precision in cpu_floats():
            graph = OpenvinoGraph(model, precision, PRECISION_SIZE)
            made = [graph(image) for image in images]
            pairs = list(zip(made, wanted, strict=True))
            rows.append(
                PrecisionRow(
                    variant,
                    precision.hint,
                    float(np.max([_difference(a, b) for a, b in pairs])),
                    float(np.min([psnr(a, b) for a, b in pairs])),
                    float(np.min([ssim(pixels_of(a), pixels_of(b)) for a, b in pairs])),
                )
            )
    return rows


def measure_speed(
    source: NetworkFunction | None, variants: dict[str, Path], samples: Samples
) -> list[Timing]:
    """Time one frame in PyTorch, where there is a PyTorch model, and on OpenVINO's CPU."""
    height, width = TIMING_SIZE
    image = samples.crop(0, height, width)

    def compiled(path: Path, precision: Precision) -> NetworkFunction:
        return OpenvinoGraph(read_graph(path), precision, TIMING_SIZE)

    return time_runtimes(source, compiled, variants, image, f"{width}x{height}")


def time_runtimes(
    source: NetworkFunction | None,
    compiled: Callable[[Path, Precision], NetworkFunction],
    variants: dict[str, Path],
    tensor: Planes,
    shape: str,
) -> list[Timing]:
    """Time the source, and each variant on OpenVINO's CPU at each float precision.

    Parameters
    ----------
    source : callable or None
        None where there is no PyTorch model.
    compiled : callable
        From a variant's graph and a precision to a function of ``tensor``.
    variants : dict of str to Path
    tensor : ndarray, f32
    shape : str
        Of the tensor, for reports.
    """
    cpu = cpu_info()
    calls = {("PyTorch", "source", Precision.FP32.hint): source} if source is not None else {}
    for variant, path in variants.items():
        for precision in cpu_floats():
            calls["OpenVINO", variant, precision.hint] = compiled(path, precision)
    return [
        Timing(*names, shape, milliseconds(partial(call, tensor)), cpu.name, cpu.isa, cpu.cores)
        for names, call in calls.items()
    ]
