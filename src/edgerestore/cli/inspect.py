"""``info``, ``models`` and ``devices``: what is here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..bundle.manifest import InputPort, OutputPort

__all__ = ["devices_command", "info_command", "models_command"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info_command(
    model: Annotated[str, typer.Argument(help="A model's name or a bundle's folder.")],
    as_json: AsJson = False,
) -> None:
    """Check a bundle, every file's hash included, and show what it says of itself."""
    from ..bundle.bundle import Bundle
    from ..bundle.kinds import InputKind
    from ..bundle.manifest import TilingMode

    bundle = Bundle.find(model)
    bundle.verify()
    manifest = bundle.manifest
    if as_json:
        typer.echo(manifest.to_json(), nl=False)
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
        "folder": str(bundle.folder),
        "input": "; ".join(_taken(p) for p in manifest.inputs if p.kind is InputKind.IMAGE),
        "output": "; ".join(_given(port) for port in manifest.outputs),
        "tiles": f"{tiles}; {tiling.reason}",
        "strength": str(manifest.strength),
        "architecture": str(manifest.source.get("architecture", "unknown")),
    }
    for name, value in rows.items():
        typer.echo(f"{name:>13}  {value}")
    for name, variant in manifest.variants.items():
        size_kib = sum(f.bytes for f in variant.files.values()) / 1024
        typer.echo(f"{name:>13}  {size_kib:.0f} KiB, {', '.join(variant.files)}: unchanged")


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

    manifests = [Bundle.find(name).manifest for name in model_names()]
    if as_json:
        rows = [{"name": m.name, "task": m.task, "summary": m.summary} for m in manifests]
        typer.echo(json.dumps(rows, indent=2))
        return
    for manifest in manifests:
        typer.echo(f"{manifest.name:<12} {manifest.task:<10} {manifest.summary}")


def devices_command(as_json: AsJson = False) -> None:
    """List the devices here, the runtime of each, and what it computes natively."""
    from ..runtimes import all_runtimes

    rows = [
        {
            "device": device,
            "runtime": runtime.name,
            "name": runtime.describe(device),
            "precisions": runtime.precisions(device),
        }
        for runtime in all_runtimes()
        for device in runtime.devices()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        precisions = ", ".join(row["precisions"])
        typer.echo(f"{row['device']:<8} {row['runtime']:<10} {row['name']}  ({precisions})")
