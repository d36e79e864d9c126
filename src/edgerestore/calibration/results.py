"""Results of a quantization: plain values from the search to the report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..imaging.arrays import Planes

__all__ = [
    "Candidate",
    "DatasetInfo",
    "KindQuality",
    "KindResult",
    "PrecisionResult",
    "Quality",
    "QuantizationResults",
    "Sensitivity",
    "WorstCrop",
    "counted_reasons",
]


@dataclass(frozen=True)
class KindQuality:
    """Quality of a graph on the held-out crops of one kind of input: means over them.

    Parameters
    ----------
    kind : str
    psnr_db : float or None
        Against ground truth; None where there is none.
    psnr_to_float_db : float
        Against the float model's output.
    loss_db : float
        PSNR lost against the float model; below 0 for a gain. Without ground truth: the loss
        that the distance from the float model would be to a picture of 30 dB.
    worst_loss_db : float
    worst_crop : int
        The held-out crop that lost most, and its place among those of every kind.
    """

    kind: str
    psnr_db: float | None
    psnr_to_float_db: float
    loss_db: float
    worst_loss_db: float
    worst_crop: int


@dataclass(frozen=True)
class Quality:
    """Quality of a graph on the held-out crops.

    Parameters
    ----------
    psnr_db, ssim : float or None
        Against ground truth, on the task's own kind of input; None where there is none.
    psnr_to_float_db, ssim_to_float : float
        Against the float model's output, on the task's own kind.
    deciding : str
        The kind that loses most, of those that the budget must hold for.
    loss_db, worst_loss_db, worst_crop : float, float, int
        On that kind, as in `KindQuality`.
    kinds : tuple of KindQuality
        The task's own first.
    """

    psnr_db: float | None
    ssim: float | None
    psnr_to_float_db: float
    ssim_to_float: float
    deciding: str
    loss_db: float
    worst_loss_db: float
    worst_crop: int
    kinds: tuple[KindQuality, ...]

    def of(self, kind: str) -> KindQuality:
        """Return the quality on a kind of input."""
        return next(one for one in self.kinds if one.kind == kind)


@dataclass(frozen=True)
class Sensitivity:
    """Predicted loss of quantizing one operation alone.

    Parameters
    ----------
    operation : str
        Name in the graph.
    kind : str
        OpenVINO's type.
    macs_share : float
        Its part of all multiplications, in [0, 1].
    loss_db : float
        Predicted loss of PSNR when it alone is quantized.
    """

    operation: str
    kind: str
    macs_share: float
    loss_db: float


@dataclass(frozen=True)
class Candidate:
    """Quantized graph that was built and measured.

    Parameters
    ----------
    label : str
        Unique among the candidates: ``full INT8``, ``12 of 14 operations``, ...
    method : str
        ``post-training`` or ``fine-tuned``.
    kept : dict of str to str
        Operations left in float, and why.
    quantized : int
        Operations at INT8.
    macs_share : float
        Part of all multiplications done at INT8, in [0, 1].
    quality : Quality
    bytes : int
        Of the weights file.
    ms : float or None
        Median time of one frame at INT8; None where it was not timed.
    """

    label: str
    method: str
    kept: dict[str, str]
    quantized: int
    macs_share: float
    quality: Quality
    bytes: int
    ms: float | None = None


@dataclass(frozen=True)
class KindResult:
    """INT8 against float on one kind of input.

    Parameters
    ----------
    kind, summary : str
    judged : bool
        Whether the budget must hold for it.
    within_budget : bool
    float_db, int8_db : float or None
        PSNR against ground truth; None where the float model judges.
    to_float_db : float
        PSNR of INT8 against the float model's output.
    loss_db, worst_loss_db : float
        Mean, and of the picture that lost most.
    worst_picture : str
    """

    kind: str
    summary: str
    judged: bool
    within_budget: bool
    float_db: float | None
    int8_db: float | None
    to_float_db: float
    loss_db: float
    worst_loss_db: float
    worst_picture: str


@dataclass(frozen=True)
class PrecisionResult:
    """Size, time and quality of one stored precision."""

    precision: str
    bytes: int
    ms: float
    quality: Quality


@dataclass(frozen=True)
class DatasetInfo:
    """Calibration dataset: digest, recipe, counts.

    Parameters
    ----------
    digest : str
        sha256 over every crop's pixels, in order.
    recipe : dict
        How the crops were made: seed, degradation, crop size, counts, file names.
    calibration : int
        Crops to calibrate on.
    held_out : int
        Crops of each kind of input to judge by, from other images.
    truth : bool
        Whether ground truth is known.
    skipped : dict of str to str
        Files that gave no crop, and why.
    """

    digest: str
    recipe: dict[str, Any]
    calibration: int
    held_out: int
    truth: bool
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WorstCrop:
    """Held-out crop that lost most; arrays are f32 [1, C, H, W] in [0, 1]."""

    origin: str
    image: Planes
    float_output: Planes
    int8_output: Planes
    truth: Planes | None


@dataclass(frozen=True, eq=False)
class QuantizationResults:
    """All results of quantizing one model.

    Parameters
    ----------
    budget_db : float
    verdict : str
        One sentence: what was written or refused, and why.
    written : bool
        Whether the bundle has got its INT8 variant.
    chosen : str
        Label of the best candidate.
    candidates : tuple of Candidate
        In the order they were measured; at least one.
    sensitivities : tuple of Sensitivity
        The most sensitive first.
    kinds : tuple of KindResult
        Of the best candidate, the task's own kind first.
    runs : tuple of PrecisionResult
        f32, the native half where the CPU has one, and INT8.
    timing_shape : str
        Width x height of the frame that was timed.
    cpu, isa : str
    cores : int
    seed : int
    data : DatasetInfo
    worst : WorstCrop
    options : mapping of str to object
        Further options, and whether the search was complete.
    """

    budget_db: float
    verdict: str
    written: bool
    chosen: str
    candidates: tuple[Candidate, ...]
    sensitivities: tuple[Sensitivity, ...]
    kinds: tuple[KindResult, ...]
    runs: tuple[PrecisionResult, ...]
    timing_shape: str
    cpu: str
    isa: str
    cores: int
    seed: int
    data: DatasetInfo
    worst: WorstCrop
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into ``report.json``: everything but the pictures."""
        content: dict[str, Any] = _finite(asdict(self))
        return content | {"worst_crop": content.pop("worst")["origin"]}


def counted_reasons(skipped: Mapping[str, str]) -> str:
    """Return ``3 smaller than 128x128, 1 unreadable``: what is in parentheses differs."""
    reasons = Counter(reason.partition(" (")[0] for reason in skipped.values())
    return ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())


def _finite(value: Any) -> Any:
    """Replace values that JSON lacks: the PSNR of equal pictures, infinite, is null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
