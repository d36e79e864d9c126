"""``edgerestore run``: restore images, folders and video files."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["run_command"]


def run_command(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A file, folder or glob.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the outcome goes.")],
    model: Annotated[
        str, typer.Option(help="A model's name or a bundle's folder; a+b or a*0.7+b averages.")
    ] = "deblur",
    device: Annotated[str, typer.Option(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...")] = "CPU",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    strength: Annotated[float, typer.Option(help="0 input, 1 model, up to 2.")] = 1.0,
    brightness: Annotated[
        str, typer.Option(help="auto, or stops from -2 to 2.", metavar="auto|N")
    ] = "0",
    contrast: Annotated[str, typer.Option(help="auto, or -1 to 1.", metavar="auto|N")] = "0",
    balance: Annotated[
        str, typer.Option(help="Colours: auto, or -1 cold to 1 warm.", metavar="auto|N")
    ] = "0",
    background: Annotated[
        str | None,
        typer.Option(
            help="Of models that cut out: none (transparent), white, black, #rrggbb or a picture."
            " Default: none where the output holds transparency, else white.",
            show_default=False,
        ),
    ] = None,
    mask_only: Annotated[bool, typer.Option("--mask-only", help="Write the mask itself.")] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average eight turns of each picture; 8 times the work.")
    ] = False,
    tile: Annotated[str, typer.Option(help="auto, or the side of a tile in pixels.")] = "auto",
    memory_mb: Annotated[
        int | None, typer.Option(help="What tiles in flight may take, MiB.")
    ] = None,
    codec: Annotated[str | None, typer.Option(help="Video encoder.")] = None,
    crf: Annotated[float | None, typer.Option(help="Constant quality of the encoder.")] = None,
    preset: Annotated[str | None, typer.Option(help="Speed preset of the encoder.")] = None,
    pix_fmt: Annotated[str | None, typer.Option(help="Pixel format of the video.")] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Copy the sound.")] = True,
    progress: Annotated[
        Literal["auto", "json", "none"],
        typer.Option(help="A bar on a terminal, one JSON line a second, or nothing."),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Restore INPUT and write the outcome, with sound, timing and tags as they were."""
    from ..engine.adjustments import Adjustments
    from ..engine.cutout import cut_out
    from ..engine.job import InputKind, input_kind, output_files, restore_path
    from ..engine.load import load
    from ..engine.media.options import VideoOptions

    def notice(line: str) -> None:
        if not quiet:
            typer.echo(f"edgerestore: {line}", err=True)

    options = VideoOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt, audio=audio)
    adjustments = Adjustments(
        brightness=_setting("brightness", brightness),
        contrast=_setting("contrast", contrast),
        balance=_setting("balance", balance),
    )
    with (
        load(
            model,
            device=device,
            precision=precision,
            tile=_tile(tile),
            strength=strength,
            memory_mb=memory_mb,
            tta=tta,
        ) as loaded,
        _stop_on_interrupt() as stop,
    ):
        kind = input_kind(source)
        outputs = output_files(kind, source, output)
        restorer = cut_out(loaded, background, mask_only=mask_only, outputs=outputs, notice=notice)
        restorer.steady = kind is InputKind.VIDEO
        restorer.adjustments = adjustments
        name = restorer.bundle.manifest.name
        notice(f"{name} on {restorer.device} at {restorer.precision}: {restorer.precision_reason}")
        summary = restore_path(
            restorer,
            source,
            output,
            overwrite=overwrite,
            progress="none" if quiet else progress,
            video=options,
            notice=notice,
            stop=stop,
        )
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _setting(name: str, text: str) -> float | Literal["auto"]:
    from ..errors import ArgumentError

    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name} is auto or a number, got {text!r}") from None


def _tile(text: str) -> int | Literal["auto"]:
    from ..errors import ArgumentError

    if text == "auto":
        return "auto"
    if not text.isdigit():
        raise ArgumentError(f"tile is auto or a number of pixels above 0, got {text!r}")
    return int(text)


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets, so that the file in the making is finished.

    A second Ctrl-C stops at once.
    """
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nedgerestore: stopping, the file is finished first", file=sys.stderr)  # noqa: T201

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
