"""The report as one page that needs nothing but itself: no network, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from ..calibration.metrics import psnr
from ..manifest import Manifest, TilingMode
from .reference import Reference
from .samples import Planes, Samples, degrade

__all__ = ["render"]

_SIDE = 256  # pictures as they are, pixel by pixel: scaling would hide what matters
_SHOWN = 2
_JPEG_QUALITY = 82
_GAIN = 8  # of the difference picture

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#5b6475;--line:#dfe3ea;--page:#f6f7f9;
--card:#fff;--good:#0a7f4f;--accent:#2f5fd0}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2b323e;
--page:#12151b;--card:#1a1f28;--good:#4fd39a;--accent:#8fb0ff}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.25rem 3rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.05rem;margin:0 0 .75rem}
p{margin:.25rem 0}.soft{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:1.1rem 1.25rem;margin-top:1rem;overflow-x:auto}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;
margin-top:1.25rem}.facts div{background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:.7rem .9rem}.facts b{display:block;font-size:1.15rem;
font-variant-numeric:tabular-nums}.facts span{color:var(--soft);font-size:.82rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .75rem .35rem 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}tr:last-child td{border:0}
th{font-weight:600;color:var(--soft);font-size:.82rem}
.pictures{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.75rem;
margin-bottom:.9rem}figure{margin:0}figure img{width:100%;height:auto;display:block;
border-radius:6px;image-rendering:auto}figcaption{font-size:.82rem;color:var(--soft);
margin-top:.3rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.25rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.good{color:var(--good)}
"""


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
    title = escape(manifest.name)
    body = "".join(
        [
            f"<h1>{title}</h1>",
            f'<p class="soft">{escape(_subtitle(manifest))}</p>',
            _highlights(facts, manifest),
            _pictures(manifest, reference, samples),
            _parity(facts),
            _precision(facts),
            _tiling(facts, manifest),
            _speed(facts),
            _source(facts, manifest),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}: conversion report</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _subtitle(manifest: Manifest) -> str:
    scale = f", x{manifest.output.upscale}" if manifest.output.upscale > 1 else ""
    kind = f"{manifest.task} ({manifest.input.color}{scale}), licence {manifest.licence}"
    return f"{manifest.summary} · {kind}" if manifest.summary else kind


def _highlights(facts: dict[str, Any], manifest: Manifest) -> str:
    worst = max(max(row["onnxruntime"], row["openvino"]) for row in facts["parity"]["rows"])
    fastest = min(facts["speed"], key=lambda row: row["ms"])
    exact = manifest.tiling.mode is TilingMode.EXACT
    size = sum(f.bytes for v in manifest.variants.values() for f in v.files.values())
    cells = [
        (_number(worst), "largest difference from the source at f32"),
        (
            f"{manifest.tiling.halo_px} px" if exact else f"{manifest.tiling.window_px} px",
            "halo, tiles exact" if exact else "window, tiles blended",
        ),
        (
            f"{fastest['ms']:.1f} ms",
            f"{fastest['shape']}, {fastest['runtime']} {fastest['precision']}",
        ),
        (f"{size / 1e6:.2f} MB", "graphs and weights, both variants"),
    ]
    made = "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in cells)
    return f'<div class="facts">{made}</div>'


def _pictures(manifest: Manifest, reference: Reference, samples: Samples) -> str:
    if manifest.output.kind != "image":
        return ""
    rows, flaw = [], ""
    for index in range(min(_SHOWN, len(samples.images))):
        clean = samples.crop(index, _SIDE, _SIDE)
        given, flaw = degrade(clean, manifest.task, manifest.output.upscale)
        made = reference(given)
        base = reference(given, 0.0)
        change = np.clip(0.5 + _GAIN / 2 * (made - base), 0, 1)
        name = samples.names[index]
        before, after = f"{name}, given", "restored"
        if flaw and clean.shape == made.shape:
            before += f", {psnr(base, clean):.2f} dB"
            after += f", {psnr(made, clean):.2f} dB"
        shown = ((base, before), (made, after), (change, f"the change, {_GAIN // 2} times"))
        figures = "".join(_figure(picture, caption) for picture, caption in shown)
        rows.append(f'<div class="pictures">{figures}</div>')
    origin = "Scenes drawn by the converter." if samples.synthetic else "Crops of the samples."
    note = f"{origin} Before restoring: {flaw}; dB against the clean picture." if flaw else origin
    return _section("Before and after", "".join(rows), note)


def _figure(planes: Planes, caption: str) -> str:
    pixels = np.rint(planes[0].transpose(1, 2, 0)[..., ::-1] * 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), quality)
    data = base64.b64encode(encoded.tobytes()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _parity(facts: dict[str, Any]) -> str:
    rows = [
        (row["size"], _number(row["onnxruntime"]), _number(row["openvino"]), row["sample"])
        for row in facts["parity"]["rows"]
    ]
    limit = facts["parity"]["limit"]
    note = (
        f"Largest absolute difference from {facts['compared_with']}, all at f32 and at strengths"
        f" 1 and 0.35, in units where white is 1. Limit {limit:g}."
    )
    return _section("Parity", _table(("size", "ONNX Runtime", "OpenVINO", "sample"), rows), note)


def _precision(facts: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['variant']} at {row['precision']}",
            _number(row["max_difference"]),
            "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.2f}",
            f"{row['ssim']:.5f}",
        )
        for row in facts["precision"]
    ]
    note = f"The worst of up to three samples, 256x256, against {facts['compared_with']} at f32."
    return _section(
        "Precision", _table(("variant", "max difference", "PSNR dB", "SSIM"), rows), note
    )


def _tiling(facts: dict[str, Any], manifest: Manifest) -> str:
    tiling = manifest.tiling
    difference = _number(facts["tiling"]["difference"])
    if tiling.mode is TilingMode.EXACT:
        pairs = [
            (
                "halo",
                f"{tiling.halo_px} px from the graph; a change was seen to reach"
                f" {tiling.halo_measured_px} px",
            ),
            ("grid", f"origins at multiples of {manifest.input.multiple_of} px"),
        ]
    else:
        pairs = [
            ("mode", f"windowed, since {tiling.reason}"),
            ("window", f"{tiling.window_px} px with ramps of {tiling.ramp_px} px"),
        ]
    pairs.append(("tiled against whole", f"{difference} at most, {facts['tiling']['setup']}"))
    return _section("Tiles", _pairs(pairs))


def _speed(facts: dict[str, Any]) -> str:
    rows = [
        (f"{row['runtime']} {row['variant']}", row["precision"], row["shape"], f"{row['ms']:.2f}")
        for row in facts["speed"]
    ]
    machine = facts["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}"
    note = f"Median, one frame at a time. {where}."
    return _section("Speed", _table(("runtime", "precision", "shape", "ms"), rows), note)


def _source(facts: dict[str, Any], manifest: Manifest) -> str:
    source = manifest.source
    arguments = ", ".join(f"{key}={value}" for key, value in source["arguments"].items())
    tools = ", ".join(f"{name} {version}" for name, version in facts["tools"].items())
    pairs = [
        ("file", f"{source['file']} ({source['kind']})"),
        ("sha256", source["sha256"]),
        ("network", f"{source['architecture']}({arguments})"),
        (
            "input",
            f"{manifest.input.channels} channels, {manifest.input.color}, white is"
            f" {manifest.input.value_range:g}",
        ),
        ("tools", tools),
    ]
    return _section("Source", _pairs(pairs))


def _section(title: str, content: str, note: str = "") -> str:
    below = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{content}{below}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in pairs)}</dl>"


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"
