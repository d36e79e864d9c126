"""The INT8 part of a report's page: its charts, its pictures, its place."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.calibration.report import page_sections, write_report
from edgerestore.calibration.results import QuantizationResults, WorstCrop
from edgerestore.convert.pipeline import ConversionResult

from .quantization_results import CPU, ISA, TAKEN, Outline, charts, section, whole_results


@pytest.fixture
def results() -> QuantizationResults:
    return whole_results()


def titles(chart: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in chart.iter("title")]


def strong(chart: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in chart.iter("text") if "font-weight" in t.get("style", "")]


def shapes(chart: ElementTree.Element, kind: str) -> list[str]:
    """Return the styles of what is drawn for each group of a class."""
    found = (group.find(".//path") for group in chart.iter("g") if group.get("class") == kind)
    return [path.get("style", "") for path in found if path is not None]


def test_machine_stands_beside_every_number(results: QuantizationResults) -> None:
    sections = Outline(page_sections(results)).sections
    assert len(sections) == 6
    for text in sections[:-1]:
        assert f"{CPU}, {ISA}, 2 cores" in text[:120]
    assert "INT8" not in sections[-1]  # the calibration data has no such numbers


def test_curve_shows_all_that_was_timed(results: QuantizationResults) -> None:
    bars, curve = charts(page_sections(results))
    named = titles(curve)[1:]
    assert len(named) == len(results.candidates) + 2
    assert f"{TAKEN}: 48.30 ms, 0.062 dB lost" in named
    assert "f32: 118.00 ms, 0.000 dB lost" in named
    assert strong(curve) == [TAKEN]
    assert len(shapes(curve, "ring")) == 1
    drawn = shapes(curve, "mark")
    assert len([style for style in drawn if "var(--warm)" in style]) == 1  # it was fine-tuned
    assert any(text.text == "budget 0.1 dB" for text in curve.iter("text"))
    (line,) = (group.find("path") for group in curve.iter("g") if group.get("class") == "path")
    assert line is not None
    # Full INT8, the one that was taken, 9 of 14, bf16 and f32: the rest are beaten in both.
    assert len(re.findall(r"[ML] ", line.get("d", ""))) == 5
    assert len(titles(bars)) == 1 + len(results.sensitivities)
    drawn = [re.findall(r"fill: var\(--(\w+)\)", style)[0] for style in shapes(bars, "mark")]
    assert drawn == ["warm"] * 2 + ["accent"] * 12
    assert "0.080 dB, float" in [text.text for text in bars.iter("text")]


def pictures(html: str) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for caption, data in re.findall(r'alt="([^"]*)" src="data:image/webp;base64,([^"]*)"', html):
        raw = np.frombuffer(base64.b64decode(data), np.uint8)
        pixels = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        found[unescape(caption)] = pixels.astype(np.uint8)
    return found


def test_worst_crop_is_true_to_the_pixel(results: QuantizationResults) -> None:
    html = page_sections(results)
    shown = pictures(html)
    assert len(shown) == 4
    assert results.worst is not None
    (name,) = (caption for caption in shown if caption.startswith("INT8, "))
    made = np.rint(results.worst.int8_output[0].transpose(1, 2, 0)[..., ::-1] * 255)
    np.testing.assert_array_equal(shown[name], made)
    assert any("10 times" in caption for caption in shown)
    told = section(html, "The crop that lost most")
    assert "b.png at 3,4" in told
    assert "0.400 dB" in told


def test_large_crops_are_cut_where_they_differ(results: QuantizationResults) -> None:
    wanted = np.full((1, 1, 700, 600), 0.5, np.float32)
    made = wanted.copy()
    made[:, :, 600:610, 500:505] = 0.75
    found = replace(results, worst=WorstCrop("a", wanted, wanted, made, None))
    shown = pictures(page_sections(found))
    for pixels in shown.values():
        assert max(pixels.shape) <= 384
    assert shown["INT8"].max() == 191
    same = replace(results, worst=WorstCrop("a", wanted, wanted, wanted, wanted))
    assert "no difference" in page_sections(same)


def test_it_stands_on_the_page_of_the_conversion(
    converted: tuple[ConversionResult, list[str]], results: QuantizationResults, tmp_path: Path
) -> None:
    bundle = shutil.copytree(converted[0].bundle.folder, tmp_path / "bundle")
    for _ in range(2):  # a second run takes the place of the first
        write_report(bundle, results)
        page = (bundle / "report.html").read_text(encoding="utf-8")
        assert page.endswith("</main></body></html>\n")
        titles = re.findall(r"<h2>(.*?)(?: <span|</h2>)", page)
        assert titles.index("Speed") < titles.index("INT8") < titles.index("Calibration data")
        assert titles.count("INT8") == 1
    facts = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    assert facts["int8"]["chosen"] == results.chosen
    assert facts["parity"], "the conversion's own figures are gone"
    (bundle / "report.html").unlink()
    write_report(bundle, results)
    assert "<style>" in (bundle / "report.html").read_text(encoding="utf-8")
