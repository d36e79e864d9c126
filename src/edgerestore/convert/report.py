"""Report of a conversion: what was measured, as JSON, a table for a terminal, and a page."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec.structs
import numpy as np

from ..bundle.manifest import Manifest, TilingMode
from ..imaging.degradations import Degradation
from ..imaging.metrics import psnr
from ..reports.pages import render
from ..reports.pictures import Picture, amplified, picture
from ..reports.tables import Table, number
from ..runtimes.machine import cpu_facts
from .reference import Reference
from .samples import Samples
from .verify import PARITY_LIMIT, ParityRow, PrecisionRow, Timing

__all__ = ["ImageMeasurements", "Measurements", "TilingProof", "text_table", "write_report"]

_CROP_PX = 256  # shown pixel by pixel: scaling would hide what matters
_SHOWN = 2


@dataclass(frozen=True)
class TilingProof:
    """Tiles against the whole frame, on a real picture at f32.

    Parameters
    ----------
    difference : float
        The largest, in [0, 1] units.
    setup : str
        Sizes of frame and tiles.
    """

    difference: float
    setup: str


@dataclass(frozen=True)
class Measurements(ABC):
    """What a conversion measured: the part that every kind of output shares.

    Parameters
    ----------
    manifest : Manifest
    speed : list of Timing
    samples : Samples
    """

    manifest: Manifest
    speed: list[Timing]
    samples: Samples

    template: ClassVar[str]

    @property
    @abstractmethod
    def compared_with(self) -> str:
        """The source of the reference values."""

    @abstractmethod
    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance from the float model, for the manifest."""

    @abstractmethod
    def checks(self) -> dict[str, Any]:
        """Return the part of ``report.json`` that depends on the kind of output."""

    @abstractmethod
    def tables(self) -> tuple[Table, Table]:
        """Return parity and precision, for the terminal and the page alike."""

    @abstractmethod
    def tiling_line(self) -> str:
        """Return how frames are cut, in one line."""

    @abstractmethod
    def note(self) -> str:
        """Return what the model was compared on, in one line."""

    @abstractmethod
    def context(self) -> dict[str, Any]:
        """Return the variables of the page that depend on the kind of output."""

    def timings_of(self, variant: str) -> list[dict[str, Any]]:
        """Return a variant's timings for the manifest."""
        return [row.as_dict() for row in self.speed if row.variant == variant]

    def speed_table(self) -> Table:
        """Return the timings, a row for each runtime, variant and precision."""
        rows = [
            (f"{row.runtime} {row.variant}", row.precision, row.shape, f"{row.ms:.2f}")
            for row in self.speed
        ]
        return Table(("speed", "precision", "shape", "ms"), rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        cpu = cpu_facts()
        return {
            "name": self.manifest.name,
            "source": self.manifest.source,
            "compared_with": self.compared_with,
            "samples": {"names": self.samples.names, "synthetic": self.samples.synthetic},
            **self.checks(),
            "speed": [row.as_dict() for row in self.speed],
            "machine": {"cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores},
            "tools": self.manifest.tools,
        }


@dataclass(frozen=True)
class ImageMeasurements(Measurements):
    """What converting a network that returns images or masks measured.

    Parameters
    ----------
    parity : list of ParityRow
    precision : list of PrecisionRow
    tiling : TilingProof
    reference : Reference
        Restores the pictures of the page.
    eager : bool
        Whether the reference is a PyTorch model, and not the source's graph.
    """

    parity: list[ParityRow]
    precision: list[PrecisionRow]
    tiling: TilingProof
    reference: Reference
    eager: bool

    template: ClassVar[str] = "conversion.html"

    @property
    def compared_with(self) -> str:
        """The source of the reference values."""
        return "PyTorch" if self.eager else "the source graph in ONNX Runtime"

    @property
    def worst(self) -> float:
        """Largest difference from the source at f32."""
        return max(max(row.onnxruntime, row.openvino) for row in self.parity)

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance from the float model, for the manifest."""
        facts: dict[str, Any] = {
            row.precision: {
                "max_difference": row.max_difference,
                "psnr_db": _finite(row.psnr_db),
                "ssim": round(row.ssim, 6),
            }
            for row in self.precision
            if row.variant == variant
        }
        if variant == "fp32":
            facts["parity_max_difference"] = self.worst
            facts["tiled_max_difference"] = self.tiling.difference
        return facts

    def checks(self) -> dict[str, Any]:
        """Return the part of ``report.json`` that depends on the kind of output."""
        precision = [{**asdict(row), "psnr_db": _finite(row.psnr_db)} for row in self.precision]
        return {
            "parity": {"limit": PARITY_LIMIT, "rows": [asdict(row) for row in self.parity]},
            "precision": precision,
            "tiling": {**msgspec.structs.asdict(self.manifest.tiling), **asdict(self.tiling)},
        }

    def tables(self) -> tuple[Table, Table]:
        """Return parity and precision, for the terminal and the page alike."""
        parity = [
            (row.size, number(row.onnxruntime), number(row.openvino), row.sample)
            for row in self.parity
        ]
        precision = [
            (
                f"{row.variant} at {row.precision}",
                number(row.max_difference),
                f"{row.psnr_db:.2f}" if math.isfinite(row.psnr_db) else "equal",
                f"{row.ssim:.5f}",
            )
            for row in self.precision
        ]
        return (
            Table(("parity at f32", "ONNX Runtime", "OpenVINO", "sample"), parity),
            Table(("precision", "max difference", "PSNR dB", "SSIM"), precision),
        )

    def tiling_line(self) -> str:
        """Return how frames are cut, in one line."""
        tiling = self.manifest.tiling
        proved = f"; whole against tiles differ by {number(self.tiling.difference)}"
        if tiling.mode is TilingMode.EXACT:
            halos = f"halo {tiling.halo_px} px, measured {tiling.halo_measured_px} px"
            return f"exact: {halos}{proved}"
        if tiling.mode is TilingMode.WHOLE:
            return "frames are never cut: the network reads a thumbnail of the whole"
        size = f"window {tiling.window_px} px, ramp {tiling.ramp_px} px"
        return f"windowed: {tiling.reason}; {size}{proved}"

    def note(self) -> str:
        """Return what the model was compared on, in one line."""
        drawn = ", drawn" if self.samples.synthetic else ""
        return f"compared with {self.compared_with} on {len(self.samples.names)} pictures{drawn}"

    def context(self) -> dict[str, Any]:
        """Return the variables of the page that depend on the kind of output."""
        manifest = self.manifest
        scale = f", x{manifest.output.upscale}" if manifest.output.upscale > 1 else ""
        pictures, note = self._pictures()
        return {
            "about": f"{manifest.task} ({manifest.input.color}{scale})",
            "highlights": [
                (number(self.worst), "largest difference from the source at f32"),
                self._tiling_highlight(),
            ],
            "pictures": pictures,
            "pictures_note": note,
            "limit": f"{PARITY_LIMIT:g}",
            "tiling": self._tiling_pairs(),
        }

    def _pictures(self) -> tuple[list[list[Picture]], str]:
        """Return rows of the input, the output and the change, and where they are from."""
        manifest, rows = self.manifest, []
        if not manifest.output.kind.traits.blended:
            return [], ""
        degradation = Degradation.for_task(manifest.task, manifest.output.upscale)
        degrades = degradation.kind != "none"
        for index in range(min(_SHOWN, len(self.samples.images))):
            clean = self.samples.crop(index, _CROP_PX, _CROP_PX)
            pixels = np.ascontiguousarray(clean[0].transpose(1, 2, 0))
            degraded = degradation.apply(pixels, np.random.default_rng(0))
            given = np.ascontiguousarray(degraded.transpose(2, 0, 1)[None])
            made, base = self.reference(given), self.reference(given, 0.0)
            change, gain = amplified(made - base)
            before, after = f"{self.samples.names[index]}, input", "restored"
            if degrades and clean.shape == made.shape:
                before += f", {psnr(base, clean):.2f} dB"
                after += f", {psnr(made, clean):.2f} dB"
            words = f"the change, {gain} times" if gain else "no change"
            shown = ((base, before), (made, after), (change, words))
            rows.append([picture(planes, caption) for planes, caption in shown])
        origin = "Drawn scenes." if self.samples.synthetic else "Crops of the samples."
        if degrades:
            origin += f" Before restoring: {degradation.describe()}; dB against the clean picture."
        return rows, origin

    def _tiling_highlight(self) -> tuple[str, str]:
        tiling = self.manifest.tiling
        return {
            TilingMode.EXACT: (f"{tiling.halo_px} px", "halo, tiles exact"),
            TilingMode.WHOLE: ("whole", "frames are never cut"),
            TilingMode.WINDOWED: (f"{tiling.window_px} px", "window, tiles blended"),
        }[tiling.mode]

    def _tiling_pairs(self) -> list[tuple[str, str]]:
        tiling = self.manifest.tiling
        proof = f"{number(self.tiling.difference)} at most, {self.tiling.setup}"
        proved = ("tiled against whole", proof)
        if tiling.mode is TilingMode.WHOLE:
            return [("mode", self.tiling_line())]
        if tiling.mode is TilingMode.WINDOWED:
            size = f"{tiling.window_px} px with ramps of {tiling.ramp_px} px"
            return [("mode", f"windowed, since {tiling.reason}"), ("window", size), proved]
        halo = f"{tiling.halo_px} px from the graph; changes reached {tiling.halo_measured_px} px"
        grid = f"origins at multiples of {self.manifest.input.multiple_of} px"
        return [("halo", halo), ("grid", grid), proved]


def text_table(found: Measurements) -> str:
    """Return what was measured as aligned plain text."""
    manifest, source, cpu = found.manifest, found.manifest.source, cpu_facts()
    parts = [
        f"{manifest.name}: {manifest.task}, {source['architecture']} from {source['file']}",
        f"tiles     {found.tiling_line()}",
        f"machine   {cpu.name}, {cpu.cores} cores, {cpu.isa}",
    ]
    for table in (*found.tables(), found.speed_table()):
        parts += ["", *table.lines()]
    return "\n".join([*parts, "", found.note()])


def write_report(folder: Path, found: Measurements) -> None:
    """Write ``report.json`` and ``report.html`` into a bundle's folder.

    Parameters
    ----------
    folder : Path
        Holds the variants already.
    found : Measurements

    Raises
    ------
    MissingExtraError
        When the libraries of pages are not installed.
    """
    text = json.dumps(found.as_dict(), indent=2, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(_page(found), encoding="utf-8")


def _page(found: Measurements) -> str:
    manifest, source, cpu = found.manifest, found.manifest.source, cpu_facts()
    fastest = min(found.speed, key=lambda row: row.ms)
    size = sum(file.bytes for v in manifest.variants.values() for file in v.files.values())
    parity, precision = found.tables()
    levels = manifest.input
    special = found.context()
    about = f"{special.pop('about')}, licence {manifest.licence}"
    highlights = [
        *special.pop("highlights"),
        (f"{fastest.ms:.1f} ms", f"{fastest.shape}, {fastest.runtime} {fastest.precision}"),
        (f"{size / 1e6:.2f} MB", "graphs and weights, all variants"),
    ]
    arguments = ", ".join(f"{key}={value}" for key, value in source["arguments"].items())
    return render(
        found.template,
        title=f"{manifest.name}: conversion report",
        name=manifest.name,
        subtitle=" · ".join(filter(None, (manifest.summary, about))),
        highlights=highlights,
        compared_with=found.compared_with,
        parity=parity,
        precision=precision,
        speed=found.speed_table(),
        machine=f"{cpu.name}, {cpu.isa}, {cpu.cores} cores",
        source=[
            ("file", f"{source['file']} ({source['kind']})"),
            ("sha256", source["sha256"]),
            ("network", f"{source['architecture']}({arguments})"),
            (
                "input",
                f"{levels.channels} channels, {levels.color}, black is {levels.black:g},"
                f" white {levels.value_range:g}",
            ),
            ("tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items())),
        ],
        **special,
    )


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
