"""``edgerestore run``: restore images, folders, video files, cameras and streams."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .interruption import Stop, stop_on_interrupt
from .run_input import RunInput, run_input
from .unused import tell_unused
from .values import (
    parse_auto,
    parse_bytes,
    parse_duration,
    parse_rate,
    parse_size,
    parse_tile,
)

if TYPE_CHECKING:
    from ..engine.restorer import Restorer
    from ..microscopy.restore_planes import PlanesOptions
    from ..streams.options import SourceOptions

__all__ = ["run_command"]

logger = logging.getLogger(__name__)

_STDOUT = "-"

# What decides the frames of a video, besides what its session knows.
_SETTINGS = (
    *("model", "quality", "tta", "brightness", "contrast", "balance", "background", "mask_only"),
    *("intensity_range", "device", "guard", "audio"),
)

# Options by their panel of the help.
_input, _output, _model, _quality, _live, _video = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Input", "Output", "Model", "Quality", "Live", "Video")
)


def run_command(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="A file, folder or glob; several image files; camera:0, rtsp://..., http://...,"
            " udp://..., tcp://...; - for video on standard input.",
        ),
    ],
    size: Annotated[
        str | None, _input(metavar="WxH", help="Of a camera, or of raw frames.")
    ] = None,
    fps: Annotated[
        str | None,
        _input(metavar="N", help="Of a camera, of raw frames, or of a stream that states none."),
    ] = None,
    fourcc: Annotated[str | None, _input(help="A camera's format, such as MJPG.")] = None,
    raw: Annotated[
        str | None, _input(metavar="PIX_FMT", help="Standard input is raw frames, such as rgb24.")
    ] = None,
    rtsp_transport: Annotated[
        Literal["tcp", "udp"], _input(help="Transport of RTSP packets.")
    ] = "tcp",
    stall: Annotated[
        float, _input(help="Seconds without a frame after which a source counts as lost.")
    ] = 10.0,
    retries: Annotated[
        int | None,
        _input(help="Further attempts to reach a lost source; unlimited where not given."),
    ] = None,
    keep_gaps: Annotated[
        bool,
        _input(
            "--keep-gaps",
            help="Keep pauses of over 10 s in a transport stream, which are closed otherwise.",
        ),
    ] = False,
    deinterlace: Annotated[
        Literal["auto", "off"],
        _input(help="Interlaced frames of a video or stream: auto makes whole ones of them."),
    ] = "auto",
    hold_damaged: Annotated[
        bool,
        _input(
            "--hold-damaged",
            help="After a damaged picture of a network stream, show nothing before a key frame.",
        ),
    ] = False,
    max_pixels: Annotated[
        int, _input(metavar="N", help="A picture that states more pixels is not read; 0 reads any.")
    ] = 180_000_000,
    realtime: Annotated[
        bool | None,
        _input(
            "--realtime/--no-realtime",
            help="Play a video file at its own pace. Default: where all outputs are for watching.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        _output(
            "--output",
            "-o",
            help="Output; may be given more than once. A file or folder; - for y4m on standard"
            " output; rtsp://..., rtmp://..., udp://..., tcp://... to push;"
            " http://127.0.0.1:8080 to serve MJPEG; window; virtualcam.",
        ),
    ] = None,
    overwrite: Annotated[bool, _output("--overwrite", "-y", help="Replace what is there.")] = False,
    skip_existing: Annotated[
        bool, _output("--skip-existing", help="Leave out inputs whose output is there.")
    ] = False,
    resume: Annotated[
        bool,
        _output(
            "--resume",
            help="Go on with the partial video that Ctrl-C left, or with the stack of a run that"
            " ended in any way.",
        ),
    ] = False,
    compare: Annotated[
        Literal["split", "side"] | None,
        _output(help="Show the original beside the restored, in halves or side by side."),
    ] = None,
    image_quality: Annotated[
        int | None,
        _output(metavar="1-100", help="Of JPEG (default 95), AVIF (95), WebP (lossless)."),
    ] = None,
    segment: Annotated[
        str | None, _output(help="Begin another file this often: 10m, 1h30m, 90s.")
    ] = None,
    channels: Annotated[
        str | None,
        _input(
            metavar="NAME,...",
            help="Names or numbers, from 0, of the channels of a stack that are restored; others"
            " are passed through.",
        ),
    ] = None,
    compression: Annotated[
        str | None,
        _output(metavar="NAME[:LEVEL]", help="Of a Zarr store: zstd, blosc, gzip or none."),
    ] = None,
    zarr_version: Annotated[
        Literal["0.4", "0.5"] | None,
        _output(help="Of OME-Zarr. Default: the input's, or 0.5.", show_default=False),
    ] = None,
    dask: Annotated[
        str | None,
        _model(
            metavar="tcp://HOST:PORT|local:N",
            help="Restore a stack on the workers of a Dask scheduler, or on N processes here.",
        ),
    ] = None,
    preview: Annotated[bool, _output("--preview", help="Show a window with a slider.")] = False,
    progress: Annotated[
        Literal["auto", "json", "none"],
        _output(help="A bar on a terminal, one JSON line a second, or nothing."),
    ] = "auto",
    quiet: Annotated[bool, _output("--quiet", "-q", help="Print errors only.")] = False,
    model: Annotated[
        str,
        _model(
            help="A model's name or a bundle's folder; a+b or a*0.7+b averages; auto is the largest"
            " of the default family that holds the rate."
        ),
    ] = "deblur",
    quality: Annotated[
        Literal["fast", "balanced", "best"] | None,
        _model(
            help="Choose from the model's family: the smallest, the largest that holds the rate"
            " here, or the largest."
        ),
    ] = None,
    device: Annotated[str, _model(help="CPU, GPU, NPU, AUTO, AUTO:GPU,CPU, ...")] = "CPU",
    runtime: Annotated[str, _model(help="auto, or one that edgerestore devices lists.")] = "auto",
    precision: Annotated[str, _model(help="auto, fp32, tf32, bf16, fp16 or int8.")] = "auto",
    tile: Annotated[str, _model(help="auto, or the side of a tile in pixels.")] = "auto",
    memory_mb: Annotated[int | None, _model(help="Memory budget of tiles in flight, MiB.")] = None,
    memory: Annotated[
        str | None,
        _model(
            metavar="SIZE",
            help="Memory budget, such as 1GiB: of tiles in flight; of stacks, of all that is read,"
            " restored and written at a time.",
        ),
    ] = None,
    strength: Annotated[float, _quality(help="0 input, 1 model, up to 2.")] = 1.0,
    intensity_range: Annotated[
        str,
        _quality(
            "--intensity-range",
            "--range",
            metavar="auto|full|LOW:HIGH|pLOW:pHIGH",
            help="Values that the model sees as black to white: those that 16 bits and floats hold,"
            " the full range, values, or percentiles such as p0.1:p99.9.",
        ),
    ] = "auto",
    tta: Annotated[
        bool, _quality("--tta", help="Average eight turns of each picture; 8 times the work.")
    ] = False,
    brightness: Annotated[
        str, _quality(help="auto, or stops from -2 to 2.", metavar="auto|N")
    ] = "0",
    contrast: Annotated[str, _quality(help="auto, or -1 to 1.", metavar="auto|N")] = "0",
    balance: Annotated[
        str, _quality(help="White balance: auto, or -1 cold to 1 warm.", metavar="auto|N")
    ] = "0",
    background: Annotated[
        str | None,
        _quality(
            help="Of models that cut out: none (transparent), white, black, #rrggbb or a picture."
            " Default: none where the output holds transparency, else white.",
            show_default=False,
        ),
    ] = None,
    mask_only: Annotated[bool, _quality("--mask-only", help="Write the mask itself.")] = False,
    guard: Annotated[
        bool | None,
        _quality(
            "--guard/--no-guard",
            help="Show the input where the outcome is an artefact. Default: on live streams.",
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        str | None, _live(metavar="HOST:PORT", help="Serve the control endpoint here.")
    ] = None,
    control_token: Annotated[
        str | None,
        _live(
            envvar="EDGERESTORE_CONTROL_TOKEN",
            help="Token that requests to the control endpoint must bring.",
        ),
    ] = None,
    max_staleness: Annotated[
        float, _live(help="Seconds: an older frame of a live source is never shown.")
    ] = 1.0,
    overrun: Annotated[
        Literal["auto", "wait", "drop-oldest", "drop-newest", "latest"],
        _live(help="Policy for frames that come faster than they are restored."),
    ] = "auto",
    reuse_static: Annotated[
        bool, _live("--reuse-static", help="Restore only what changed since the last frame.")
    ] = False,
    reuse_threshold: Annotated[
        float, _live(help="Grey levels of 255 that count as no change; 0 is exact.")
    ] = 0.0,
    target_fps: Annotated[
        float | None, _live(help="Lower the work in steps to keep up with this rate.")
    ] = None,
    lighter: Annotated[
        list[str] | None,
        _live(
            help="A model to fall back to for --target-fps. Default: smaller ones of the family."
        ),
    ] = None,
    codec: Annotated[str | None, _video(help="Video encoder.")] = None,
    crf: Annotated[float | None, _video(help="Constant quality of the encoder.")] = None,
    preset: Annotated[str | None, _video(help="Speed preset of the encoder.")] = None,
    pix_fmt: Annotated[str | None, _video(help="Pixel format of the video.")] = None,
    audio: Annotated[bool, _video("--audio/--no-audio", help="Copy the sound.")] = True,
) -> None:
    """Restore pictures, video, cameras and streams.

    The outcome has the sound, timing and tags of INPUT.
    A camera, a network stream or a pipe is restored as it comes, until it ends or Ctrl-C.
    """
    # Imported here: the runtime takes a second, and --help must not.
    from ..engine.adjustments import Adjustments
    from ..engine.load import load
    from ..engine.loader import AUTO
    from ..engine.predictors.cutout import cut_out
    from ..errors import ArgumentError
    from ..streams import events
    from ..streams.checks import check_run
    from ..streams.options import (
        InputKind,
        LiveOptions,
        Overrun,
        VideoOptions,
    )
    from ..streams.progress import Progress
    from ..streams.session import Session
    from ..streams.sources.address import redacted
    from ..streams.sources.registry import is_live

    if quiet:
        progress = "none"
        logging.getLogger("edgerestore").setLevel(logging.ERROR)
    outputs = [*(output or []), *(["window"] if preview else [])]
    if not outputs:
        raise ArgumentError("nothing to write to; add -o OUTPUT, or --preview")
    options = LiveOptions(
        source=_source_options(
            size,
            fps,
            fourcc,
            raw,
            rtsp_transport,
            stall,
            retries,
            keep_gaps=keep_gaps,
            deinterlace=deinterlace == "auto",
            max_pixels=max_pixels or None,
            hold_damaged=hold_damaged,
        ),
        video=VideoOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt, audio=audio),
        overrun=None if overrun == "auto" else Overrun(overrun),
        max_staleness_s=max_staleness,
        segment_s=None if segment is None else parse_duration(segment),
        overwrite=overwrite,
        skip_existing=skip_existing,
        compare=compare,
        image_quality=image_quality,
        resume=resume,
        settings={name: context.params[name] for name in _SETTINGS},
        target_fps=target_fps,
        lighter=tuple(lighter or ()),
        quality=quality or ("balanced" if model == AUTO else None),
        realtime=realtime,
    )
    adjustments = Adjustments(
        brightness=parse_auto("brightness", brightness),
        contrast=parse_auto("contrast", contrast),
        balance=parse_auto("balance", balance),
    )
    streaming = any(one is not None for one in (segment, control, target_fps, raw))
    asked = run_input(inputs, outputs, streaming=streaming)
    kind, address, source = asked.kind, asked.address, asked.source
    live = address is not None and is_live(address)
    if not check_run(kind, address or source, asked.outputs, options):
        return
    tell_unused(_given(context), kind, address, asked.outputs)
    memory_bytes = None if memory is None else parse_bytes(memory)
    planes = _planes_options(
        asked,
        overwrite=overwrite,
        resume=resume,
        memory_bytes=memory_bytes,
        channels=channels,
        compression=compression,
        version=zarr_version,
        dask=dask,
    )
    if control is not None:
        from ..server.control import check_control

        check_control(control, token=control_token)
    with ExitStack() as stack:
        loaded = load(
            model,
            device=device,
            runtime=runtime,
            precision=precision,
            tile=parse_tile(tile),
            strength=strength,
            memory_mb=_tiles_mb(memory_bytes, memory_mb, planes),
            tta=tta,
            live=live,
            reuse_static=reuse_threshold if reuse_static else None,
            guard=live if guard is None else guard,
            intensity_range=intensity_range,
        )
        stack.enter_context(loaded)
        stop = stack.enter_context(
            stop_on_interrupt(live=live, images=kind.of_images, planes=kind is InputKind.PLANES)
        )
        loaded.adjustments = adjustments
        if kind is InputKind.PLANES:
            assert planes is not None  # noqa: S101 - for the type checker
            _restore_planes(loaded, asked, stop, progress, planes)
            return
        files = asked.files()
        restorer = cut_out(loaded, background, mask_only=mask_only, outputs=files)
        restorer.adjustments = adjustments
        if options.quality is None:  # else the choice is told, when it is made
            logger.info(
                "%s on %s at %s: %s",
                restorer.bundle.manifest.name,
                restorer.where,
                restorer.precision,
                restorer.precision_reason,
            )
        if progress == "json" and kind is InputKind.STREAM:
            # They are lines of JSON already.
            stack.callback(events.logger.setLevel, events.logger.level)
            events.logger.setLevel(logging.CRITICAL)
        session = stack.enter_context(
            Session(restorer, address or source, asked.outputs, options, kind=kind)
        )
        if control is not None:
            from ..server.control import ControlServer

            server = stack.enter_context(ControlServer(session, control, token=control_token))
            logger.info("control: http://%s/", server.address)
        reporter = stack.enter_context(
            Progress(
                progress,
                session.telemetry,
                ", ".join(redacted(one) for one in asked.outputs),
                # Standard output may be taken by frames.
                stdout=sys.stderr if _STDOUT in outputs else None,
            )
        )
        summary = session.run(stop)
        reporter.done(summary.interrupted)
    if summary.exit_code and not stop.is_ended:
        raise typer.Exit(summary.exit_code)


def _given(context: typer.Context) -> set[str]:
    """Return the parameters that stand on the command line."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in sources if source is not None and source.name == "COMMANDLINE"}


