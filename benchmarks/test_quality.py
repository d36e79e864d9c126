"""What restoration is worth: the default model on held-out photographs, and a converted one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import edgerestore
from edgerestore.convert import convert
from edgerestore.convert.architectures import REGISTRY
from edgerestore.imaging.degradations import PROTOCOL, Blur, degrade
from edgerestore.imaging.metrics import psnr, ssim
from edgerestore.runtimes import runtime_for

from .harness import Effort, Table
from .scenes import photograph

Picture = NDArray[np.uint8]
Tables = Callable[[str], Table]

HELD_OUT = (13, 14, 15, 16)  # training never sees these
SEED = 7
WHOLE = 1 << 14
MASK_SIGMAS_PX = tuple(np.geomspace(0.3, 4.0, 28).round(2).tolist())
MASK_AMOUNTS = np.arange(0.05, 5.0, 0.05)


@dataclass(frozen=True, eq=False)
class Pair:
    clean: Picture
    degraded: Picture
    blur: Blur


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> list[Picture]:
    paths = [shared_data / "kodak" / f"{name}.png" for name in HELD_OUT]
    return [photograph(path) for path in paths]


@pytest.fixture(scope="module")
def precisions() -> list[str]:
    """fp32, and the CPU's native half where it has one."""
    halves = [p for p in runtime_for("CPU").precisions("CPU") if p in ("bf16", "fp16")]
    return ["fp32", *halves[:1]]


def test_default_model(
    photographs: list[Picture], table: Tables, precisions: list[str], effort: Effort
) -> None:
    _judge(photographs, 3, table, precisions, targets=True)
    # Twelve draws of a blur leave much to luck: the same on more of them.
    _judge(photographs, effort.draws, table, precisions, targets=False)


def _judge(
    photographs: list[Picture], draws: int, table: Tables, precisions: list[str], *, targets: bool
) -> None:
    pairs = _degraded(photographs, draws)
    outcomes = {"input": [pair.degraded for pair in pairs]}
    sigma_px, amount = _best_mask(pairs)
    outcomes["mask"] = [_unsharp(pair.degraded, sigma_px, amount) for pair in pairs]
    for precision in precisions:
        with edgerestore.load("deblur", precision=precision, tile=WHOLE) as restorer:
            outcomes[precision] = list(restorer.stream(pair.degraded for pair in pairs))
    scores = {name: _psnrs(images, pairs) for name, images in outcomes.items()}
    out = table(f"quality: default model, Kodak 13-16, {draws} draws each, seed {SEED}")
    for name, images in outcomes.items():
        similar = np.mean([ssim(i, p.clean) for i, p in zip(images, pairs, strict=True)])
        by_kind = "  ".join(
            f"{kind} {db:.2f}" for kind, db in _by_kind(scores[name], pairs).items()
        )
        out.value(name, f"{np.mean(scores[name]):.3f} dB  SSIM {similar:.4f}  {by_kind}")
    for precision in precisions:
        for peer, least in (("input", 1.9), ("mask", 0.7)):
            gains = np.subtract(scores[precision], scores[peer])
            error = gains.std(ddof=1) / len(gains) ** 0.5
            what = f"{precision} over {peer} (standard error {error:.2f})"
            if targets:
                out.at_least(what, float(gains.mean()), least, "dB")
            else:
                out.value(what, f"{gains.mean():+.3f} dB")
    kinds = [pair.blur for pair in pairs]
    out.note("blurs: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in Blur))
    out.note(
        f"mask: the best of {len(MASK_SIGMAS_PX) * len(MASK_AMOUNTS)} unsharp masks, chosen on"
    )
    out.note(f"these very pictures: sigma {sigma_px:.2f} px, amount {amount:.2f}")


def test_converted_model(
    shared_data: Path,
    photographs: list[Picture],
    table: Tables,
    tmp_path: Path,
    precisions: list[str],
) -> None:
    checkpoint = shared_data / "checkpoints" / "denoise" / "dncnn_25.pth"
    convert(checkpoint, tmp_path / "dncnn", name="dncnn")
    rng = np.random.default_rng(SEED)
    clean = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for p in photographs]
    noisy = [np.clip(c + rng.normal(0, 25 / 255, c.shape), 0, 1).astype(np.float32) for c in clean]
    outcomes: dict[str, Iterable[NDArray[np.float32]]] = {"input": noisy}
    outcomes["PyTorch"] = _denoised_by_torch(checkpoint, noisy)
    for precision in precisions:
        with edgerestore.load(tmp_path / "dncnn", precision=precision, tile=WHOLE) as restorer:
            outcomes[precision] = list(restorer.stream(noisy))
    scores = {
        name: float(np.mean([psnr(i, c) for i, c in zip(images, clean, strict=True)]))
        for name, images in outcomes.items()
    }
    out = table("quality: DnCNN converted, grey Kodak 13-16, noise sigma 25")
    for name, db in scores.items():
        out.value(name, f"{db:.4f} dB")
    for precision in precisions:
        difference = abs(scores[precision] - scores["PyTorch"])
        out.at_most(f"{precision} off PyTorch by", difference, 0.02, "dB")
    # A wrong conversion is no matter of speed or taste.
    assert abs(scores["fp32"] - scores["PyTorch"]) < 0.02


