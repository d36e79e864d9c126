"""``info``, ``models`` and ``devices``: what is here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

__all__ = ["devices_command", "info_command", "models_command"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info_command(
    model: Annotated[str, typer.Argument(help="A model's name or a bundle's folder.")],
    as_json: AsJson = False,
) -> None:
    """Check a bundle, every file's hash included, and show what it says of itself."""
    from ..bundle.bundle import Bundle
    from ..bundle.manifest import OutputKind, TilingMode

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
    taken = (
        f"{manifest.input.channels} channels, {manifest.input.color},"
        f" multiple of {manifest.input.multiple_of}"
    )
    given = (
        f"{manifest.output.kind}, {manifest.output.channels} channels,"
        f" upscale {manifest.output.upscale}"
    )
    if manifest.output.kind is OutputKind.SHIFT:
        side = manifest.input.minimum_px
        taken = f"two grey tiles of {side}x{side} pixels, the reference first"
        given = "shift, (dx, dy) in pixels by which the second tile's content is moved"
    rows = {
        "name": manifest.name,
        "task": manifest.task,
        "summary": manifest.summary,
        "licence": manifest.licence,
        "folder": str(bundle.folder),
        "input": taken,
        "output": given,
        "tiles": f"{tiles}; {tiling.reason}",
        "strength": str(manifest.strength),
        "architecture": str(manifest.source.get("architecture", "unknown")),
    }
    for name, value in rows.items():
        typer.echo(f"{name:>13}  {value}")
    for name, variant in manifest.variants.items():
        size_kib = sum(f.bytes for f in variant.files.values()) / 1024
        typer.echo(f"{name:>13}  {size_kib:.0f} KiB, {', '.join(variant.files)}: unchanged")


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
    """List the devices here and what each computes natively."""
    from ..runtimes import all_runtimes

    rows = [
        {
            "device": device,
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
        typer.echo(f"{row['device']:<8} {row['name']}  ({precisions})")
