"""The report as one page that needs nothing but itself: no network, no scripts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bundle.manifest import Manifest, Tiling, TilingMode
from ..imaging.degradations import Degradation
from ..imaging.metrics import psnr
from ..reports.page import figure, highlights, page, pairs, safe, section, table
from ..reports.text_grid import number
from .reference import Reference
from .samples import Samples

__all__ = ["render", "source_section", "speed_section"]

_SIDE = 256  # pictures as they are, pixel by pixel: scaling would hide what matters
_SHOWN = 2
_GAIN = 8  # of the difference picture


def render(
    facts: dict[str, Any], manifest: Manifest, reference: Reference, samples: Samples
) -> str:
    """Return the page.

    Parameters
    ----------
    facts : dict
        The content of ``report.json``.
    manifest : Manifest
    reference : Reference
        Restores the pictures that are shown.
    samples : Samples
    """
    body = "".join(
        [
            f"<h1>{safe(manifest.name)}</h1>",
            f'<p class="soft">{safe(_subtitle(manifest))}</p>',
            _highlights(facts, manifest),
            _pictures(manifest, reference, samples),
            _parity(facts),
            _precision(facts),
            _tiling(facts, manifest),
            speed_section(facts),
            source_section(facts, manifest),
        ]
    )
    return page(f"{manifest.name}: conversion report", body)


def _subtitle(manifest: Manifest) -> str:
    scale = f", x{manifest.output.upscale}" if manifest.output.upscale > 1 else ""
    kind = f"{manifest.task} ({manifest.input.color}{scale}), licence {manifest.licence}"
    return f"{manifest.summary} · {kind}" if manifest.summary else kind


def _highlights(facts: dict[str, Any], manifest: Manifest) -> str:
    worst = max(max(row["onnxruntime"], row["openvino"]) for row in facts["parity"]["rows"])
    fastest = min(facts["speed"], key=lambda row: row["ms"])
    size = sum(f.bytes for v in manifest.variants.values() for f in v.files.values())
    cells = [
        (number(worst), "largest difference from the source at f32"),
        _tiles_in_short(manifest.tiling),
        (
            f"{fastest['ms']:.1f} ms",
            f"{fastest['shape']}, {fastest['runtime']} {fastest['precision']}",
        ),
        (f"{size / 1e6:.2f} MB", "graphs and weights, both variants"),
    ]
    return highlights(cells)


def _pictures(manifest: Manifest, reference: Reference, samples: Samples) -> str:
    if manifest.output.kind != "image":
        return ""
    rows, degradation = [], Degradation.for_task(manifest.task, manifest.output.upscale)
    known = degradation.kind != "none"
    for index in range(min(_SHOWN, len(samples.images))):
        clean = samples.crop(index, _SIDE, _SIDE)
        picture = np.ascontiguousarray(clean[0].transpose(1, 2, 0))
        degraded = degradation.apply(picture, np.random.default_rng(0))
        given = np.ascontiguousarray(degraded.transpose(2, 0, 1)[None])
        made = reference(given)
        base = reference(given, 0.0)
        change = np.clip(0.5 + _GAIN / 2 * (made - base), 0, 1)
        name = samples.names[index]
        before, after = f"{name}, given", "restored"
        if known and clean.shape == made.shape:
            before += f", {psnr(base, clean):.2f} dB"
            after += f", {psnr(made, clean):.2f} dB"
        shown = ((base, before), (made, after), (change, f"the change, {_GAIN // 2} times"))
        figures = "".join(figure(picture, caption) for picture, caption in shown)
        rows.append(f'<div class="pictures">{figures}</div>')
    origin = "Scenes drawn by the converter." if samples.synthetic else "Crops of the samples."
    if known:
        origin += f" Before restoring: {degradation.describe()}; dB against the clean picture."
    return section("Before and after", "".join(rows), origin)


def _parity(facts: dict[str, Any]) -> str:
    rows = [
        (row["size"], number(row["onnxruntime"]), number(row["openvino"]), row["sample"])
        for row in facts["parity"]["rows"]
    ]
    limit = facts["parity"]["limit"]
    note = (
        f"Largest absolute difference from {facts['compared_with']}, all at f32 and at strengths"
        f" 1 and 0.35, in units where white is 1. Limit {limit:g}."
    )
    return section("Parity", table(("size", "ONNX Runtime", "OpenVINO", "sample"), rows), note)


def _precision(facts: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['variant']} at {row['precision']}",
            number(row["max_difference"]),
            "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.2f}",
            f"{row['ssim']:.5f}",
        )
        for row in facts["precision"]
    ]
    note = f"The worst of up to three samples, 256x256, against {facts['compared_with']} at f32."
    return section("Precision", table(("variant", "max difference", "PSNR dB", "SSIM"), rows), note)


def _tiling(facts: dict[str, Any], manifest: Manifest) -> str:
    tiling = manifest.tiling
    difference = number(facts["tiling"]["difference"])
    if tiling.mode is TilingMode.WHOLE:
        return section("Tiles", pairs([("mode", "never cut: a thumbnail of the frame is judged")]))
    if tiling.mode is TilingMode.EXACT:
        rows = [
            (
                "halo",
                f"{tiling.halo_px} px from the graph; a change was seen to reach"
                f" {tiling.halo_measured_px} px",
            ),
            ("grid", f"origins at multiples of {manifest.input.multiple_of} px"),
        ]
    else:
        rows = [
            ("mode", f"windowed, since {tiling.reason}"),
            ("window", f"{tiling.window_px} px with ramps of {tiling.ramp_px} px"),
        ]
    rows.append(("tiled against whole", f"{difference} at most, {facts['tiling']['setup']}"))
    return section("Tiles", pairs(rows))


def _tiles_in_short(tiling: Tiling) -> tuple[str, str]:
    if tiling.mode is TilingMode.EXACT:
        return f"{tiling.halo_px} px", "halo, tiles exact"
    if tiling.mode is TilingMode.WHOLE:
        return "whole", "frames are never cut"
    return f"{tiling.window_px} px", "window, tiles blended"


def speed_section(facts: dict[str, Any]) -> str:
    """Return the timings of ``report.json`` as a section."""
    rows = [
        (f"{row['runtime']} {row['variant']}", row["precision"], row["shape"], f"{row['ms']:.2f}")
        for row in facts["speed"]
    ]
    machine = facts["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}"
    note = f"Median, one frame at a time. {where}."
    return section("Speed", table(("runtime", "precision", "shape", "ms"), rows), note)


def source_section(facts: dict[str, Any], manifest: Manifest) -> str:
    """Return where a model came from as a section."""
    source = manifest.source
    arguments = ", ".join(f"{key}={value}" for key, value in source["arguments"].items())
    tools = ", ".join(f"{name} {version}" for name, version in facts["tools"].items())
    rows = [
        ("file", f"{source['file']} ({source['kind']})"),
        ("sha256", source["sha256"]),
        ("network", f"{source['architecture']}({arguments})"),
        (
            "input",
            f"{manifest.input.channels} channels, {manifest.input.color}, black is"
            f" {manifest.input.black:g}, white {manifest.input.value_range:g}",
        ),
        ("tools", tools),
    ]
    return section("Source", pairs(rows))
