"""Networks that users bring: speed and quality of each, as a user would ask for it."""

from __future__ import annotations

import faulthandler
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import edgerestore
from edgerestore.convert import QuantizationOptions, convert, quantize
from edgerestore.convert.architectures.mprnet import MPRNet
from edgerestore.convert.architectures.nafnet import NAFNet
from edgerestore.convert.checkpoint.files import load_folder, load_state
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.engine.tiling.windows import WindowGrid
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes import runtime_for

from . import scenes
from .harness import Effort, Table, interleaved, paired, stream_rate

Tables = Callable[[str], Table]
Picture = NDArray[np.uint8]

ROOT = Path(__file__).parents[1]
WINDOW, RAMP = 384, 96  # what a manifest says of a network trained on crops of 256
SEED = 7


def generated(network: torch.nn.Module, scale: float) -> dict[str, torch.Tensor]:
    """Return weights that keep activations sane: no trained ones of these networks are here."""
    sys.path.append(str(ROOT))
    from tests.convert.official_weights import filled

    return filled({name: tuple(w.shape) for name, w in network.state_dict().items()}, scale)


def photograph(folder: Path, number: int) -> Picture:
    return scenes.photograph(folder / "kodak" / f"{number:02d}.png")


def test_mprnet(shared_data: Path, table: Tables, tmp_path: Path, effort: Effort) -> None:
    """One picture of 256x256 at a time; the network is 20 million weights and 0.8 TMAC."""
    faulthandler.cancel_dump_traceback_later()  # minutes of converting and quantizing are no hang
    torch.save(generated(MPRNet(), 0.6), tmp_path / "mprnet.pth")
    convert(tmp_path / "mprnet.pth", tmp_path / "mprnet")
    options = QuantizationOptions(
        calibrate=[shared_data / "kodak" / f"{n:02d}.png" for n in (1, 2, 3, 4)],
        degradation="blur",
        crops=6,
        minutes=0.1,  # INT8 throughout, and no ranking of its 529 operations: that takes hours
        force=True,
    )
    result = quantize(tmp_path / "mprnet", options, lambda _: None)
    bundle = result.bundle
    network = build_network(load_state(tmp_path / "mprnet.pth"), tmp_path, None, {}).module
    halves = [p for p in runtime_for("CPU").precisions("CPU") if p in ("bf16", "fp16")]
    image = np.random.default_rng(SEED).integers(0, 256, (256, 256, 3), np.uint8)
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))

    def eager() -> None:
        with torch.inference_mode():
            network(planes)

    engines = {
        p: edgerestore.load(bundle.folder, precision=p, live=True)
        for p in ["fp32", *halves[:1], "int8"]
    }
    calls: dict[str, Callable[[], object]] = {"PyTorch eager f32": eager}
    calls |= {p: functools.partial(engine, image) for p, engine in engines.items()}
    stages = {name: functools.partial(_rate, call) for name, call in calls.items()}
    speeds = interleaved(stages, min(3, effort.repeats))
    out = table("MPRNet (deblurring width, generated weights), 256x256, one picture at a time")
    for name, engine in engines.items():
        ratios = paired(speeds[name], speeds["PyTorch eager f32"])
        target = 4.0 if name == "int8" else None
        ours, eagers = (f"{1e3 / np.median(speeds[n]):.0f} ms" for n in (name, "PyTorch eager f32"))
        out.ratio(f"{name} against eager", ours, eagers, ratios, target)
        engine.close()
    for line in result.table.splitlines():
        out.note(line)


