"""The INT8 part of a report: what it tells, on a page and in a terminal."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.calibration.findings import (
    Candidate,
    DataFacts,
    Quality,
    QuantizationFindings,
    RunFacts,
    Sensitivity,
    WorstCrop,
)
from edgerestore.convert.int8_variant import write_quantization_report
from edgerestore.convert.pipeline import ConversionResult
from edgerestore.convert.quantization_html import render_quantization
from edgerestore.convert.quantization_text import quantization_table

CPU, ISA = "A Processor 9000", "AVX2, AVX-512 VNNI"
TAKEN = "12 of 14 operations"


def quality(loss: float, *, worst: float = 0.4, truth: bool = True) -> Quality:
    return Quality(
        psnr_db=31.4 - loss if truth else None,
        ssim=0.9 if truth else None,
        loss_db=loss,
        psnr_to_float_db=45.0,
        ssim_to_float=0.99,
        worst_loss_db=worst,
        worst_crop=1,
    )


def candidate(label: str, loss: float, ms: float | None, left: int = 0, **more: str) -> Candidate:
    kept = {f"core/node_conv2d_{at}": f"alone it costs 0.0{at} dB" for at in range(left)}
    share = 1 - left / 14
    method = more.get("method", "post-training")
    return Candidate(label, method, kept, 14 - left, share, quality(loss), 1_620_000, ms)


@pytest.fixture
def findings() -> QuantizationFindings:
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
    return QuantizationFindings(
        budget_db=0.1,
        verdict=f"INT8 written: {TAKEN} loses 0.062 dB",
        written=True,
        chosen=TAKEN,
        candidates=candidates,
        sensitivities=sensitivities,
        runs=(
            RunFacts("f32", 6_400_000, 118.0, exact),
            RunFacts("bf16", 3_200_000, 78.0, quality(0.006)),
            RunFacts("int8", 1_620_000, 48.3, candidates[-1].quality),
        ),
        timing_shape="640x360",
        cpu=CPU,
        isa=ISA,
        cores=2,
        seed=7,
        data=DataFacts(
            digest="0123456789abcdef" * 4,
            recipe={"flaw": "noise of sigma 25", "crop_px": 64, "held_out": {"files": ["b.png"]}},
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
            self.sections[-1] += f"{data} "


def section(html: str, title: str) -> str:
    (found,) = (text for text in Outline(html).sections if text.startswith(title))
    return found


def charts(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html)]


def titles(chart: ElementTree.Element) -> list[str]:
    return [title.text or "" for title in chart.iter("title")]


def strong(chart: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in chart.iter("text") if "strong" in t.get("class", "")]


def check_sound(html: str) -> None:
    """Whatever was found: no reference outside, nothing that is no number, sound SVG."""
    Outline(html)
    for outside in ("http:", "https:", "<script", "<link", "@import", "url("):
        assert outside not in html
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
    shown = re.sub(r'data:[^"]*', "", html)
    assert re.findall(r"\b(?:nan|inf|infinity)\b", shown, re.IGNORECASE) == []
    for chart in charts(html):
        assert (chart.tag, chart.get("role")) == ("svg", "img")
        assert chart[0].tag == "title"
        assert ISA in (chart[0].text or "")


def check_text(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 100
    assert re.findall(r"\b(?:nan|inf|infinity)\b", text, re.IGNORECASE) == []


def test_everything_is_told(findings: QuantizationFindings) -> None:
    html, text = render_quantization(findings), quantization_table(findings)
    check_sound(html)
    check_text(text)
    page = " ".join(Outline(html).sections)
    for told in (page, text):
        for one in findings.candidates:
            assert one.label in told
        for run in findings.runs:
            assert run.precision in told
        for fact in (
            *(findings.verdict, "0.1 dB", CPU, ISA, "2 cores", "640x360", "noise of sigma 25"),
            *("24 to", "12 held out", "0123456789ab", "2 smaller than 64x64", "identical"),
            *("2.44x", "1.51x", "alone it costs 0.01 dB"),
        ):
            assert fact.replace("24 to", "24 crops to" if told is text else "24 to") in told
    assert findings.data.digest in html  # whole, for whoever points at it
    assert findings.data.digest not in page


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


def test_long_lists_are_folded(findings: QuantizationFindings) -> None:
    many = tuple(
        Sensitivity(f"core/layer_{at}", "Convolution", 0.0, 1 / (at + 1)) for at in range(200)
    )
    kept = {row.operation: "alone it costs too much" for row in many[:50]}
    taken = replace(findings.candidates[-1], kept=kept)
    skipped = {f"{at}.png": "unreadable (no picture)" for at in range(40)}
    found = replace(
        findings,
        candidates=(taken,),
        sensitivities=many,
        data=replace(findings.data, skipped=skipped),
    )
    html, text = render_quantization(found), quantization_table(found)
    folded = "".join(re.findall(r"<details>.*?</details>", html))
    outside = re.sub(r"<details>.*?</details>", "", html)
    for name in ("core/layer_49", "core/layer_199", "39.png"):
        assert name in folded
        assert name not in outside
    assert "50 of 62 operations left in float" in html
    assert "40 files skipped: 40 unreadable" in html
    assert "left in float: 50 of 62 operations" in text
    assert "and 45 more" in text
    assert len(text.splitlines()) < 30


def test_refusal_says_so(findings: QuantizationFindings) -> None:
    verdict = "INT8 refused: the best of 5 candidates loses 0.2 dB; the budget is 0.1 dB"
    found = replace(findings, written=False, verdict=verdict)
    html, text = render_quantization(found), quantization_table(found)
    check_sound(html)
    assert verdict in section(html, "INT8  ")
    assert "refused" in section(html, "INT8  ")
    assert 'class="verdict bad"' in html
    assert "int8, not written" in section(html, "INT8 against float")
    assert "best, not taken" in section(html, "Quality against time")
    assert verdict in text
    assert "* best, not taken" in text


def test_force_and_lack_of_time_are_told(findings: QuantizationFindings) -> None:
    found = replace(findings, options={"forced": True, "complete": False})
    html, text = render_quantization(found), quantization_table(found)
    assert "written, forced" in html
    assert 'class="verdict bad"' in html
    for told in (html, text):
        assert "Time ran out" in told


def test_without_truth_the_loss_is_an_estimate(findings: QuantizationFindings) -> None:
    def blind(one: Quality) -> Quality:
        return replace(one, psnr_db=None, ssim=None)

    assert findings.worst is not None
    found = replace(
        findings,
        data=replace(findings.data, truth=False),
        worst=replace(findings.worst, truth=None),
        candidates=tuple(replace(c, quality=blind(c.quality)) for c in findings.candidates),
        runs=tuple(replace(r, quality=blind(r.quality or quality(0))) for r in findings.runs),
    )
    html, text = render_quantization(found), quantization_table(found)
    check_sound(html)
    check_text(text)
    for title in ("INT8 against float", "Quality against time"):
        assert "estimated" in section(html, title)
        assert "a picture of 30 dB" in section(html, title)
    assert "estimated" in text
    assert "PSNR dB" not in html
    assert "ground truth" not in section(html, "The crop that lost most")


def test_one_candidate_that_was_not_timed(findings: QuantizationFindings) -> None:
    found = replace(findings, candidates=(replace(findings.candidates[-1], ms=None),))
    html, text = render_quantization(found), quantization_table(found)
    check_sound(html)
    check_text(text)
    assert len(charts(html)) == 1
    assert "No candidate was timed" in section(html, "Quality against time")
    assert TAKEN in section(html, "Quality against time")


def test_the_least_that_can_be_found(findings: QuantizationFindings) -> None:
    found = replace(
        findings, chosen=None, written=False, candidates=(), sensitivities=(), runs=(), worst=None
    )
    html, text = render_quantization(found), quantization_table(found)
    check_sound(html)
    check_text(text)
    assert charts(html) == []


def test_numbers_that_are_none(findings: QuantizationFindings) -> None:
    for odd in (math.inf, -math.inf, math.nan):
        lost = replace(
            quality(odd, worst=odd), psnr_db=odd, ssim=odd, psnr_to_float_db=odd, ssim_to_float=odd
        )
        found = replace(
            findings,
            candidates=(replace(findings.candidates[-1], quality=lost, ms=odd, macs_share=0.0),),
            sensitivities=(Sensitivity("a", "Add", 0.0, odd), Sensitivity("b", "Add", 0.0, -1.0)),
            runs=(RunFacts("f32", 0, odd, lost), RunFacts("int8", 0, 0.0, None)),
            data=replace(findings.data, recipe={"sigma": odd}),
        )
        check_sound(render_quantization(found))
        check_text(quantization_table(found))
        json.dumps(found.as_dict(), allow_nan=False)


def test_names_from_outside_do_no_harm(findings: QuantizationFindings) -> None:
    hostile = '<script>alert("x")</script>&\'\n\x00\x1b[31m\udc80]]>' + "long" * 60
    found = replace(
        findings,
        verdict=hostile,
        cpu=f"{CPU} {hostile}",
        chosen=hostile,
        candidates=(replace(findings.candidates[-1], label=hostile, kept={hostile: hostile}),),
        sensitivities=(Sensitivity(hostile, hostile, 1.0, 0.1),),
        runs=(*findings.runs, replace(findings.runs[0], precision=hostile)),
        data=replace(findings.data, recipe={hostile: hostile}, skipped={hostile: hostile}),
        worst=None if findings.worst is None else replace(findings.worst, origin=hostile),
    )
    html, text = render_quantization(found), quantization_table(found)
    check_sound(html)
    check_text(text)
    html.encode()
    text.encode()
    assert "&lt;script&gt;" in html
    assert "\x00" not in html + text
    assert "\x1b" not in html + text


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
