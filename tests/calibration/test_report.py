"""The report of a quantization: a page and a terminal tell the same, whatever was found."""

from __future__ import annotations

import base64
import json
import math
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

from edgerestore.bundle.bundle import Bundle
from edgerestore.calibration.report import page_sections, text_table, write_report
from edgerestore.calibration.results import (
    PrecisionResult,
    Quality,
    QuantizationResults,
    Sensitivity,
    WorstCrop,
)
from edgerestore.errors import BundleError

from .quantization_results import (
    CPU,
    ISA,
    TAKEN,
    Outline,
    charts,
    quality,
    section,
    whole_results,
)


@pytest.fixture
def results() -> QuantizationResults:
    return whole_results()


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


def test_everything_is_told(results: QuantizationResults) -> None:
    html, text = page_sections(results), text_table(results)
    check_sound(html)
    check_text(text)
    page = " ".join(Outline(html).sections)
    for told in (page, " ".join(text.split())):  # the terminal's lines are wrapped
        for one in results.candidates:
            assert one.label in told
        for run in results.runs:
            assert run.precision in told
        for fact in (
            *(results.verdict, "0.1 dB", CPU, ISA, "2 cores", "640x360", "noise of sigma 25"),
            *("24 to", "12 held out", "0123456789ab", "2 smaller than 64x64", "identical"),
            *("2.44x", "1.51x", "alone it costs 0.01 dB"),
        ):
            assert fact.replace("24 to", "24 to" if told is page else "24 crops to") in told
    assert results.data.digest in html  # whole, for whoever points at it
    assert results.data.digest not in page


def test_long_lists_are_folded(results: QuantizationResults) -> None:
    many = tuple(
        Sensitivity(f"core/layer_{at}", "Convolution", 0.0, 1 / (at + 1)) for at in range(200)
    )
    kept = {row.operation: "alone it costs too much" for row in many[:50]}
    taken = replace(results.candidates[-1], kept=kept)
    skipped = {f"{at}.png": "unreadable (no picture)" for at in range(40)}
    found = replace(
        results,
        candidates=(taken,),
        sensitivities=many,
        data=replace(results.data, skipped=skipped),
    )
    html, text = page_sections(found), text_table(found)
    folded = "".join(re.findall(r"<details>.*?</details>", html, re.DOTALL))
    outside = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    for name in ("core/layer_49", "core/layer_199", "39.png"):
        assert name in folded
        assert name not in outside
    assert "50 of 62 operations left in float" in html
    assert "40 files skipped: 40 unreadable" in html
    assert "left in float: 50 of 62 operations" in text
    assert "and 45 more" in text
    assert len(text.splitlines()) < 40


def test_refusal_says_so(results: QuantizationResults) -> None:
    verdict = "INT8 refused: the best of 5 candidates loses 0.2 dB; the budget is 0.1 dB"
    found = replace(results, written=False, verdict=verdict)
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    assert verdict in section(html, f"INT8 {CPU}")
    assert "refused" in section(html, f"INT8 {CPU}")
    assert 'class="verdict bad"' in html
    assert "int8, not written" in section(html, "INT8 against float")
    assert "best, not taken" in section(html, "Quality against time")
    assert verdict in text
    assert "* best, not taken" in text


def test_force_and_lack_of_time_are_told(results: QuantizationResults) -> None:
    found = replace(results, options={"forced": True, "complete": False})
    html, text = page_sections(found), text_table(found)
    assert "written, forced" in html
    assert 'class="verdict bad"' in html
    for told in (html, text):
        assert "Time ran out" in told


def test_without_truth_the_loss_is_an_estimate(results: QuantizationResults) -> None:
    def blind(one: Quality) -> Quality:
        return replace(one, psnr_db=None, ssim=None)

    found = replace(
        results,
        data=replace(results.data, truth=False),
        worst=replace(results.worst, truth=None),
        candidates=tuple(replace(c, quality=blind(c.quality)) for c in results.candidates),
        runs=tuple(replace(r, quality=blind(r.quality)) for r in results.runs),
    )
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    for title in ("INT8 against float", "Quality against time"):
        assert "estimated" in section(html, title)
        assert "a picture of 30 dB" in section(html, title)
    assert "estimated" in text
    assert "PSNR dB" not in html
    assert "ground truth" not in section(html, "The crop that lost most")


def test_one_candidate_that_was_not_timed(results: QuantizationResults) -> None:
    found = replace(results, candidates=(replace(results.candidates[-1], ms=None),))
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    assert len(charts(html)) == 1
    assert "there is no curve" in section(html, "Quality against time")
    assert TAKEN in section(html, "Quality against time")


