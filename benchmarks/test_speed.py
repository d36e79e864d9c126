"""How much of the machine the engine uses: against its own parts, OpenVINO's tool, and PyTorch."""

from __future__ import annotations

import itertools
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.engine.restorer import Restorer
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.runtimes import runtime_for
from edgerestore.runtimes.openvino.pixels import attach_pixels
from edgerestore.runtimes.protocol import QueueSpec

from . import eager
from .harness import Effort, Table, interleaved, paired
from .scenes import moving_frames
from .stream_parts import Parts

Picture = NDArray[np.uint8]
Tables = Callable[[str], Table]

HEIGHT, WIDTH = 720, 1280
WHOLE = 1 << 14  # a tile larger than any frame here


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return list(moving_frames(HEIGHT, WIDTH, 16))


@pytest.fixture(scope="module")
def half() -> str:
    """The precision that this CPU computes natively at half the width."""
    first = runtime_for("CPU").precisions("CPU")[0]
    if first not in ("bf16", "fp16"):
        pytest.skip("this CPU has no native half precision")
    return first


def test_stream(clip: Path, table: Tables, tmp_path: Path, effort: Effort) -> None:
    cores = os.cpu_count() or 1
    with edgerestore.load("deblur") as restorer:
        parts = Parts(clip, tmp_path, restorer)
        own = parts.engine_threads
        speeds = interleaved(
            {
                "decode": lambda: parts.decode(own),
                "model": parts.model,
                "encode": lambda: parts.encode(own),
                "whole": parts.whole,
                "decode, all cores": lambda: parts.decode(cores),
                "encode, all cores": lambda: parts.encode(cores),
            },
            effort.repeats,
        )
        parts.check()
        precision, plan = restorer.precision, restorer.plan
    own_bound = _serial(speeds["decode"], speeds["model"], speeds["encode"])
    full_bound = _serial(speeds["decode, all cores"], speeds["model"], speeds["encode, all cores"])
    out = table(f"stream: {WIDTH}x{HEIGHT}, {parts.count} frames, file to file, {precision}")
    out.value(f"decode and RGB alone, {own} thread(s)", _fps(speeds["decode"]))
    out.value("model alone", _fps(speeds["model"]))
    out.value(f"x264 veryfast alone, {own} thread(s)", _fps(speeds["encode"]))
    out.value(f"decode and RGB alone, {cores} threads", _fps(speeds["decode, all cores"]))
    out.value(f"x264 veryfast alone, {cores} threads", _fps(speeds["encode, all cores"]))
    for name, bound in (
        ("whole, against the codecs as the engine runs them", own_bound),
        ("whole, against the codecs on every core", full_bound),
    ):
        out.ratio(name, _fps(speeds["whole"]), _fps(bound), paired(speeds["whole"], bound), 0.95)
    out.note("bound: decode, model and encode one after the other, 1 / (1/a + 1/b + 1/c)")
    out.note(plan)


def test_against_benchmark_app(
    pictures: list[Picture], table: Tables, tmp_path: Path, half: str, effort: Effort
) -> None:
    out = table(f"engine against benchmark_app: {WIDTH}x{HEIGHT} u8, one tile, model alone")
    for precision in _offered(half):
        speeds, requests = _beside_app(pictures, precision, tmp_path, effort)
        out.ratio(
            f"engine, {precision}, {requests} requests",
            _fps(speeds["engine"]),
            _fps(speeds["app"]),
            paired(speeds["engine"], speeds["app"]),
            0.97,
        )
    out.note("peer: benchmark_app -hint throughput on the exported graph, the same requests")


def _beside_app(
    pictures: list[Picture], precision: str, folder: Path, effort: Effort
) -> tuple[dict[str, list[float]], int]:
    with edgerestore.load("deblur", precision=precision, tile=WHOLE) as restorer:
        graph = _export(restorer.bundle, precision, folder / f"{precision}.xml")
        restorer(pictures[0])
        requests = restorer.depth
        stages = {
            "engine": lambda: _engine_rate(restorer, pictures, effort.seconds),
            "app": lambda: _app_rate(graph, precision, requests, effort.seconds),
        }
        return interleaved(stages, effort.repeats), requests