def _denoised_by_torch(
    checkpoint: Path, noisy: list[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    known = REGISTRY["dncnn"]
    network = known.build(**known.arguments_from(state)).eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        return [network(torch.from_numpy(n)[None, None])[0, 0].clamp(0, 1).numpy() for n in noisy]


def _degraded(photographs: list[Picture], draws: int) -> list[Pair]:
    """Degrade each photograph ``draws`` times by the protocol, from one seed."""
    rng = np.random.default_rng(SEED)
    pairs = []
    for clean in photographs:
        for _ in range(draws):
            degraded, blur = degrade(clean.astype(np.float32) / np.float32(255), PROTOCOL, rng)
            pairs.append(Pair(clean, degraded, blur))
    return pairs


def _best_mask(pairs: list[Pair]) -> tuple[float, float]:
    """Return the one setting (sigma, amount) that does best on all the pictures together.

    Before rounding and clipping, which matter little, the error is a quadratic in the
    amount: three means a sigma tell all amounts.
    """
    best = (-np.inf, 0.0, 0.0)
    for sigma_px in MASK_SIGMAS_PX:
        total_db = np.zeros(len(MASK_AMOUNTS))
        for pair in pairs:
            image = pair.degraded.astype(np.float32)
            error = image - pair.clean
            detail = image - cv2.GaussianBlur(image, (0, 0), sigma_px)
            square = (error * error).mean(dtype=np.float64)
            cross = (error * detail).mean(dtype=np.float64)
            bend = (detail * detail).mean(dtype=np.float64)
            total_db -= 10 * np.log10(square + 2 * MASK_AMOUNTS * cross + MASK_AMOUNTS**2 * bend)
        at = int(total_db.argmax())
        best = max(best, (float(total_db[at]), sigma_px, float(MASK_AMOUNTS[at])))
    return best[1:]


def _unsharp(image: Picture, sigma_px: float, amount: float) -> Picture:
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma_px)
    # Rounded and clipped to bytes by OpenCV.
    return np.asarray(
        cv2.addWeighted(image.astype(np.float32), 1 + amount, soft, -amount, 0, dtype=cv2.CV_8U)
    )


def _psnrs(images: Iterable[Picture], pairs: list[Pair]) -> list[float]:
    return [psnr(image, pair.clean) for image, pair in zip(images, pairs, strict=True)]


def _by_kind(scores: list[float], pairs: list[Pair]) -> Mapping[str, float]:
    return {
        kind: float(np.mean([s for s, p in zip(scores, pairs, strict=True) if p.blur is kind]))
        for kind in Blur
        if any(pair.blur is kind for pair in pairs)
    }