def test_the_least_that_can_be_found(results: QuantizationResults) -> None:
    found = replace(
        results, written=False, candidates=results.candidates[-1:], sensitivities=(), runs=()
    )
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    assert len(charts(html)) == 1


def test_numbers_that_are_none(results: QuantizationResults) -> None:
    for odd in (math.inf, -math.inf, math.nan):
        lost = replace(
            quality(odd, worst=odd), psnr_db=odd, ssim=odd, psnr_to_float_db=odd, ssim_to_float=odd
        )
        found = replace(
            results,
            candidates=(replace(results.candidates[-1], quality=lost, ms=odd, macs_share=0.0),),
            sensitivities=(Sensitivity("a", "Add", 0.0, odd), Sensitivity("b", "Add", 0.0, -1.0)),
            runs=(PrecisionResult("f32", 0, odd, lost), PrecisionResult("int8", 0, 0.0, lost)),
            data=replace(results.data, recipe={"sigma": odd}),
        )
        check_sound(page_sections(found))
        check_text(text_table(found))
        json.dumps(found.as_dict(), allow_nan=False)


def test_names_from_outside_do_no_harm(results: QuantizationResults) -> None:
    hostile = '<script>alert("x")</script>&\'\n\x00\x1b[31m\udc80]]>' + "long" * 60
    found = replace(
        results,
        verdict=hostile,
        cpu=f"{CPU} {hostile}",
        chosen=hostile,
        candidates=(replace(results.candidates[-1], label=hostile, kept={hostile: hostile}),),
        sensitivities=(Sensitivity(hostile, hostile, 1.0, 0.1),),
        runs=(*results.runs, replace(results.runs[0], precision=hostile)),
        data=replace(results.data, recipe={hostile: hostile}, skipped={hostile: hostile}),
        worst=replace(results.worst, origin=hostile),
    )
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    html.encode()
    text.encode()
    assert "&lt;script&gt;" in html
    assert "\x00" not in html + text
    assert "\x1b" not in html + text


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
    assert len(sections) == 7
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


@pytest.mark.parametrize("earlier", [False, True])
def test_it_stands_on_the_page_of_the_conversion(
    results: QuantizationResults, tmp_path: Path, earlier: bool
) -> None:
    bundle = shutil.copytree(Bundle.find("deblur").folder, tmp_path / "bundle")
    if not earlier:  # the page of a conversion that was not quantized
        page = (bundle / "report.html").read_text(encoding="utf-8")
        page = re.sub("<!-- int8 -->.*<!-- /int8 -->", "", page, flags=re.DOTALL)
        (bundle / "report.html").write_text(page, encoding="utf-8")
    for _ in range(2):  # a second run takes the place of the first
        write_report(bundle, results)
        page = (bundle / "report.html").read_text(encoding="utf-8")
        assert page.endswith("</main></body></html>\n")
        titles = re.findall(r"<h2>(.*?)(?: <span|</h2>)", page)
        assert titles.index("Speed") < titles.index("INT8") < titles.index("Calibration data")
        assert titles.count("INT8") == 1
        assert page.count("<style>") == 1
        assert ".chart text{" in page, "the style is not the current one"
    facts = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    assert facts["int8"]["chosen"] == results.chosen
    assert facts["parity"], "the conversion's own figures are gone"
    (bundle / "report.html").unlink()
    write_report(bundle, results)
    assert "<style>" in (bundle / "report.html").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_read_is_named(
    results: QuantizationResults, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(BundleError, match=r"report\.json cannot be read"):
        write_report(tmp_path, results)


def test_each_kind_of_input_is_told(results: QuantizationResults) -> None:
    html, text = page_sections(results), text_table(results)
    for told in (section(html, "Kinds of input"), text):
        for one in results.kinds:
            assert one.kind in told
            assert one.worst_picture in told
            assert f"{one.loss_db:.3f}" in told
        for fact in ("31.40", "41.34", "a tenth of the range", "the float model judges"):
            assert fact in told
        assert "over, not judged" in told
    (dark,) = (line for line in text.splitlines() if line.startswith("* dark"))
    assert " ".join(dark.split()) == "* dark 41.40 41.34 0.062 0.400 c.png at 0,9 within"
    assert "lost at INT8, on dark" in html
    facts = results.as_dict()["kinds"]
    assert [(one["kind"], one["within_budget"]) for one in facts] == [
        ("noise", True),
        ("dark", True),
        ("sharp", False),
    ]
