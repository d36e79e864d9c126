"""``info``, ``models`` and ``devices``: what is here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .printing import echo

if TYPE_CHECKING:
    from ..bundle.bundle import Bundle
    from ..bundle.manifest import InputPort, Manifest, OutputPort
    from ..engine.speed import FrameTime
    from ..runtimes.survey import DeviceFacts

__all__ = ["devices_command", "info_command", "models_command"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's name or a bundle's folder.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check a bundle, and show its facts and figures.

    Every file is compared with its hash.
    """
    from ..bundle.bundle import Bundle
    from ..bundle.kinds import InputKind
    from ..bundle.manifest import TilingMode
    from ..bundle.scores import stored_scores
    from ..engine.speed import known_frame_time

    bundle = Bundle.find(model)
    bundle.verify()
    manifest = bundle.manifest
    if as_json:
        echo(manifest.to_json(), nl=False)
        return
    tiling = manifest.tiling
    if tiling.mode is TilingMode.EXACT:
        tiles = f"exact, halo {tiling.halo_px} px (seen to matter: {tiling.halo_measured_px} px)"
    elif tiling.mode is TilingMode.WHOLE:
        tiles = "never cut"
    else:
        tiles = f"windowed, {tiling.window_px} px with a ramp of {tiling.ramp_px} px"
    rows = {
        "name": manifest.name,
        "task": manifest.task,
        "summary": manifest.summary,
        "licence": manifest.licence,
        "family": manifest.family or "none",
        "suited for": manifest.suited_for or "unspecified",
        "size": _size(manifest),
        "folder": str(bundle.folder),
        "input": "; ".join(_taken(p) for p in manifest.inputs if p.kind is InputKind.IMAGE),
        "output": "; ".join(_given(port) for port in manifest.outputs),
        "tiles": f"{tiles}; {tiling.reason}",
        "strength": str(manifest.strength),
        "architecture": str(manifest.source.get("architecture", "unknown")),
    }
    for name, value in rows.items():
        echo(f"{name:>13}  {value}")
    time = known_frame_time(bundle)
    if time is not None:
        echo(f"{'speed':>13}  {_speed(time)}")
    for score in stored_scores(manifest):
        echo(f"{'quality':>13}  {score['text']}")
    for name, variant in manifest.variants.items():
        size_kib = sum(f.bytes for f in variant.files.values()) / 1024
        echo(f"{name:>13}  {size_kib:.0f} KiB, {', '.join(variant.files)}: unchanged")


def _size(manifest: Manifest) -> str:
    parameters, gmac = manifest.parameters, manifest.gmac_720p
    cost = "unknown GMAC" if gmac is None else f"{gmac:g} GMAC for a frame of 1280x720"
    return f"{'unknown' if parameters is None else parameters} parameters, {cost}"


def _speed(time: FrameTime) -> str:
    where = "measured here" if time.origin == "here" else "measured at conversion"
    return (
        f"{time.ms:.3g} ms for {time.width}x{time.height} at {time.precision} on {time.device},"
        f" {where} ({time.machine})"
    )


def _taken(port: InputPort) -> str:
    """Describe an image that goes in."""
    if port.channels == 2 and port.size_px:
        return f"two grey tiles of {port.size_px}x{port.size_px} pixels, the reference first"
    return f"{port.channels} channels, {port.color}, multiple of {port.multiple_of}"


def _given(port: OutputPort) -> str:
    """Describe a tensor that comes out."""
    meaning = port.kind.traits.meaning
    return f"{port.kind}, {meaning or f'{port.channels} channels, upscale {port.upscale}'}"


def models_command(as_json: AsJson = False) -> None:
    """List the models that come with the package."""
    from ..bundle.bundle import Bundle, model_names
    from ..reports.tables import Table

    rows = [_facts(Bundle.find(name)) for name in model_names()]
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    head = ("name", "task", "family", "MB", "parameters", "GMAC", "speed", "quality", "licence")
    cells = [[_cell(row[name]) for name in head] for row in rows]
    for line in Table(head, cells).lines():
        echo(line)
    for row in rows:
        echo(f"\n{row['name']}: {row['summary']}")
        if row["suited_for"]:
            echo(f"  for: {row['suited_for']}")
    echo(
        "\nGMAC and speed are those of a 1280x720 frame. All figures of one: edgerestore info NAME"
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)


def _facts(bundle: Bundle) -> dict[str, Any]:
    """Return what ``models`` tells of a bundle."""
    from ..bundle.scores import stored_scores
    from ..engine.speed import known_frame_time, speed_class

    manifest = bundle.manifest
    size_bytes = sum(one.stat().st_size for one in bundle.folder.rglob("*") if one.is_file())
    time, scores = known_frame_time(bundle), stored_scores(manifest)
    return {
        "name": manifest.name,
        "task": manifest.task,
        "family": manifest.family,
        "summary": manifest.summary,
        "suited_for": manifest.suited_for,
        "licence": manifest.licence,
        "MB": round(size_bytes / 1e6, 2),
        "parameters": manifest.parameters,
        "GMAC": manifest.gmac_720p,
        "speed": None if time is None else speed_class(bundle, time),
        "frame_time": None if time is None else asdict(time),
        "quality": scores[0]["short"] if scores else None,
        "scores": scores,
        "folder": str(bundle.folder),
    }


def devices_command(as_json: AsJson = False) -> None:
    """List runtimes and devices, and what is missing."""
    from ..runtimes import runtime_table

    table = runtime_table()
    if as_json:
        rows = [
            {"runtime": facts.runtime, "version": facts.version, **asdict(device)}
            for facts in table
            for device in facts.devices
        ]
        missing: list[dict[str, Any]] = [
            {
                "runtime": facts.runtime,
                "version": facts.version,
                "device": None,
                "precisions": [],
                "fault": facts.fault,
            }
            for facts in table
            if facts.fault
        ]
        echo(json.dumps([*rows, *missing], indent=2))
        return
    for facts in table:
        if facts.fault:
            echo(f"{'-':<10} {facts.runtime:<12} {facts.fault}")
        for device in facts.devices:
            echo(f"{device.device:<10} {facts.runtime:<12} {_described(device)}")


def _described(device: DeviceFacts) -> str:
    if device.fault:
        return f"{device.name}: not available: {device.fault}"
    memory = device.memory_bytes and f"{device.memory_bytes / 2**30:.1f} GiB"
    told = [device.name, device.isa, memory, ", ".join(device.precisions)]
    return "  ".join(f"({part})" if place else part for place, part in enumerate(told) if part)
