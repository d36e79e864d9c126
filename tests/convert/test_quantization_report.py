"""The INT8 part of a report: a page and a terminal tell the same, whatever was found."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from edgerestore.calibration.report import page_sections, text_table
from edgerestore.calibration.results import (
    PrecisionResult,
    Quality,
    QuantizationResults,
    Sensitivity,
)

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
    for told in (page, text):
        for one in results.candidates:
            assert one.label in told
        for run in results.runs:
            assert run.precision in told
        for fact in (
            *(results.verdict, "0.1 dB", CPU, ISA, "2 cores", "640x360", "noise of sigma 25"),
            *("24 to", "12 held out", "0123456789ab", "2 smaller than 64x64", "identical"),
            *("2.44x", "1.51x", "alone it costs 0.01 dB"),
        ):
            assert fact.replace("24 to", "24 crops to" if told is text else "24 to") in told
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
    assert len(text.splitlines()) < 30


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

    assert results.worst is not None
    found = replace(
        results,
        data=replace(results.data, truth=False),
        worst=replace(results.worst, truth=None),
        candidates=tuple(replace(c, quality=blind(c.quality)) for c in results.candidates),
        runs=tuple(replace(r, quality=blind(r.quality or quality(0))) for r in results.runs),
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
    assert "No candidate was timed" in section(html, "Quality against time")
    assert TAKEN in section(html, "Quality against time")


def test_the_least_that_can_be_found(results: QuantizationResults) -> None:
    found = replace(
        results, chosen=None, written=False, candidates=(), sensitivities=(), runs=(), worst=None
    )
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    assert charts(html) == []


def test_numbers_that_are_none(results: QuantizationResults) -> None:
    for odd in (math.inf, -math.inf, math.nan):
        lost = replace(
            quality(odd, worst=odd), psnr_db=odd, ssim=odd, psnr_to_float_db=odd, ssim_to_float=odd
        )
        found = replace(
            results,
            candidates=(replace(results.candidates[-1], quality=lost, ms=odd, macs_share=0.0),),
            sensitivities=(Sensitivity("a", "Add", 0.0, odd), Sensitivity("b", "Add", 0.0, -1.0)),
            runs=(PrecisionResult("f32", 0, odd, lost), PrecisionResult("int8", 0, 0.0, None)),
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
        worst=None if results.worst is None else replace(results.worst, origin=hostile),
    )
    html, text = page_sections(found), text_table(found)
    check_sound(html)
    check_text(text)
    html.encode()
    text.encode()
    assert "&lt;script&gt;" in html
    assert "\x00" not in html + text
    assert "\x1b" not in html + text
