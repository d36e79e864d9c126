"""The report of a conversion: a terminal, JSON and a page tell the same of every kind."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.manifest import Manifest, Tiling, TilingMode
from edgerestore.convert import convert
from edgerestore.convert.kinds.shift import (
    ShiftPrecision,
    ShiftRow,
    cut_pairs,
    shift_measurements,
)
from edgerestore.convert.quantization import QuantizationOptions, quantize
from edgerestore.convert.report import (
    Measurements,
    image_measurements,
    text_table,
    write_report,
)
from edgerestore.convert.samples import load_samples
from edgerestore.convert.verify import ParityRow, PrecisionRow, Timing
from edgerestore.engine.tiling.proof import TilingProof
from edgerestore.errors import MissingExtraError

HOSTILE = '<script>alert("x")</script>&\x1b[31m'
SPEED = [Timing("OpenVINO", "fp32", "f32", "256x256", 12.345, "A Processor", "AVX2", 2)]


def manifest(**changes: object) -> Manifest:
    changed: Manifest = msgspec.structs.replace(Bundle.find("deblur").manifest, **changes)
    return changed


def restored(image: NDArray[np.float32], strength: float = 1.0) -> NDArray[np.float32]:
    """Stand in for a network: brighter everywhere."""
    made: NDArray[np.float32] = np.clip(image + 0.09 * strength, 0, 1).astype(np.float32)
    return made


def image_results(of: Manifest, difference: float = 0.0) -> Measurements:
    return image_measurements(
        of,
        load_samples(None, of.input.channels),
        SPEED,
        [ParityRow("64x64", "a", 1e-6, 2e-6), ParityRow("1x1", HOSTILE, 0.0, 3e-6)],
        [PrecisionRow("fp32", "f32", 0.0, math.inf, 1), PrecisionRow("fp16", "bf16", 0.1, 51.5, 1)],
        TilingProof(difference, "512x512 in 4 tiles"),
        restored,  # type: ignore[arg-type]
        eager=True,
    )


def shift_results(of: Manifest) -> Measurements:
    pictures = load_samples(None, 1)
    pairs = cut_pairs(pictures, 40)
    parity = [ShiftRow(one.name, *one.shift, 0.5, -0.25, 1e-6, 2e-6) for one in pairs]
    precision = [ShiftPrecision("fp32", "f32", 1e-6, 1e-7)]
    return shift_measurements(of, pictures, SPEED, parity, precision, pairs)


def written(found: Measurements, folder: Path) -> tuple[str, dict[str, object]]:
    write_report(folder, found)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for outside in ("http:", "https:", "<script", "<link", "@import", "url(", "\x1b"):
        assert outside not in page
    assert re.findall(r"\b(?:nan|inf)\b", re.sub(r'data:[^"]*', "", page)) == []
    facts: dict[str, object] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return page, facts


def test_numbers_are_the_same_in_every_form(tmp_path: Path) -> None:
    found = image_results(manifest())
    page, facts = written(found, tmp_path)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    text = text_table(found)
    for cell in ("64x64", "1.0e-06", "fp16 at bf16", "51.50", "equal", "1.0e-01", "12.35"):
        assert cell in cells
        assert cell in text
    assert facts["precision"][0]["psnr_db"] is None  # type: ignore[index]
    assert found.quality_of("fp32")["parity_max_difference"] == 3e-6
    assert found.quality_of("fp16")["bf16"]["psnr_db"] == 51.5
    assert found.quality_of("int8") == {}
    assert found.timings_of("fp32")[0]["ms"] == 12.345
    assert page.count("<img") == 6
    assert "restored, " in page
    assert "the change, 5 times" in page


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    for found in (
        image_results(manifest(name=HOSTILE, summary=HOSTILE, licence=HOSTILE)),
        shift_results(manifest(name=HOSTILE, summary=HOSTILE, task=HOSTILE)),
    ):
        page, _ = written(found, tmp_path)
        assert page.count("&lt;script&gt;") >= 3


@pytest.mark.parametrize(
    ("tiling", "line"),
    [
        (
            Tiling(TilingMode.EXACT, halo_px=60, halo_measured_px=58),
            "exact: halo 60 px, measured 58 px; whole against tiles differ by 1.0e-07",
        ),
        (
            Tiling(TilingMode.WINDOWED, window_px=96, ramp_px=24, reason="it pools"),
            "windowed: it pools; window 96 px, ramp 24 px; whole against tiles differ by 1.0e-07",
        ),
        (Tiling(TilingMode.WHOLE), "frames are never cut"),
    ],
)
def test_how_frames_are_cut_is_told(tmp_path: Path, tiling: Tiling, line: str) -> None:
    found = image_results(manifest(tiling=tiling), 1e-7)
    page, _ = written(found, tmp_path)
    assert f"tiles     {line}" in text_table(found)
    told = re.findall(r"<dd>(.*?)</dd>", page)
    proof = "1.0e-07 at most, 512x512 in 4 tiles"
    assert (proof in told) == (tiling.mode is not TilingMode.WHOLE)


def test_shifts_are_told_in_pixels(tmp_path: Path) -> None:
    found = shift_results(manifest(tiling=Tiling(TilingMode.WHOLE, reason="takes pairs")))
    page, facts = written(found, tmp_path)
    assert "tiles     never cut: takes pairs" in text_table(found)
    assert "(0.50, -0.25)" in text_table(found)
    assert "(0.50, -0.25)" in page
    assert page.count("<img") == 6
    assert facts["parity"]["limit_px"] == 1e-3  # type: ignore[index]
    assert found.quality_of("fp32")["parity_max_difference_px"] == 2e-6


def test_missing_libraries_of_pages_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    options = QuantizationOptions(calibrate=[tmp_path])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="HTML reports need jinja2"):
        convert(tmp_path / "no such file", tmp_path / "bundle")
    with pytest.raises(MissingExtraError, match="HTML reports need jinja2"):
        quantize(tmp_path / "no such bundle", options, print)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