def test_against_eager(pictures: list[Picture], table: Tables, half: str, effort: Effort) -> None:
    network, trained = eager.network(Bundle.find("deblur"))
    engines = {p: edgerestore.load("deblur", precision=p, tile=WHOLE) for p in ("fp32", half)}
    if trained:  # the very weights of the bundle, so the very picture
        difference = np.abs(
            eager.restore(network, pictures[0]).astype(int)
            - engines["fp32"](pictures[0]).astype(int)
        )
        assert difference.max() <= 1
    contiguous, channels_last = eager.layouts(network)
    stages: dict[str, Callable[[], float]] = {
        "eager": lambda: _calls_rate(lambda p: eager.restore(contiguous, p), pictures, effort),
        "eager, channels last": lambda: _calls_rate(
            lambda p: eager.restore(channels_last, p), pictures, effort
        ),
    }
    for name, engine in engines.items():
        stages[name] = lambda engine=engine: _engine_rate(engine, pictures, effort.seconds)  # type: ignore[misc]
    speeds = interleaved(stages, effort.repeats)
    for engine in engines.values():
        engine.close()
    out = table(f"engine against PyTorch eager: {WIDTH}x{HEIGHT}, bytes in and out")
    for peer in ("eager", "eager, channels last"):
        out.value(f"PyTorch {peer} f32", _fps(speeds[peer]))
    for name, target in (("fp32", None), (half, 2.5)):
        # The target is against eager PyTorch as it comes; its fastest layout is told beside.
        for peer, wanted in (("eager", target), ("eager, channels last", None)):
            ratios = paired(speeds[name], speeds[peer])
            what = f"engine {name}, against {peer}"
            out.ratio(what, _fps(speeds[name]), _fps(speeds[peer]), ratios, wanted)
    out.note(f"weights {'equal' if trained else 'random'}")


def test_python_overhead(pictures: list[Picture], table: Tables, effort: Effort) -> None:
    with edgerestore.load("deblur", tile=WHOLE) as restorer:
        restorer(pictures[0])
        count = max(20, effort.frames // 2)
        flights = [_flight_ms(restorer, p) for p in itertools.islice(_cycle(pictures), count)]
        before = time.thread_time()
        for _ in restorer.stream(itertools.islice(_cycle(pictures), count)):
            pass
        cpu_ms = (time.thread_time() - before) / count * 1e3
    out = table(f"Python a frame: {WIDTH}x{HEIGHT}")
    out.at_most("submit() on a free ring + result() of a done one", _median(flights), 1.0, "ms")
    out.at_most("CPU of the calling thread in stream()", cpu_ms, 1.0, "ms")
    out.note("the first is wall time, median of frames sent one at a time; the second is all")
    out.note("that the thread computed, however long it waited")


def _flight_ms(restorer: Restorer, picture: Picture) -> float:
    start = time.perf_counter()
    pending = restorer.submit(picture)
    submitted = time.perf_counter() - start
    while not pending.done():
        time.sleep(0.001)
    start = time.perf_counter()
    pending.result()
    return (submitted + time.perf_counter() - start) * 1e3


def _engine_rate(restorer: Restorer, pictures: list[Picture], seconds: float) -> float:
    start = time.perf_counter()

    def until() -> itertools.takewhile[Picture]:
        return itertools.takewhile(
            lambda _: time.perf_counter() - start < seconds, _cycle(pictures)
        )

    count = sum(1 for _ in restorer.stream(until()))
    return count / (time.perf_counter() - start)


def _calls_rate(
    call: Callable[[Picture], Picture], pictures: list[Picture], effort: Effort
) -> float:
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < effort.seconds:
        call(pictures[count % len(pictures)])
        count += 1
    return count / (time.perf_counter() - start)


def _app_rate(graph: Path, precision: str, requests: int, seconds: float) -> float:
    hints = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
    command = [sys.executable, "-m", "openvino.tools.benchmark.main"]
    app = Path(sys.executable).with_name("benchmark_app")
    if app.exists():
        command = [sys.executable, str(app)]
    command += ["-m", str(graph), "-d", "CPU", "-hint", "throughput", "-nireq", str(requests)]
    command += ["-t", str(max(1, round(seconds)))]
    if precision in hints:
        command += ["-infer_precision", hints[precision]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    assert found, done.stdout[-2000:]
    return float(found[1])


def _export(bundle: Bundle, precision: str, target: Path) -> Path:
    """Write the graph that the engine compiles, pixels and all."""
    variant = {"bf16": "fp16"}.get(precision, precision)
    model = ov.Core().read_model(bundle.variant_files(variant)[0])
    spec = QueueSpec(HEIGHT, WIDTH, Depth.U8, ChannelOrder.RGB)
    ov.save_model(attach_pixels(model, spec, bundle.manifest), target, compress_to_fp16=False)
    return target


def _offered(half: str) -> list[str]:
    """Return what is worth comparing: the half and, where the bundle has it, INT8."""
    return [half, *(["int8"] if "int8" in Bundle.find("deblur").manifest.variants else [])]


def _cycle(pictures: list[Picture]) -> itertools.cycle[Picture]:
    return itertools.cycle(pictures)


def _serial(*stages: list[float]) -> list[float]:
    return [1 / sum(1 / speed for speed in one) for one in zip(*stages, strict=True)]


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _fps(speeds: list[float]) -> str:
    return f"{_median(speeds):.1f} fps"
