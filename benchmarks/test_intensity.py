"""What restoration is worth on frames of 9 to 12 effective bits in 16: mapped, and as they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine.int8_error import int8_budget_db, int8_loss_db
from edgerestore.engine.intensity import IntensityRange
from edgerestore.imaging.arrays import ChannelOrder
from edgerestore.runtimes import runtime_for
from edgerestore.runtimes.protocol import Model

from .harness import Table
from .scenes import photograph

Tables = Callable[[str], Table]
Levels = NDArray[np.float64]

MODEL = "denoise-gray"
HELD_OUT = (13, 14, 15, 16)  # training never sees these
TILES_APART = 5  # of 25
BITS = (9, 10, 11, 12)
PHOTONS = (30, 100, 300)  # of white
READ_NOISE_PHOTONS = 4.0
BLACK = 64
INT8_LOSS_DB = 0.05


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame of a camera, and what it would be without noise."""

    frame: NDArray[np.uint16]
    clean: Levels
    span: float

    def psnr(self, image: NDArray[np.uint16]) -> float:
        """PSNR against the clean frame, white being the camera's."""
        error = np.mean((image - self.clean) ** 2)
        return float(10 * np.log10(self.span**2 / error))


@pytest.fixture(scope="module")
def scenes(shared_data: Path) -> dict[str, list[Levels]]:
    """Pictures in [0, 1]: photographs in grey, and real tiles of a microscope."""
    kodak = [photograph(shared_data / "kodak" / f"{name}.png") for name in HELD_OUT]
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) / 255.0 for one in kodak]
    paths = sorted((shared_data / "mosaics" / "mist_t01").glob("*.tif"))[::TILES_APART]
    tiles = np.stack([tifffile.imread(path) for path in paths]).astype(np.float64)
    series = (tiles - tiles.min()) / np.ptp(tiles)  # one range for all, as of one camera
    return {"Kodak 13-16": [one[64:448, 64:448] for one in grey], "MIST tiles": list(series)}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    bundle, runtime = Bundle.find(MODEL), runtime_for("CPU")
    return {
        one: runtime.load(bundle, "CPU", one, live=False)
        for one in (Precision.INT8, Precision.FP32)
    }


def shots(pictures: list[Levels], bits: int, photons: int) -> Iterator[Shot]:
    for seed, picture in enumerate(pictures):
        rng = np.random.default_rng(seed)
        span = 0.9 * (2**bits - 1 - BLACK)
        electrons = rng.poisson(picture * photons) + rng.normal(
            0, READ_NOISE_PHOTONS, picture.shape
        )
        frame = np.rint(BLACK + span / photons * electrons).clip(0, 2**bits - 1)
        yield Shot(frame.astype(np.uint16), BLACK + span * picture, span)


def test_effective_bits(
    scenes: dict[str, list[Levels]], models: dict[str, Model], table: Tables
) -> None:
    out = table(f"intensities: {MODEL}, 9 to 12 bits in 16, Poisson-Gaussian noise, PSNR")
    bundle, auto = Bundle.find(MODEL), IntensityRange()
    out.note(f"white is {PHOTONS} photons, read noise {READ_NOISE_PHOTONS:g}; full: not mapped")
    out.note("int8 kept: on frames where the engine would keep it, by its own estimate")
    with (
        edgerestore.load(MODEL, precision="fp32") as floats,
        edgerestore.load(MODEL, precision="int8") as int8,
        edgerestore.load(MODEL, precision="fp32", intensity_range="full") as full,
    ):
        for (name, pictures), bits, photons in itertools.product(scenes.items(), BITS, PHOTONS):
            rows, kept = [], []
            for shot in shots(pictures, bits, photons):
                mapping = auto.mapping(shot.frame)
                assert mapping is not None
                plane = mapping.levels(shot.frame)[..., None]
                loss_db = int8_loss_db(
                    bundle, models[Precision.INT8], models[Precision.FP32], plane, ChannelOrder.GRAY
                )
                made = [floats(shot.frame), int8(shot.frame), full(shot.frame)]
                rows.append([shot.psnr(one) for one in (shot.frame, *made)])
                kept += (
                    [rows[-1][1] - rows[-1][2]]
                    if loss_db <= int8_budget_db(bundle.manifest)
                    else []
                )
            given, by_float, by_int8, unmapped = np.mean(rows, axis=0)
            what = f"{name}, {bits} bits, {photons} photons"
            out.value(
                what,
                f"{given:.2f} dB becomes {by_float:.2f}, int8 {by_int8:.2f}, full {unmapped:.2f}",
            )
            least = min(row[1] - row[0] for row in rows)
            out.at_least(f"{what}: least gain", least, 0.0, "dB")
            if kept:
                lost = f"{what}: largest loss of int8, kept on {len(kept)} of {len(rows)}"
                out.at_most(lost, max(kept), INT8_LOSS_DB, "dB")
