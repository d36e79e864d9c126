"""``edgerestore run``: restore images, folders, video files, cameras and streams."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .values import parse_auto, parse_duration, parse_rate, parse_size, parse_tile

if TYPE_CHECKING:
    from ..streams.options import InputKind, SourceOptions

__all__ = ["run_command"]

logger = logging.getLogger(__name__)

# What a terminal sends, and what a service manager does.
_ENDING = (signal.SIGINT, signal.SIGTERM)
_STDOUT = "-"

_INPUT, _OUTPUT, _MODEL, _QUALITY = "Input", "Output", "Model", "Quality"
_LIVE, _VIDEO = "Live", "Video"


def run_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A file, folder or glob; camera:0, rtsp://..., http://..., udp://..., tcp://...;"
            " - for video on standard input.",
        ),
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Of a camera, or of raw frames.", rich_help_panel=_INPUT),
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option(metavar="N", help="Of a camera, or of raw frames.", rich_help_panel=_INPUT),
    ] = None,
    fourcc: Annotated[
        str | None, typer.Option(help="A camera's format, such as MJPG.", rich_help_panel=_INPUT)
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="PIX_FMT",
            help="Standard input is raw frames, such as rgb24.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    rtsp_transport: Annotated[
        Literal["tcp", "udp"],
        typer.Option(help="Transport of RTSP packets.", rich_help_panel=_INPUT),
    ] = "tcp",
    stall: Annotated[
        float,
        typer.Option(
            help="Seconds without a frame after which a source counts as lost.",
            rich_help_panel=_INPUT,
        ),
    ] = 10.0,
    retries: Annotated[
        int | None,
        typer.Option(
            help="Further attempts to reach a lost source; unlimited where not given.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--no-realtime",
            help="Play a video file at its own pace. Default: where all outputs are for watching.",
            show_default=False,
            rich_help_panel=_INPUT,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="Output; may be given more than once. A file or folder; - for y4m on standard"
            " output; rtsp://..., rtmp://..., udp://..., tcp://..., srt://... to push;"
            " http://127.0.0.1:8080 to serve MJPEG; window; virtualcam.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Replace what is there.", rich_help_panel=_OUTPUT)
    ] = False,
    segment: Annotated[
        str | None,
        typer.Option(
            help="Begin another file this often: 10m, 1h30m, 90s.", rich_help_panel=_OUTPUT
        ),
    ] = None,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Show a window with a slider.", rich_help_panel=_OUTPUT),
    ] = False,
    progress: Annotated[
        Literal["auto", "json", "none"],
        typer.Option(
            help="A bar on a terminal, one JSON line a second, or nothing.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_OUTPUT)
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="A model's name or a bundle's folder; a+b or a*0.7+b averages.",
            rich_help_panel=_MODEL,
        ),
    ] = "deblur",
    device: Annotated[
        str, typer.Option(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...", rich_help_panel=_MODEL)
    ] = "CPU",
    runtime: Annotated[
        str,
        typer.Option(help="auto, or one that edgerestore devices lists.", rich_help_panel=_MODEL),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16, fp16 or int8.", rich_help_panel=_MODEL)
    ] = "auto",
    tile: Annotated[
        str, typer.Option(help="auto, or the side of a tile in pixels.", rich_help_panel=_MODEL)
    ] = "auto",
    memory_mb: Annotated[
        int | None,
        typer.Option(help="Memory budget of tiles in flight, MiB.", rich_help_panel=_MODEL),
    ] = None,
    strength: Annotated[
        float, typer.Option(help="0 input, 1 model, up to 2.", rich_help_panel=_QUALITY)
    ] = 1.0,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Average eight turns of each picture; 8 times the work.",
            rich_help_panel=_QUALITY,
        ),
    ] = False,
    brightness: Annotated[
        str,
        typer.Option(
            help="auto, or stops from -2 to 2.", metavar="auto|N", rich_help_panel=_QUALITY
        ),
    ] = "0",
    contrast: Annotated[
        str, typer.Option(help="auto, or -1 to 1.", metavar="auto|N", rich_help_panel=_QUALITY)
    ] = "0",
    balance: Annotated[
        str,
        typer.Option(
            help="White balance: auto, or -1 cold to 1 warm.",
            metavar="auto|N",
            rich_help_panel=_QUALITY,
        ),
    ] = "0",
    background: Annotated[
        str | None,
        typer.Option(
            help="Of models that cut out: none (transparent), white, black, #rrggbb or a picture."
            " Default: none where the output holds transparency, else white.",
            show_default=False,
            rich_help_panel=_QUALITY,
        ),
    ] = None,
    mask_only: Annotated[
        bool,
        typer.Option("--mask-only", help="Write the mask itself.", rich_help_panel=_QUALITY),
    ] = False,
    guard: Annotated[
        bool | None,
        typer.Option(
            "--guard/--no-guard",
            help="Show the input where the outcome is an artefact. Default: on live streams.",
            show_default=False,
            rich_help_panel=_QUALITY,
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Serve the control endpoint here.", rich_help_panel=_LIVE
        ),
    ] = None,
    control_token: Annotated[
        str | None,
        typer.Option(
            envvar="EDGERESTORE_CONTROL_TOKEN",
            help="Token that requests to the control endpoint must bring.",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    max_staleness: Annotated[
        float,
        typer.Option(
            help="Seconds: an older frame of a live source is never shown.", rich_help_panel=_LIVE
        ),
    ] = 1.0,
    overrun: Annotated[
        Literal["auto", "wait", "drop-oldest", "drop-newest", "latest"],
        typer.Option(
            help="Policy for frames that come faster than they are restored.",
            rich_help_panel=_LIVE,
        ),
    ] = "auto",
    reuse_static: Annotated[
        bool,
        typer.Option(
            "--reuse-static",
            help="Restore only what changed since the last frame.",
            rich_help_panel=_LIVE,
        ),
    ] = False,
    reuse_threshold: Annotated[
        float,
        typer.Option(
            help="Grey levels of 255 that count as no change; 0 is exact.", rich_help_panel=_LIVE
        ),
    ] = 0.0,
    target_fps: Annotated[
        float | None,
        typer.Option(
            help="Lower the work in steps to keep up with this rate.", rich_help_panel=_LIVE
        ),
    ] = None,
    lighter: Annotated[
        list[str] | None,
        typer.Option(help="A model to fall back to for --target-fps.", rich_help_panel=_LIVE),
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="Video encoder.", rich_help_panel=_VIDEO)
    ] = None,
    crf: Annotated[
        float | None, typer.Option(help="Constant quality of the encoder.", rich_help_panel=_VIDEO)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Speed preset of the encoder.", rich_help_panel=_VIDEO)
    ] = None,
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format of the video.", rich_help_panel=_VIDEO)
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Copy the sound.", rich_help_panel=_VIDEO)
    ] = True,
) -> None:
    """Restore INPUT and write the outcome, with sound, timing and tags as they were.

    A camera, a network stream or a pipe is restored as it comes, until it ends or Ctrl-C.
    """
    # Imported here: the runtime takes a second, and --help must not.
    from ..engine.adjustments import Adjustments
    from ..engine.load import load
    from ..engine.predictors.cutout import cut_out
    from ..errors import ArgumentError
    from ..streams.options import InputKind, LiveOptions, Overrun, VideoOptions, output_files
    from ..streams.progress import Progress
    from ..streams.session import Session
    from ..streams.sources.address import parse_address, redacted
    from ..streams.sources.registry import is_live

    if quiet:
        progress = "none"
        logging.getLogger("edgerestore").setLevel(logging.ERROR)
    outputs = [*(output or []), *(["window"] if preview else [])]
    options = LiveOptions(
        source=_source_options(size, fps, fourcc, raw, rtsp_transport, stall, retries),
        video=VideoOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt, audio=audio),
        overrun=None if overrun == "auto" else Overrun(overrun),
        max_staleness_s=max_staleness,
        segment_s=None if segment is None else parse_duration(segment),
        overwrite=overwrite,
        target_fps=target_fps,
        lighter=tuple(lighter or ()),
        realtime=realtime,
    )
    adjustments = Adjustments(
        brightness=parse_auto("brightness", brightness),
        contrast=parse_auto("contrast", contrast),
        balance=parse_auto("balance", balance),
    )
    streaming = any(one is not None for one in (segment, control, target_fps, raw))
    if not outputs:
        raise ArgumentError("nothing to write to; add -o OUTPUT, or --preview")
    address = parse_address(source)
    live = address is not None and is_live(address)
    kind = _input_kind(source, outputs, streaming or address is not None)
    with ExitStack() as stack:
        loaded = load(
            model,
            device=device,
            runtime=runtime,
            precision=precision,
            tile=parse_tile(tile),
            strength=strength,
            memory_mb=memory_mb,
            tta=tta,
            live=live,
            reuse_static=reuse_threshold if reuse_static else None,
            guard=live if guard is None else guard,
        )
        stack.enter_context(loaded)
        stop = stack.enter_context(_stop_on_interrupt())
        files = [Path(one) for one in outputs]
        if kind is not InputKind.STREAM:
            files = output_files(kind, source, files[0])
        restorer = cut_out(
            loaded, background, mask_only=mask_only, outputs=files, notice=logger.warning
        )
        restorer.adjustments = adjustments
        logger.info(
            "%s on %s at %s: %s",
            restorer.bundle.manifest.name,
            restorer.device,
            restorer.precision,
            restorer.precision_reason,
        )
        if progress == "json" and kind is InputKind.STREAM:
            stack.enter_context(_without_event_lines())  # they are lines of JSON already
        session = stack.enter_context(
            Session(restorer, address or source, outputs, options, kind=kind)
        )
        if control is not None:
            from ..server.control import ControlServer

            server = stack.enter_context(ControlServer(session, control, token=control_token))
            logger.info("control: http://%s/", server.address)
        reporter = stack.enter_context(
            Progress(
                progress,
                session.telemetry,
                ", ".join(redacted(one) for one in outputs),
                # Standard output may be taken by frames.
                stdout=sys.stderr if _STDOUT in outputs else None,
            )
        )
        summary = session.run(stop)
        reporter.done(summary.interrupted)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _source_options(
    size: str | None,
    fps: str | None,
    fourcc: str | None,
    raw: str | None,
    rtsp_transport: str,
    stall_s: float,
    retries: int | None,
) -> SourceOptions:
    from ..errors import ArgumentError
    from ..streams.options import SourceOptions
    from ..streams.sources.pipe import RawFormat

    width, height = (None, None) if size is None else parse_size(size)
    rate = None if fps is None else parse_rate(fps)
    raw_format = None
    if raw is not None:
        if width is None or height is None:
            raise ArgumentError("raw frames need their size; add --size WxH")
        raw_format = RawFormat(raw, width, height, *([] if rate is None else [rate]))
    return SourceOptions(
        width=width,
        height=height,
        fps=None if rate is None else float(rate),
        fourcc=fourcc,
        rtsp_transport=rtsp_transport,
        stall_s=stall_s,
        retries=retries,
        raw=raw_format,
    )


def _input_kind(source: str, outputs: Sequence[str], streaming: bool) -> InputKind:
    """Return what to open the input as: a stream, unless a path becomes another one."""
    from ..streams.options import InputKind, input_kind
    from ..streams.sinks.registry import is_path

    if streaming or len(outputs) > 1 or not is_path(outputs[0]):
        return InputKind.STREAM
    return input_kind(source)


@contextmanager
def _without_event_lines() -> Iterator[None]:
    """Print no event as a line of the log."""
    from ..streams import events

    log = logging.getLogger(events.__name__)
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


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
