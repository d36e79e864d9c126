"""What a person asks of quantization, checked before minutes of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..calibration.pictures import find_files
from ..errors import ArgumentError

__all__ = ["QuantizationOptions"]


@dataclass(frozen=True)
class QuantizationOptions:
    """What a person asks of quantization.

    Parameters
    ----------
    calibrate : sequence of Path
        Pictures, videos or folders of them.
    targets : Path or None
        Folder of ground truth with the pictures' names; then ``calibrate`` holds the
        degraded ones.
    degradation : str or None
        What clean pictures are given: ``blur``, ``noise:25``, ``downscale`` or ``none``;
        None takes it from the model's task.
    max_drop_db : float
        Largest mean loss of PSNR on held-out crops, above 0.
    crops : int
        To calibrate on.
    minutes : float
        After which no further candidate is begun.
    qat : bool
        Also fine-tune a candidate with quantizers in place, the float model as teacher.
    qat_minutes : float
    qat_steps : int or None
        A fixed number of steps, for a result that repeats itself.
    seed : int
    force : bool
        Write INT8 even over budget or slower.
    overwrite : bool
        Quantize again what has INT8 already.
    """

    calibrate: Sequence[Path]
    targets: Path | None = None
    degradation: str | None = None
    max_drop_db: float = 0.1
    crops: int = 24
    minutes: float = 30.0
    qat: bool = False
    qat_minutes: float = 60.0
    qat_steps: int | None = None
    seed: int = 0
    force: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.calibrate:
            raise ArgumentError("INT8 needs pictures to calibrate on: add --calibrate PATH")
        for name, value in (
            ("--max-drop-db", self.max_drop_db),
            ("--minutes", self.minutes),
            ("--qat-minutes", self.qat_minutes),
        ):
            if not 0 < value < float("inf"):
                raise ArgumentError(f"{name} {value:g}: expected a number above 0")
        find_files(self.calibrate)  # named wrongly, it is better said before minutes of work
