"""What INT8 costs in quality and gains in speed: the default model, and networks of others."""

from __future__ import annotations

import faulthandler
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nncf
import numpy as np
import pytest
from numpy.typing import NDArray

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.convert import QuantizationOptions, convert, quantize
from edgerestore.imaging.degradations import PROTOCOL, Degradation, degrade
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes import runtime_for
from edgerestore.runtimes.openvino.graph import OpenvinoGraph, cpu_floats, read_graph

from . import eager, scenes
from .harness import Effort, Table, interleaved, paired, stream_rate

Planes = NDArray[np.float32]
Picture = NDArray[np.uint8]
Tables = Callable[[str], Table]

CALIBRATION = range(1, 13)
HELD_OUT = (13, 14, 15, 16)  # neither training nor calibration sees these
SEED = 7
WHOLE = 1 << 14


@dataclass(frozen=True)
class Network:
    """A trained checkpoint, and the frame that its speed is told at."""

    checkpoint: str
    degradation: Degradation
    grey: bool = False
    height: int = 180
    width: int = 320


NETWORKS = {
    "DnCNN, sigma 25": Network("denoise/dncnn_25.pth", Degradation("noise", 25.0), grey=True),
    "IMDN x4": Network("super_resolution/imdn_baseline.pth", Degradation("downscale", upscale=4)),
    "RFDN x4": Network("super_resolution/rfdn_baseline.pth", Degradation("downscale", upscale=4)),
    "RLFN x4": Network("super_resolution/team04_rlfn.pth", Degradation("downscale", upscale=4)),
}


def floats() -> list[str]:
    """fp32, and the CPU's native half where it has one."""
    halves = [p for p in runtime_for("CPU").precisions("CPU") if p in ("bf16", "fp16")]
    return ["fp32", *halves[:1]]


def photograph(folder: Path, number: int) -> Planes:
    return scenes.photograph(folder / f"{number:02d}.png").astype(np.float32) / np.float32(255)


def test_default_model_quality(shared_data: Path, table: Tables, effort: Effort) -> None:
    for draws in (3, effort.draws):
        rng = np.random.default_rng(SEED)
        clean, spoilt = [], []
        for number in HELD_OUT:
            picture = photograph(shared_data / "kodak", number)
            for _ in range(draws):
                clean.append(np.rint(picture * 255).astype(np.uint8))
                spoilt.append(degrade(picture, PROTOCOL, rng)[0])
        scores = {"input": [psnr(s, c) for s, c in zip(spoilt, clean, strict=True)]}
        for precision in [*floats(), "int8"]:
            with edgerestore.load("deblur", precision=precision, tile=WHOLE) as restorer:
                made = restorer.stream(spoilt)
                scores[precision] = [psnr(m, c) for m, c in zip(made, clean, strict=True)]
        out = table(f"INT8: default model, Kodak 13-16, {draws} draws each, seed {SEED}")
        for name, values in scores.items():
            out.value(name, f"{np.mean(values):.3f} dB")
        losses = np.subtract(scores["fp32"], scores["int8"])
        out.at_most("int8 loses to fp32", float(losses.mean()), 0.05, "dB")
        out.value("worst picture", f"{losses.max():.3f} dB")
        gain = float(np.subtract(scores["int8"], scores["input"]).mean())
        if draws == 3:
            out.at_least("int8 over the input", gain, 1.8, "dB")
        else:
            out.value("int8 over the input", f"{gain:+.3f} dB")


def test_default_model_speed(table: Tables, effort: Effort) -> None:
    pictures = list(scenes.moving_frames(720, 1280, 16))
    network, _ = eager.network(Bundle.find("deblur"))
    contiguous, channels_last = eager.layouts(network)
    engines = {
        precision: edgerestore.load("deblur", precision=precision, tile=WHOLE)
        for precision in [*floats(), "int8"]
    }
    stages: dict[str, Callable[[], float]] = {
        "PyTorch eager f32": lambda: _calls(functools.partial(eager.restore, contiguous), effort),
        "PyTorch eager f32, channels last": lambda: _calls(
            functools.partial(eager.restore, channels_last), effort
        ),
    }
    for name, engine in engines.items():
        stages[name] = functools.partial(stream_rate, engine, pictures, effort.seconds)
    speeds = interleaved(stages, effort.repeats)
    for engine in engines.values():
        engine.close()
    out = table("INT8: default model, 1280x720, bytes in and out, model alone")
    for name in stages:
        target = {"PyTorch eager f32": 4.5, "bf16": 1.6}.get(name)
        if name != "int8":
            _compare(out, "int8", name, speeds, target)
    _say_what_is_missing(out)