def _tiles_mb(
    memory_bytes: int | None, memory_mb: int | None, planes: PlanesOptions | None
) -> int | None:
    """Return the budget of tiles in flight; of stacks the rest is for regions in and out."""
    if planes is not None and memory_bytes is None:
        from ..microscopy.memory_budget import DEFAULT_BYTES

        memory_bytes = DEFAULT_BYTES if memory_mb is None else None
    if memory_bytes is None:
        return memory_mb
    return max(1, (memory_bytes >> 20) // (1 if planes is None else 2))


def _planes_options(
    asked: RunInput, *, channels: str | None, **options: Any
) -> PlanesOptions | None:
    """Return the options of a run by region, checked before a model is loaded."""
    from ..streams.options import InputKind

    if asked.kind is not InputKind.PLANES:
        return None
    from ..microscopy.restore_planes import PlanesOptions, check_planes

    names = tuple(one.strip() for one in (channels or "").split(",") if one.strip())
    made = PlanesOptions(channels=names, **options)
    check_planes(Path(str(asked.source)), Path(asked.outputs[0]), made)
    return made


def _restore_planes(
    restorer: Restorer, asked: RunInput, stop: Stop, progress: str, options: PlanesOptions
) -> None:
    from ..microscopy.restore_planes import restore_planes
    from ..streams.progress import CountedBar, tell

    source, output = Path(str(asked.source)), Path(asked.outputs[0])
    with ExitStack() as shown:
        bar = shown.enter_context(CountedBar("regions")) if progress == "auto" else None

        def check() -> None:
            if stop.is_set():
                raise KeyboardInterrupt

        def tick(done: int, total: int) -> None:
            check()
            if bar is not None:
                bar.tick(done, total, source.name)
            elif progress == "json":
                tell(json.dumps({"event": "progress", "done": done, "total": total}), sys.stdout)

        summary = restore_planes(restorer, source, output, options, on_progress=tick, on_tile=check)
    if progress == "json":
        tell(json.dumps({"event": "done", **asdict(summary)}), sys.stdout)
    elif progress == "auto":
        tell(f"{output}: {summary}", sys.stderr)


def _source_options(
    size: str | None,
    fps: str | None,
    fourcc: str | None,
    raw: str | None,
    rtsp_transport: str,
    stall_s: float,
    retries: int | None,
    *,
    keep_gaps: bool,
    deinterlace: bool,
    max_pixels: int | None,
    hold_damaged: bool,
) -> SourceOptions:
    from ..errors import ArgumentError
    from ..streams.options import RawFormat, SourceOptions

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
        keep_gaps=keep_gaps,
        deinterlace=deinterlace,
        max_pixels=max_pixels,
        hold_damaged=hold_damaged,
    )
