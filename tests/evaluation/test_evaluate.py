"""Models measured on drawn photographs: what is found, and how the reports agree."""

import csv
import io
import json
import math
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore.errors import SourceError
from edgerestore.evaluation import evaluate, html_text, json_text, table_text
from edgerestore.extensions import install_command

from ..checked import imread


@pytest.fixture
def photographs(folder, picture):
    return folder("truth", a=picture(64, 80), b=picture(48, 60, seed=1), c=picture(64, 80, seed=2))


class Page(HTMLParser):
    """Collects cells, pictures, and everything that would need a network."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.images, self.outside, self._in_cell = [], 0, [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self._in_cell = tag in ("td", "th")
        if tag == "img":
            self.images += 1
            assert found["src"].startswith("data:image/")
        if tag in ("script", "link", "iframe"):
            self.outside.append(tag)

    def handle_endtag(self, tag):
        self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.cells.append(data)


@pytest.fixture
def reports(run, photographs, tmp_path):
    paths = {name: tmp_path / f"report.{name}" for name in ("csv", "json", "html")}
    files = [part for name, path in paths.items() for part in (f"--{name}", path)]
    code, out, lines = run(
        *("evaluate", "--model", "deblur", "--precision", "fp32", "--precision", "int8"),
        *("--degrade", "blur", "--targets", photographs, *files),
    )
    assert code == 0, lines
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("report.csv", "report.html", "report.json", "truth")
    ]
    return out, *(path.read_text("utf-8") for path in paths.values())


def test_table_csv_json_and_page_say_the_same(reports):
    out, csv_file, json_file, page = reports
    facts = json.loads(json_file)
    lines = list(csv.DictReader(io.StringIO(csv_file)))
    assert [(row["model"], row["precision"]) for row in facts["rows"]] == [
        *(("input", None), ("deblur", "fp32"), ("deblur", "int8"))
    ]
    assert facts["recipe"]["degrade"] == "blur"
    assert facts["recipe"]["seed"] == 0
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["isa"]
    assert facts["tools"]["edgerestore"] == edgerestore.__version__
    assert set(facts["metrics"]) == {"psnr_db", "ssim", "psnr_y_db", "ssim_y"}
    flat = [(row, image) for row in facts["rows"] for image in row["images"]]
    assert len(lines) == len(flat) == 9
    for line, (row, image) in zip(lines, flat, strict=True):
        assert line["model"] == row["model"]
        assert line["precision"] == (row["precision"] or "")
        assert line["image"] == image["image"]
        for key in ("width", "height", *facts["metrics"]):
            assert float(line[key]) == image[key]
        assert line["milliseconds"] == str(image["milliseconds"] or "")
    shown = out.splitlines()[2:5]
    cells = Page(page).cells
    for row, line in zip(facts["rows"], shown, strict=True):
        words = line.split()
        for at, key in enumerate(facts["metrics"]):
            mean = statistics.fmean(image[key] for image in row["images"])
            assert row["means"][key] == pytest.approx(mean)
            assert words[2 + at] == f"{mean:.{2 if 'db' in key else 4}f}"
            assert words[2 + at] in cells
        if row["precision"]:
            median = statistics.median(image["milliseconds"] for image in row["images"])
            assert row["milliseconds"] == pytest.approx(median)
            assert row["megapixels_per_second"] > 0


def test_the_page_needs_nothing_else(reports):
    page = reports[-1]
    parsed = Page(page)
    assert not parsed.outside
    assert not re.search(r"https?://|@import|url\(", page)
    assert parsed.images == 2 * 3 * 4  # models, worst pictures, parts of each


def test_a_picture_is_as_if_restored_and_measured_alone(folder, photographs, picture):
    soft = {
        name: cv2.GaussianBlur(imread(photographs / f"{name}.png"), (0, 0), 1)[..., ::-1]
        for name in "abc"
    }
    found = evaluate(
        ["deblur"], inputs=folder("soft", **soft), targets=photographs, precisions=["fp32"]
    )
    truth = imread(photographs / "b.png")[..., ::-1].astype(np.float64)
    with edgerestore.load("deblur", precision="fp32") as restorer:
        made = restorer(np.ascontiguousarray(soft["b"])).astype(np.float64)
    expected = 20 * math.log10(255) - 10 * math.log10(np.mean((made - truth) ** 2))
    assert found.rows[1].images[1].values["psnr_db"] == pytest.approx(expected)
    before = 20 * math.log10(255) - 10 * math.log10(np.mean((soft["b"] - truth) ** 2))
    assert found.rows[0].images[1].values["psnr_db"] == pytest.approx(before)


def test_a_pictures_degradation_is_its_own(folder, picture):
    some = folder("some", a=picture(40, 40), b=picture(40, 40, seed=1))
    one = folder("one", b=picture(40, 40, seed=1))

    def scores(targets, seed):
        found = evaluate(
            ["deblur"], targets=targets, degrade="noise:25", seed=seed, precisions=["fp32"]
        )
        return found.rows[0].images[-1].values, found.rows[1].images[-1].values

    assert scores(some, 0) == scores(one, 0)
    assert scores(one, 0) != scores(one, 1)
    assert 19 < scores(one, 0)[0]["psnr_db"] < 21.5  # sigma 25 is 20.2 dB, less what is clipped


def test_equal_pictures(run, folder, picture, tmp_path):
    same = folder("same", a=picture(30, 40), b=picture(30, 40, seed=1))
    code, out, _ = run(
        *("evaluate", "--model", "deblur", "--targets", same, "--degrade", "none"),
        *("--strength", 0, "--json", tmp_path / "f.json", "--csv", tmp_path / "f.csv"),
        *("--html", tmp_path / "f.html"),
    )
    assert code == 0
    assert out.splitlines()[2].split()[2:4] == ["equal", "1.0000"]
    assert "input: all equal their targets." in out
    row = json.loads((tmp_path / "f.json").read_text())["rows"][1]
    assert row["equal"] == 2
    assert row["means"]["psnr_db"] is row["images"][0]["psnr_db"] is None
    line = next(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text())))
    assert float(line["psnr_db"]) == math.inf


def test_some_equal_pictures_are_said(folder, picture):
    clean = picture(30, 40)
    found = evaluate(
        ["deblur"],
        targets=folder("truth", a=clean, b=clean),
        inputs=folder("given", a=clean, b=clean // 2),
        strength=0,
        precisions=["fp32"],
    )
    assert "input: 1 of 2 equal their targets; PSNR is the mean of the others." in table_text(found)
    assert "Models ran with strength 0." in table_text(found)


def test_a_model_that_enlarges(folder, picture, doubler):
    small = picture(20, 24)
    large = small.repeat(2, 0).repeat(2, 1)
    found = evaluate([doubler], targets=folder("hr", a=large), inputs=folder("lr", a=small))
    assert found.border_px == 2
    before, after = found.rows
    assert after.model == "doubler"
    assert after.images[0].values["psnr_db"] == math.inf
    assert 20 < before.images[0].values["psnr_db"] < 60
    assert "enlarged 2 times" in html_text(found)
    # Of a side that is no multiple, the rest is cut off the target.
    made = evaluate(
        [doubler], targets=folder("odd", a=picture(61, 75)), degrade="downscale", border=0
    )
    assert (made.rows[0].images[0].width, made.rows[0].images[0].height) == (74, 60)
    assert made.rows[0].images[0].megapixels == pytest.approx(37 * 30 / 1e6)


def test_inputs_with_the_scale_in_their_name_and_targets_that_are_no_multiple(
    run, folder, picture, doubler
):
    # As benchmarks come: baby.png is 61x41, babyx2.png 30x20.
    truth = folder("truth", baby=picture(41, 61), bird_x2=picture(40, 60, seed=1))
    small = folder("small", babyx2=picture(20, 30), bird_x2=picture(20, 30))
    code, _, lines = run(
        *("evaluate", "--model", doubler, "--precision", "fp32", "--border", 0),
        *("--targets", truth, "--inputs", small),
    )
    assert code == 0, lines
    assert any("baby.png: cut at the right and the bottom, where" in line for line in lines)
    cut = folder("cut", baby=picture(41, 61)[:40, :60], bird_x2=picture(40, 60, seed=1))
    found = [evaluate([doubler], targets=one, inputs=small, border=0) for one in (truth, cut)]
    values = [[image.values for row in one.rows for image in row.images] for one in found]
    assert values[0] == values[1]


def test_inputs_whose_sides_were_rounded_up(folder, picture, doubler):
    # As MATLAB's imresize makes them: 31x21 of 61x41, whose last pixels end behind the truth.
    truth, large = picture(41, 61), picture(21, 31)
    made = evaluate([doubler], targets=folder("t", a=truth), inputs=folder("i", a=large), border=0)
    cut = evaluate(
        [doubler],
        targets=folder("tc", a=truth[:40, :60]),
        inputs=folder("ic", a=large[:20, :30]),
        border=0,
    )
    assert [row.images[0].values for row in made.rows] == [row.images[0].values for row in cut.rows]
    with pytest.raises(SourceError, match="is 61x41, and its input .* is 32x21; expected 64x42"):
        evaluate([doubler], targets=folder("u", a=truth), inputs=folder("j", a=picture(21, 32)))


@pytest.mark.parametrize("alpha", [False, True])
def test_a_model_that_makes_masks(folder, picture, masker, alpha):
    image = picture(30, 40)
    target = np.where(image.mean(2) > 120, 255, 0).astype(np.uint8)
    truth = np.dstack([image, target]) if alpha else target
    found = evaluate([masker], targets=folder("mask", a=truth), inputs=folder("in", a=image))
    (row,) = found.rows
    mask = np.rint(image.astype(np.float32).mean(2)) / 255
    assert row.images[0].values["mae"] == pytest.approx(
        np.abs(mask - target / 255).mean(), abs=4e-3
    )
    inside, wanted = mask >= 0.5, target > 0
    assert row.images[0].values["iou"] == pytest.approx(
        (inside & wanted).sum() / (inside | wanted).sum(), abs=0.02
    )
    assert table_text(found).split()[2:4] == ["MAE", "IoU"]
    assert "MAE" in html_text(found)
    assert json.loads(json_text(found))["kind"] == "mask"


@pytest.mark.parametrize(("dtype", "peak"), [("uint16", 65535), ("float32", 1)])
def test_deep_and_grey_pictures(folder, picture, dtype, peak):
    level = picture(32, 40, 1)[..., 0] / 255
    deep = (level * peak + (0.3 if peak > 1 else 0)).astype(dtype)
    found = evaluate(["deblur"], targets=folder("deep", a=deep), degrade="none", strength=0)
    assert [row.equal for row in found.rows] == [1, 1]
    found = evaluate(["deblur"], targets=folder("noisy", a=deep), degrade="noise:10")
    assert 26 < found.rows[0].mean("psnr_db") < 30


def test_rows_of_one_precision_are_joined(photographs, caplog):
    lines: list[str] = []
    caplog.set_level("INFO", "edgerestore")
    found = evaluate(
        ["deblur", "deblur"],
        targets=photographs,
        degrade="none",
        precisions=["fp32", "fp32"],
        report=lines.append,
    )
    assert [row.label for row in found.rows] == ["input", "deblur fp32"]
    assert sum("already" in line for line in lines) == 3
    assert lines == [r.getMessage() for r in caplog.records if "evaluation" in r.name]


BLOCKED = ("jinja2", "matplotlib", "torch", "onnx", "onnxscript", "onnxruntime", "nncf")


def without_the_extra(code, *arguments):
    """Run code in an interpreter that has nothing of the convert extra."""
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED})); "
    command = [sys.executable, "-c", block + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_needs_nothing_of_the_convert_extra(folder, picture, doubler):
    targets = folder("truth", a=picture(40, 40))
    done = without_the_extra(
        "from edgerestore.evaluation import *; e = evaluate([sys.argv[2]],"
        " targets=sys.argv[1], degrade='downscale'); table_text(e), csv_text(e), json_text(e)\n"
        "try: html_text(e)\n"
        "except ImportError as error: print(error)",
        *(targets, doubler),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"HTML reports need jinja2: {install_command('convert')}\n"


@pytest.mark.parametrize("with_page", [False, True])
def test_a_page_without_the_extra_is_refused_before_any_work(
    folder, picture, doubler, tmp_path, with_page
):
    targets, page = folder("truth", a=picture(40, 40)), tmp_path / "report.html"
    done = without_the_extra(
        "from edgerestore.cli.app import run_command_line as run; sys.exit(run(sys.argv[1:]))",
        *("evaluate", "--model", doubler, "--targets", targets, "--degrade", "downscale"),
        *(("--html", page) if with_page else ()),
    )
    if with_page:
        line = f"edgerestore: HTML reports need jinja2: {install_command('convert')}\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
        assert not page.exists()
    else:
        assert done.returncode == 0, done.stderr
        assert "doubler" in done.stdout


def test_help_groups_the_options(run):
    code, out, _ = run("evaluate", "--help")
    assert code == 0
    assert out.index("Models:") < out.index("--model") < out.index("Pictures:")
    assert out.index("Pictures:") < out.index("--targets") < out.index("Reports:")


def test_names_are_escaped(folder, picture, tmp_path):
    hostile = "<script>alert(1)</script>&.png"
    truth = folder("truth", a=picture(40, 40))
    (truth / "a.png").rename(truth / hostile.replace("/", "\u2215"))
    found = evaluate(["deblur"], targets=truth, degrade="blur", precisions=["fp32"])
    rows = [replace(row, model=hostile) for row in found.rows]
    page = html_text(replace(found, rows=rows, recipe={**found.recipe, "targets": hostile}))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 6


def test_models_are_compared_in_a_chart(reports):
    page = reports[-1]
    (chart,) = re.findall(r"<svg.*?</svg>", page)
    assert "Up and to the left is better" in page
    assert "deblur fp32" in chart
    assert "deblur int8" in chart
    assert chart.startswith('<svg class="chart" role="img"')
