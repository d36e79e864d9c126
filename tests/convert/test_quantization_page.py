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

from edgerestore.calibration.results import QuantizationFindings, WorstCrop
from edgerestore.convert.int8_variant import write_quantization_report
from edgerestore.convert.pipeline import ConversionResult
from edgerestore.convert.quantization_html import render_quantization

from .quantization_findings import CPU, ISA, TAKEN, Outline, charts, section, whole_findings


@pytest.fixture
def findings() -> QuantizationFindings:
    return whole_findings()


def titles(chart: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in chart.iter("title")]


def strong(chart: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in chart.iter("text") if "strong" in t.get("class", "")]


def test_machine_stands_beside_every_number(findings: QuantizationFindings) -> None:
    sections = Outline(render_quantization(findings)).sections
    assert len(sections) == 6
    for text in sections[:-1]:
        assert f"{CPU}, {ISA}, 2 cores" in text[:120]
    assert "INT8" not in sections[-1]  # the calibration data has no such numbers


def test_curve_shows_all_that_was_timed(findings: QuantizationFindings) -> None:
    bars, curve = charts(render_quantization(findings))
    named = titles(curve)[1:]
    assert len(named) == len(findings.candidates) + 2
    assert f"{TAKEN}: 48.30 ms, 0.062 dB lost" in named
    assert "f32: 118.00 ms, 0.000 dB lost" in named
    assert strong(curve) == [TAKEN]
    assert len([shape for shape in curve.iter("circle") if shape.get("class") == "ring"]) == 1
    assert len(list(curve.iter("path"))) == 1  # the one that was fine-tuned
    assert any(text.text == "budget 0.1 dB" for text in curve.iter("text"))
    (line,) = curve.iter("polyline")
    # Full INT8, the one that was taken, 9 of 14, bf16 and f32: the rest are beaten in both.
    assert len((line.get("points") or "").split()) == 5
    assert len(titles(bars)) == 1 + len(findings.sensitivities)
    drawn = [rect.get("class") for rect in bars.iter("rect") if rect.get("class") != "part"]
    assert drawn == ["other"] * 2 + ["plain"] * 12
    assert "0.080 dB, float" in [text.text for text in bars.iter("text")]


def pictures(html: str) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for caption, data in re.findall(r'alt="([^"]*)" src="data:image/webp;base64,([^"]*)"', html):
        raw = np.frombuffer(base64.b64decode(data), np.uint8)
        pixels = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
        assert pixels is not None
        found[unescape(caption)] = pixels.astype(np.uint8)
    return found


def test_worst_crop_is_true_to_the_pixel(findings: QuantizationFindings) -> None:
    html = render_quantization(findings)
    shown = pictures(html)
    assert len(shown) == 4
    assert findings.worst is not None
    (name,) = (caption for caption in shown if caption.startswith("INT8, "))
    made = np.rint(findings.worst.int8_output[0].transpose(1, 2, 0)[..., ::-1] * 255)
    np.testing.assert_array_equal(shown[name], made)
    assert any("10 times" in caption for caption in shown)
    told = section(html, "The crop that lost most")
    assert "b.png at 3,4" in told
    assert "0.400 dB" in told


def test_large_crops_are_cut_where_they_differ(findings: QuantizationFindings) -> None:
    wanted = np.full((1, 1, 700, 600), 0.5, np.float32)
    made = wanted.copy()
    made[:, :, 600:610, 500:505] = 0.75
    found = replace(findings, worst=WorstCrop("a", wanted, wanted, made, None))
    shown = pictures(render_quantization(found))
    for pixels in shown.values():
        assert max(pixels.shape) <= 384
    assert shown["INT8"].max() == 191
    same = replace(findings, worst=WorstCrop("a", wanted, wanted, wanted, wanted))
    assert "the difference: there is none" in pictures(render_quantization(same))


def test_it_stands_on_the_page_of_the_conversion(
    converted: tuple[ConversionResult, list[str]], findings: QuantizationFindings, tmp_path: Path
) -> None:
    bundle = shutil.copytree(converted[0].bundle.folder, tmp_path / "bundle")
    for _ in range(2):  # a second run takes the place of the first
        write_quantization_report(bundle, findings)
        page = (bundle / "report.html").read_text(encoding="utf-8")
        assert page.endswith("</main></body></html>\n")
        titles = re.findall(r"<h2>(.*?)(?: <span|</h2>)", page)
        assert titles.index("Speed") < titles.index("INT8") < titles.index("Calibration data")
        assert titles.count("INT8") == 1
    facts = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    assert facts["int8"]["chosen"] == findings.chosen
    assert facts["parity"], "the conversion's own figures are gone"
    (bundle / "report.html").unlink()
    write_quantization_report(bundle, findings)
    assert "<style>" in (bundle / "report.html").read_text(encoding="utf-8")