def _calls(restore: Callable[[Picture], Picture], effort: Effort) -> float:
    picture = next(iter(scenes.moving_frames(720, 1280, 1)))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < effort.seconds:
        restore(picture)
        count += 1
    return count / (time.perf_counter() - start)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(
    name: str, shared_data: Path, table: Tables, tmp_path: Path, effort: Effort
) -> None:
    faulthandler.cancel_dump_traceback_later()  # minutes of quantizing are no hang
    network, kodak = NETWORKS[name], shared_data / "kodak"
    target = tmp_path / "bundle"
    convert(shared_data / "checkpoints" / network.checkpoint, target)
    options = QuantizationOptions(
        calibrate=[kodak / f"{number:02d}.png" for number in CALIBRATION],
        degradation=str(network.degradation),
        # Written whatever the search says: what it is worth is told here.
        force=True,
    )
    begun = time.perf_counter()
    result = quantize(target, options, lambda _: None)
    minutes = (time.perf_counter() - begun) / 60
    bundle = result.bundle
    degraded = network.degradation.describe()
    out = table(f"INT8: {name}, Kodak 13-16, {degraded}; budget 0.1 dB on 01-12")
    pairs = [_pair(kodak, number, network) for number in HELD_OUT]
    scores = {p: _scores(bundle, p, pairs) for p in [*floats(), "int8"]}
    for precision, values in scores.items():
        out.value(precision, f"{np.mean(values):.3f} dB")
    losses = np.subtract(scores["fp32"], scores["int8"])
    out.at_most("int8 loses to fp32", float(losses.mean()), 0.1, "dB")
    out.value("worst picture", f"{losses.max():.3f} dB")
    out.value("NNCF's default loses", f"{_default_loss(bundle, kodak, network, pairs):.3f} dB")
    files = {v: bundle.manifest.variants[v].files for v in ("fp32", "int8")}
    weights = files["int8"]["int8/model.bin"].bytes / files["fp32"]["model.onnx"].bytes
    out.at_most("bytes of the weights, of f32's", weights, 0.3, "")
    out.value("to quantize", f"{minutes:.1f} min")
    out.note(result.results.verdict)
    _speeds(out, bundle, network, effort)


def _pair(folder: Path, number: int, network: Network) -> tuple[Planes, Planes]:
    clean = photograph(folder, number)
    if network.grey:
        clean = clean @ np.array([[0.299], [0.587], [0.114]], np.float32)
    spoilt = network.degradation.apply(clean, np.random.default_rng((SEED, number)))
    return np.squeeze(spoilt), np.squeeze(clean)


def _scores(bundle: Bundle, precision: str, pairs: list[tuple[Planes, Planes]]) -> list[float]:
    with edgerestore.load(bundle.folder, precision=precision, tile=WHOLE) as restorer:
        return [psnr(restorer(np.ascontiguousarray(s)), c) for s, c in pairs]


def _default_loss(
    bundle: Bundle, folder: Path, network: Network, pairs: list[tuple[Planes, Planes]]
) -> float:
    """Quantize as NNCF does unless told otherwise, the face left alone, and measure here."""
    model = read_graph(bundle.variant_files("fp32")[0])
    images = [_planes(_pair(folder, number, network)[0]) for number in CALIBRATION]
    strength = np.ones((1, 1, 1, 1), np.float32)
    face = nncf.IgnoredScope(patterns=["face/.*"], validate=False)
    data = nncf.Dataset(images, lambda image: {"image": image, "strength": strength})
    default = nncf.quantize(model.clone(), data, subset_size=len(images), ignored_scope=face)
    losses = []
    for spoilt, clean in pairs:
        wanted = np.squeeze(OpenvinoGraph(model)(_planes(spoilt)))
        made = np.squeeze(OpenvinoGraph(default, cpu_floats()[-1])(_planes(spoilt)))
        truth = clean if clean.ndim == 2 else clean.transpose(2, 0, 1)
        losses.append(psnr(wanted, truth) - psnr(made, truth))
    return float(np.mean(losses))


def _planes(image: Planes) -> Planes:
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None])


def _speeds(out: Table, bundle: Bundle, network: Network, effort: Effort) -> None:
    shape = (network.height, network.width, *([] if network.grey else [3]))
    rng = np.random.default_rng(SEED)
    pictures = [rng.integers(0, 256, shape, np.uint8) for _ in range(4)]
    engines = {
        precision: edgerestore.load(bundle.folder, precision=precision, tile=WHOLE)
        for precision in [*floats(), "int8"]
    }
    speeds = interleaved(
        {
            name: functools.partial(stream_rate, engine, pictures, effort.seconds)
            for name, engine in engines.items()
        },
        effort.repeats,
    )
    for engine in engines.values():
        engine.close()
    for peer, target in zip(floats(), (1.8, 1.15), strict=False):
        _compare(out, "int8", peer, speeds, target)
    out.note(f"speed: {network.width}x{network.height} bytes in and out, model alone")
    _say_what_is_missing(out)


def _compare(
    out: Table, name: str, peer: str, speeds: dict[str, list[float]], target: float | None
) -> None:
    def fps(values: list[float]) -> str:
        return f"{np.median(values):.2f} fps"

    ratios = paired(speeds[name], speeds[peer])
    out.ratio(f"{name} against {peer}", fps(speeds[name]), fps(speeds[peer]), ratios, target)


def _say_what_is_missing(out: Table) -> None:
    if len(floats()) == 1:
        out.note("this CPU has no native half: INT8 against it is not measured")
