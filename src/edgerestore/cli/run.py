"""``edgerestore run``: restore images, folders, video files, cameras and streams."""

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

# What a terminal sends, and what a service manager does.
_ENDING = (signal.SIGINT, signal.SIGTERM)


def run_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A file, folder or glob; camera:0, rtsp://..., http://..., udp://..., tcp://...;"
            " - for video on standard input.",
        ),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the outcome goes; may be given more than once. A file or folder;"
            " - for y4m on standard output; rtsp://..., rtmp://..., udp://..., tcp://..., srt://..."
            " to push; http://127.0.0.1:8080 to serve MJPEG; window; virtualcam.",
        ),
    ] = None,
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
    reuse_static: Annotated[
        bool, typer.Option("--reuse-static", help="Restore only what changed since the last frame.")
    ] = False,
    reuse_threshold: Annotated[
        float, typer.Option(help="Grey levels of 255 that count as no change; 0 is exact.")
    ] = 0.0,
    guard: Annotated[
        bool | None,
        typer.Option(
            "--guard/--no-guard",
            help="Show the input where the outcome is an artefact. Default: on live streams.",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[str | None, typer.Option(help="Video encoder.")] = None,
    crf: Annotated[float | None, typer.Option(help="Constant quality of the encoder.")] = None,
    preset: Annotated[str | None, typer.Option(help="Speed preset of the encoder.")] = None,
    pix_fmt: Annotated[str | None, typer.Option(help="Pixel format of the video.")] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Copy the sound.")] = True,
    segment: Annotated[
        str | None, typer.Option(help="Begin another file this often: 10m, 1h30m, 90s.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show a window with a slider.")
    ] = False,
    control: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Take requests that turn the stream.")
    ] = None,
    control_token: Annotated[
        str | None,
        typer.Option(envvar="EDGERESTORE_CONTROL_TOKEN", help="Wanted of those who turn it."),
    ] = None,
    max_staleness: Annotated[
        float, typer.Option(help="Seconds: an older frame of a live source is never shown.")
    ] = 1.0,
    overrun: Annotated[
        Literal["auto", "wait", "drop-oldest", "drop-newest"],
        typer.Option(help="When frames come faster than they are restored."),
    ] = "auto",
    retries: Annotated[
        int | None,
        typer.Option(help="Further attempts to reach a lost source; unlimited where not given."),
    ] = None,
    stall: Annotated[
        float, typer.Option(help="Seconds without a frame after which a source counts as lost.")
    ] = 10.0,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of a camera, or of raw frames.")
    ] = None,
    fps: Annotated[
        str | None, typer.Option(metavar="N", help="Of a camera, or of raw frames.")
    ] = None,
    fourcc: Annotated[str | None, typer.Option(help="A camera's format, such as MJPG.")] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="PIX_FMT", help="Standard input is raw frames, such as rgb24."),
    ] = None,
    rtsp_transport: Annotated[
        Literal["tcp", "udp"], typer.Option(help="How RTSP carries its packets.")
    ] = "tcp",
    target_fps: Annotated[
        float | None, typer.Option(help="Lower the work in steps to keep up with this rate.")
    ] = None,
    lighter: Annotated[
        list[str] | None, typer.Option(help="A model to fall back to for --target-fps.")
    ] = None,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime",
            help="Play a file at its own pace. Default: where somebody watches.",
            show_default=False,
        ),
    ] = None,
    progress: Annotated[
        Literal["auto", "json", "none"],
        typer.Option(help="A bar on a terminal, one JSON line a second, or nothing."),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Restore INPUT and write the outcome, with sound, timing and tags as they were.

    A camera, a network stream or a pipe is restored as it comes, until it ends or Ctrl-C.
    """
    from ..engine.adjustments import Adjustments
    from ..engine.load import load
    from ..engine.predictors.cutout import cut_out
    from ..streams.job import InputKind, input_kind, output_files, restore_path
    from ..streams.media.encoding import VideoOptions
    from ..streams.sources.registry import is_live
    from .streaming import StreamWishes, is_stream, run_stream

    outputs = [*(output or []), *(["window"] if preview else [])]
    wishes = StreamWishes(
        segment=segment,
        control=control,
        control_token=control_token,
        max_staleness_s=max_staleness,
        overrun=overrun,
        retries=retries,
        stall_s=stall,
        size=size,
        fps=fps,
        fourcc=fourcc,
        raw=raw,
        rtsp_transport=rtsp_transport,
        target_fps=target_fps,
        lighter=tuple(lighter or ()),
        realtime=realtime,
        overwrite=overwrite,
        progress="none" if quiet else progress,
    )
    video = VideoOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt, audio=audio)
    adjustments = Adjustments(
        brightness=_setting("brightness", brightness),
        contrast=_setting("contrast", contrast),
        balance=_setting("balance", balance),
    )
    streams, live = is_stream(source, outputs, wishes), is_live(source)

    def notice(line: str) -> None:
        if not quiet:
            typer.echo(f"edgerestore: {line}", err=True)

    with (
        load(
            model,
            device=device,
            precision=precision,
            tile=_tile(tile),
            strength=strength,
            memory_mb=memory_mb,
            tta=tta,
            live=live,
            reuse_static=reuse_threshold if reuse_static else None,
            guard=live if guard is None else guard,
        ) as loaded,
        _stop_on_interrupt() as stop,
    ):
        kind = None if streams else input_kind(source)
        files = (
            [Path(one) for one in outputs]
            if kind is None
            else output_files(kind, source, Path(outputs[0]))
        )
        restorer = cut_out(loaded, background, mask_only=mask_only, outputs=files, notice=notice)
        restorer.steady = kind in (None, InputKind.VIDEO)
        restorer.adjustments = adjustments
        name = restorer.bundle.manifest.name
        notice(f"{name} on {restorer.device} at {restorer.precision}: {restorer.precision_reason}")
        if streams:
            summary = run_stream(restorer, source, outputs, wishes, video, stop, notice)
        else:
            summary = restore_path(
                restorer,
                source,
                Path(outputs[0]),
                overwrite=overwrite,
                progress=wishes.progress,
                video=video,
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
        print("\nedgerestore: stopping, the output is finished first", file=sys.stderr)  # noqa: T201

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
