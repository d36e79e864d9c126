"""Report of a conversion: what was measured, as JSON, a table for a terminal, and a page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec.structs
import numpy as np

from ..bundle.manifest import Manifest, TilingMode
from ..engine.tiling.proof import TilingProof
from ..imaging.arrays import pixels_of, planes_of
from ..imaging.degradations import Degradation
from ..imaging.metrics import psnr
from ..reports.pages import render
from ..reports.pictures import Picture, amplified, picture
from ..reports.tables import Table, number, plain
from ..runtimes.machine import cpu_info
from .samples import Samples
from .verify import PARITY_LIMIT, ParityRow, PrecisionRow, Reference, Timing

__all__ = ["Measurements", "image_measurements", "text_table", "write_report"]

_CROP_PX = 256  # shown pixel by pixel: scaling would hide what matters
_SHOWN = 2


@dataclass(frozen=True)
class Measurements:
    """Results of a conversion's checks, ready for the manifest and the reports.

    Parameters
    ----------
    manifest : Manifest
    samples : Samples
    speed : list of Timing
    compared_with : str
        Source of the reference values.
    quality : dict of str to dict
        Distance of each stored variant from the float model, for the manifest.
    checks : dict
        The part of ``report.json`` that depends on the kind of output.
    parity, precision : Table
    tiling : str
        How frames are cut, in one line.
    note : str
        What the model was compared on, in one line.
    template : str
        Of the page.
    page : dict
        Variables of the template that depend on the kind of output; ``about`` and
        ``highlights`` are completed by what every kind has.
    """

    manifest: Manifest
    samples: Samples
    speed: list[Timing]
    compared_with: str
    quality: dict[str, dict[str, Any]]
    checks: dict[str, Any]
    parity: Table
    precision: Table
    tiling: str
    note: str
    template: str
    page: dict[str, Any]

    def quality_of(self, variant: str) -> dict[str, Any]:
        """Return a variant's distance from the float model, for the manifest."""
        return self.quality.get(variant, {})

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
        cpu = cpu_info()
        return {
            "name": self.manifest.name,
            "source": self.manifest.source,
            "compared_with": self.compared_with,
            "samples": {"names": self.samples.names, "synthetic": self.samples.synthetic},
            **self.checks,
            "speed": [row.as_dict() for row in self.speed],
            "machine": {"cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores},
            "tools": self.manifest.tools,
        }


def image_measurements(
    manifest: Manifest,
    samples: Samples,
    speed: list[Timing],
    parity: list[ParityRow],
    precision: list[PrecisionRow],
    proof: TilingProof,
    reference: Reference | None,
    *,
    eager: bool,
) -> Measurements:
    """Return the results for a network that returns images or masks.

    Parameters
    ----------
    manifest : Manifest
    samples : Samples
    speed : list of Timing
    parity : list of ParityRow
    precision : list of PrecisionRow
    proof : TilingProof
    reference : Reference or None
        Restores the pictures of the page; None leaves them out.
    eager : bool
        Whether the reference is a PyTorch model, and not the source's graph.
    """
    worst = max(max(row.onnxruntime, row.openvino) for row in parity)
    quality: dict[str, dict[str, Any]] = {"fp32": {}}
    for row in precision:
        quality.setdefault(row.variant, {})[row.precision] = {
            "max_difference": _finite(row.max_difference, None),
            "psnr_db": _finite(row.psnr_db),
            "ssim": _finite(row.ssim, 6),
        }
    quality["fp32"]["parity_max_difference"] = worst
    quality["fp32"]["tiled_max_difference"] = proof.difference
    compared_with = "PyTorch" if eager else "the source graph in ONNX Runtime"
    drawn = ", drawn" if samples.synthetic else ""
    scale = f", x{manifest.output.upscale}" if manifest.output.upscale > 1 else ""
    pictures, pictures_note = _pictures(manifest, samples, reference)
    tiling, in_short, details = _tiling(manifest, proof)
    return Measurements(
        manifest=manifest,
        samples=samples,
        speed=speed,
        compared_with=compared_with,
        quality=quality,
        checks={
            "parity": {"limit": PARITY_LIMIT, "rows": [asdict(row) for row in parity]},
            "precision": [
                {"variant": row.variant, "precision": row.precision}
                | quality[row.variant][row.precision]
                for row in precision
            ],
            "tiling": {**msgspec.structs.asdict(manifest.tiling), **asdict(proof)},
        },
        parity=Table(
            ("parity at f32", "ONNX Runtime", "OpenVINO", "sample"),
            [
                (row.size, number(row.onnxruntime), number(row.openvino), row.sample)
                for row in parity
            ],
        ),
        precision=Table(
            ("precision", "max difference", "PSNR dB", "SSIM"),
            [
                (
                    f"{row.variant} at {row.precision}",
                    number(row.max_difference),
                    "equal" if row.psnr_db == math.inf else f"{row.psnr_db:.2f}",
                    f"{row.ssim:.5f}",
                )
                for row in precision
            ],
        ),
        tiling=tiling,
        note=f"compared with {compared_with} on {len(samples.names)} pictures{drawn}",
        template="conversion.html",
        page={
            "about": f"{manifest.task} ({manifest.input.color}{scale})",
            "highlights": [(number(worst), "largest difference from the source at f32"), in_short],
            "pictures": pictures,
            "pictures_note": pictures_note,
            "limit": f"{PARITY_LIMIT:g}",
            "tiling": details,
        },
    )


def _pictures(
    manifest: Manifest, samples: Samples, reference: Reference | None
) -> tuple[list[list[Picture]], str]:
    """Return rows of the input, the output and the change, and where they are from."""
    if reference is None or manifest.output.kind != "image":
        return [], ""
    rows, degradation = [], Degradation.for_task(manifest.task, manifest.output.upscale)
    degrades = degradation.kind != "none"
    for index in range(min(_SHOWN, len(samples.images))):
        clean = samples.crop(index, _CROP_PX, _CROP_PX)
        given = planes_of(degradation.apply(pixels_of(clean), np.random.default_rng(0)))
        made, base = reference(given), reference(given, 0.0)
        change, gain = amplified(made - base)
        before, after = f"{samples.names[index]}, input", "restored"
        if degrades and clean.shape == made.shape:
            before += f", {psnr(base, clean):.2f} dB"
            after += f", {psnr(made, clean):.2f} dB"
        words = f"the change, {gain} times" if gain else "no change"
        shown = ((base, before), (made, after), (change, words))
        rows.append([picture(planes, caption) for planes, caption in shown])
    origin = "Drawn scenes." if samples.synthetic else "Crops of the samples."
    if degrades:
        origin += f" Before restoring: {degradation.describe()}; dB against the clean picture."
    return rows, origin


def _tiling(
    manifest: Manifest, proof: TilingProof
) -> tuple[str, tuple[str, str], list[tuple[str, str]]]:
    """Return how frames are cut: in one line, as a highlight, and in detail."""
    tiling = manifest.tiling
    proved, told = f"; whole against tiles {proof.setup}", proof.setup
    if proof.difference is not None:
        difference = number(proof.difference)
        proved = f"; whole against tiles differ by {difference}"
        told = f"{difference} at most, {proof.setup}"
    detail = ("tiled against whole", told)
    if tiling.mode is TilingMode.WHOLE:
        line = "frames are never cut: the network reads a thumbnail of the whole"
        return line, ("whole", "frames are never cut"), [("mode", line)]
    if tiling.mode is TilingMode.WINDOWED:
        window, ramp = f"{tiling.window_px} px", f"{tiling.ramp_px} px"
        details = [
            ("mode", f"windowed, since {tiling.reason}"),
            ("window", f"{window} with ramps of {ramp}"),
        ]
        line = f"windowed: {tiling.reason}; window {window}, ramp {ramp}{proved}"
        return line, (window, "window, tiles blended"), [*details, detail]
    halo, measured = f"{tiling.halo_px} px", f"{tiling.halo_measured_px} px"
    details = [
        ("halo", f"{halo} from the graph; changes reached {measured}"),
        ("grid", f"origins at multiples of {manifest.input.multiple_of} px"),
    ]
    line = f"exact: halo {halo}, measured {measured}{proved}"
    return line, (halo, "halo, tiles exact"), [*details, detail]


def text_table(found: Measurements) -> str:
    """Return what was measured as aligned plain text."""
    manifest, source, cpu = found.manifest, found.manifest.source, cpu_info()
    parts = [
        plain(f"{manifest.name}: {manifest.task}, {source['architecture']} from {source['file']}"),
        f"tiles     {found.tiling}",
        f"machine   {cpu.name}, {cpu.cores} cores, {cpu.isa}",
    ]
    for table in (found.parity, found.precision, found.speed_table()):
        parts += ["", *table.lines()] if table.rows else []
    return "\n".join([*parts, "", found.note])


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
    manifest, source, cpu = found.manifest, found.manifest.source, cpu_info()
    fastest = min(found.speed, key=lambda row: row.ms, default=None)
    size = sum(file.bytes for v in manifest.variants.values() for file in v.files.values())
    levels, special = manifest.input, dict(found.page)
    about = f"{special.pop('about')}, licence {manifest.licence}"
    highlights = [
        *special.pop("highlights"),
        *(
            [(f"{fastest.ms:.1f} ms", f"{fastest.shape}, {fastest.runtime} {fastest.precision}")]
            if fastest is not None
            else []
        ),
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
        parity=found.parity,
        precision=found.precision,
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


def _finite(value: float, digits: int | None = 3) -> float | None:
    """Return a figure for JSON, None where it is infinite, or no number (f16 may overflow)."""
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)