def test_retouch_speed(shared_data: Path, table: Tables, tmp_path: Path, effort: Effort) -> None:
    parts = shared_data / "checkpoints" / "retouch_3dlut"
    bundle = convert(parts, tmp_path / "lut3d").bundle
    network = build_network(load_folder(parts), parts, None, {}).module
    pictures = [
        cv2.resize(photograph(shared_data, n), (1280, 720), interpolation=cv2.INTER_CUBIC).astype(
            np.uint8, copy=False
        )
        for n in (13, 14)
    ]

    def eager() -> None:
        planes = torch.from_numpy(pictures[0].transpose(2, 0, 1)[None] / np.float32(255))
        with torch.inference_mode():
            made = network(planes).clamp(0, 1).mul(255).round()
        made[0].permute(1, 2, 0).to(torch.uint8).numpy()

    with edgerestore.load(bundle.folder) as restorer:
        speeds = interleaved(
            {
                "lut3d": functools.partial(stream_rate, restorer, pictures, effort.seconds),
                "eager": functools.partial(_rate, eager, effort.seconds),
            },
            effort.repeats,
        )
    out = table("3D LUT retouching, 1280x720, bytes in and out, f32")
    out.at_least("frames per second", float(np.median(speeds["lut3d"])), 60, "fps")
    ours, eagers = (f"{np.median(speeds[name]):.1f} fps" for name in ("lut3d", "eager"))
    ratios = paired(speeds["lut3d"], speeds["eager"])
    out.ratio("against PyTorch eager", ours, eagers, ratios, None)


@pytest.mark.parametrize("local_px", [None, 384, 192])
def test_windows_of_nafnet(local_px: int | None, shared_data: Path, table: Tables) -> None:
    """Windows against the whole picture, of the same form of the network."""
    depths = {"encode_depths": (1, 1, 2), "decode_depths": (1, 1, 1)}
    network = NAFNet(3, width=16, middle_depth=2, local_px=local_px, **depths).eval()
    network.load_state_dict(generated(network, 0.8))

    def run(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            made: NDArray[np.float32] = network(torch.from_numpy(planes)).numpy()
        return made

    likeness = []
    for number in (5, 13):
        picture = photograph(shared_data, number)
        image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        whole, joined = run(image), np.zeros_like(image)
        height, width = picture.shape[:2]
        for window in WindowGrid.plan(height, width, WINDOW, ramp=RAMP, multiple=8).windows:
            top, left, height, width = window.read
            made = run(np.ascontiguousarray(image[..., top : top + height, left : left + width]))
            there = np.s_[:, :, top : top + height, left : left + width]
            joined[there] += made * np.outer(window.rows, window.columns)
        likeness.append(psnr(np.clip(joined, 0, 1), np.clip(whole, 0, 1)))
    form = "whole-picture averages" if local_px is None else f"averages over {local_px} px"
    out = table(f"NAFNet (generated weights), {form}: windows of {WINDOW} against the whole")
    if local_px is None:
        out.value("Kodak 5 and 13, the lesser", f"{min(likeness):.1f} dB")
    else:
        out.at_least("Kodak 5 and 13, the lesser", min(likeness), 50, "dB")


@pytest.mark.parametrize("name", ["SINet", "ExtremeC3"])
def test_cut_out(name: str, shared_data: Path, table: Tables, tmp_path: Path) -> None:
    source = shared_data / "checkpoints" / "portrait_matting" / f"{name}.pth"
    bundle = convert(source, tmp_path / name).bundle
    network = build_network(load_state(source), source, None, {}).module
    overlaps = []
    with edgerestore.load(bundle.folder) as restorer:
        for number in (4, 9, 12, 14, 15):
            image = photograph(shared_data, number)
            planes = torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))
            with torch.inference_mode():
                wanted = network(planes)[0, 0].numpy() > 0.5
            mask = restorer(image)[..., 0] > 127
            overlaps.append((mask & wanted).sum() / (mask | wanted).sum())
        lemur = scenes.photograph(shared_data / "matting" / "lemur.png")
        alpha = scenes.photograph(shared_data / "matting" / "lemur_alpha.png")[..., 0]
        error = np.abs(restorer(lemur)[..., 0].astype(float) - alpha).mean() / 255
    out = table(f"{name}: masks of Kodak 4, 9, 12, 14, 15 against PyTorch, and the lemur's alpha")
    out.at_least("least IoU against PyTorch", float(min(overlaps)), 0.995, "")
    out.value("mean absolute error of the lemur's alpha", f"{error:.4f}")


def _rate(call: Callable[[], object], seconds: float = 0.0) -> float:
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - start)
