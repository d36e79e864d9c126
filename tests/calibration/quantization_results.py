"""Results of a quantization to report, and a look at the page that reports them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np

from edgerestore.calibration.results import (
    Candidate,
    DatasetInfo,
    KindQuality,
    KindResult,
    PrecisionResult,
    Quality,
    QuantizationResults,
    Sensitivity,
    WorstCrop,
)

CPU, ISA = "A Processor 9000", "AVX2, AVX-512 VNNI"
TAKEN = "12 of 14 operations"


def quality(loss: float, *, worst: float = 0.4, truth: bool = True) -> Quality:
    """Return a quality on noisy, dark and sharp input, of which dark loses most."""
    on_kinds = tuple(
        KindQuality(name, psnr if truth else None, 45.0, share * loss, share * worst, crop)
        for name, psnr, share, crop in (
            ("noise", 31.4 - loss / 2, 0.5, 1),
            ("dark", 41.4 - loss, 1.0, 4),
            ("sharp", None, 0.1, 7),
        )
    )
    return Quality(
        psnr_db=31.4 - loss / 2 if truth else None,
        ssim=0.9 if truth else None,
        psnr_to_float_db=45.0,
        ssim_to_float=0.99,
        deciding="dark",
        loss_db=loss,
        worst_loss_db=worst,
        worst_crop=4,
        kinds=on_kinds,
    )


def kind_results() -> tuple[KindResult, ...]:
    """Return rows of kinds of input: within the budget, the last over it and not judged."""
    return (
        KindResult("noise", "gaussian noise, sigma 25 of 255", True, True, 31.4, 31.37, 45.0, 0.031,
                   0.2, "b.png at 3,4"),
        KindResult("dark", "a tenth of the range", True, True, 41.4, 41.338, 46.0, 0.062, 0.4,
                   "c.png at 0,9"),
        KindResult("sharp", "clean, against float", False, False, None, None, 44.0, 0.271, 0.5,
                   "d.png at 8,8"),
    )  # fmt: skip


def candidate(label: str, loss: float, ms: float | None, left: int = 0, **more: str) -> Candidate:
    kept = {f"core/node_conv2d_{at}": f"alone it costs 0.0{at} dB" for at in range(left)}
    share = 1 - left / 14
    method = more.get("method", "post-training")
    return Candidate(label, method, kept, 14 - left, share, quality(loss), 1_620_000, ms)


def whole_results() -> QuantizationResults:
    """Return results of a search that wrote INT8, with everything that can be told."""
    rng = np.random.default_rng(0)
    wanted = rng.random((1, 3, 64, 80), np.float32)
    made = np.clip(wanted + 0.01 * rng.standard_normal(wanted.shape), 0, 1).astype(np.float32)
    candidates = (
        candidate("full INT8, mean ranges", 0.91, 41.2),
        candidate("full INT8, widest ranges", 1.3, 41.3),
        candidate("9 of 14 operations", 0.02, 52.0, 5),
        candidate("11 of 14 operations, fine-tuned", 0.08, 48.9, 3, method="fine-tuned"),
        candidate(TAKEN, 0.062, 48.3, 2),
    )
    sensitivities = tuple(
        Sensitivity(f"core/node_conv2d_{at}", "Convolution", 1 / 14, 0.08 / (at + 1))
        for at in range(14)
    )
    exact = replace(quality(0.0, worst=0.0), psnr_to_float_db=math.inf, ssim_to_float=1.0)
    return QuantizationResults(
        budget_db=0.1,
        verdict=f"INT8 written: {TAKEN} loses 0.062 dB",
        written=True,
        chosen=TAKEN,
        candidates=candidates,
        sensitivities=sensitivities,
        kinds=kind_results(),
        runs=(
            PrecisionResult("f32", 6_400_000, 118.0, exact),
            PrecisionResult("bf16", 3_200_000, 78.0, quality(0.006)),
            PrecisionResult("int8", 1_620_000, 48.3, candidates[-1].quality),
        ),
        timing_shape="640x360",
        cpu=CPU,
        isa=ISA,
        cores=2,
        seed=7,
        data=DatasetInfo(
            digest="0123456789abcdef" * 4,
            recipe={
                "degradation": "noise of sigma 25",
                "crop_px": 64,
                "held_out": {"files": ["b.png"]},
            },
            calibration=24,
            held_out=12,
            truth=True,
            skipped={"tiny.png": "smaller than 64x64 (9x9)", "dot.png": "smaller than 64x64 (1x1)"},
        ),
        worst=WorstCrop("b.png at 3,4", wanted, wanted, made, wanted),
        options={"minutes": 30.0, "forced": False, "complete": True},
    )


class Outline(HTMLParser):
    """Checks that elements are closed in order, and collects text by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.sections.append("")
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "section" in self.open:
            self.sections[-1] += f"{data.strip()} " if data.strip() else ""


def section(html: str, title: str) -> str:
    (found,) = (text for text in Outline(html).sections if text.startswith(title))
    return found


def charts(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
