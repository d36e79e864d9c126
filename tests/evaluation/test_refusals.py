"""What cannot be evaluated is one line that names the file, and nothing is written."""

import os
import shutil

import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SourceError
from edgerestore.evaluation import evaluate


@pytest.fixture
def refused(run, tmp_path):
    """Run an evaluation that must fail; return its code and its last line."""

    def call(*arguments, model="deblur"):
        before = sorted(tmp_path.rglob("*"))
        report = tmp_path / "report.json"
        command = ("evaluate", "--model", model, "--precision", "fp32", "--json", report)
        code, out, lines = run(*command, *arguments)
        assert out == ""
        assert lines[-1].startswith("edgerestore: ")
        # Models are told of before the pictures are read.
        assert all(line.startswith("edgerestore: ") for line in lines)
        assert sorted(tmp_path.rglob("*")) == before
        return code, lines[-1]

    return call


def test_a_name_without_its_partner(refused, folder, picture):
    one, two = picture(20, 20), picture(20, 20, seed=1)
    few, many = folder("few", a=one), folder("many", a=one, b=two, c=two)
    code, line = refused("--inputs", few, "--targets", many)
    assert code == 1
    assert f"{many}/b.png: has no input named b.* in {few}, nor have 1 others" in line
    assert "(3 files there, 1 here)" in line
    code, line = refused("--inputs", many, "--targets", few)
    assert code == 1
    assert f"{many}/b.png: has no target named b.*" in line


def test_two_files_of_one_stem(refused, folder, picture):
    truth = folder("truth", a=picture(20, 20))
    shutil.copy(truth / "a.png", truth / "a.tif")
    code, line = refused("--degrade", "blur", "--targets", truth)
    assert (code, "a.tif: has the same stem as a.png" in line) == (1, True)


def test_two_inputs_of_one_target(refused, folder, picture):
    truth = folder("truth", baby=picture(20, 20))
    small = folder("small", babyx2=picture(10, 10), babyx4=picture(10, 10))
    code, line = refused("--inputs", small, "--targets", truth)
    assert code == 1
    assert f"{small}/babyx4.png: is an input of baby.png, and so is babyx2.png; keep one" in line


def test_sizes_that_do_not_fit(refused, folder, picture, doubler):
    truth = folder("truth", a=picture(40, 60))
    other = folder("other", a=picture(40, 58))
    code, line = refused("--inputs", other, "--targets", truth)
    assert code == 1
    assert f"{truth}/a.png: is 60x40, and its input {other}/a.png is 58x40; expected 58x40" in line
    code, line = refused("--inputs", truth, "--targets", truth, model=doubler)
    assert code == 1
    assert "is 60x40" in line
    assert "expected 120x80, 2 times the input's" in line


@pytest.mark.parametrize("content", [b"", b"no picture", b"half"])
def test_an_unreadable_picture(refused, folder, picture, content):
    truth = folder("truth", a=picture(40, 60), b=picture(40, 60))
    whole = (truth / "b.png").read_bytes()
    (truth / "b.png").write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    code, line = refused("--degrade", "blur", "--targets", truth)
    assert code == 1
    assert f"{truth}/b.png: is " in line


def test_folders_that_are_none_or_empty(refused, folder, picture, tmp_path):
    truth, empty = folder("truth", a=picture(20, 20)), folder("empty")
    for option, place, words in (
        ("--targets", tmp_path / "no", "no such folder"),
        ("--targets", truth / "a.png", "no such folder"),
        ("--targets", empty, "holds no picture"),
        ("--inputs", empty, "holds no picture"),
    ):
        given = {"--targets": truth, "--inputs": truth, option: place}
        code, line = refused(*(part for pair in given.items() for part in pair))
        assert code == 2
        assert f"{option} {place}: {words}" in line


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--inputs or --degrade, and not both"),
        (["--degrade", "rain"], 2, "degradation 'rain' is not known"),
        (["--degrade", "downscale"], 2, "a model that keeps the size; use none, noise, blur"),
        (["--degrade", "blur", "--border", "-1"], 2, "--border -1"),
        (["--degrade", "blur", "--border", "5"], 1, "a.png: 20x20 leaves less than 11x11"),
        (["--degrade", "blur", "--seed", "-1"], 2, "--seed -1"),
        (["--degrade", "blur", "--strength", "3"], 2, "strength is a number from 0 to 2"),
        (["--degrade", "blur", "--model", "no-such"], 1, "no-such: no bundle"),
        (["--degrade", "blur", "--device", "GPU.7"], 1, "GPU.7 is not here"),
        (["--degrade", "blur", "--precision", "fp64"], 2, "precision is one of"),
    ],
)
def test_options_that_cannot_be(refused, folder, picture, arguments, code, words):
    truth = folder("truth", a=picture(20, 20))
    found, line = refused("--targets", truth, *arguments)
    assert words in line
    assert found == code


def test_models_that_share_no_targets(folder, picture, doubler, masker):
    truth = folder("truth", a=picture(20, 20))
    with pytest.raises(ArgumentError, match="deblur .* and doubler .* no targets in common"):
        evaluate(["deblur", doubler], targets=truth, degrade="none", precisions=["fp32"])
    with pytest.raises(ArgumentError, match="a mask's picture is not in its target"):
        evaluate([masker], targets=truth, degrade="blur")
    with pytest.raises(ArgumentError, match="use downscale"):
        evaluate([doubler], targets=truth, degrade="none")
    with pytest.raises(ArgumentError, match="a model and a precision"):
        evaluate([], targets=truth, degrade="none")
    with pytest.raises(SourceError, match=r"a.png: is not a mask"):
        evaluate([masker], targets=truth, inputs=truth)


def test_reports_that_are_there_are_kept(run, folder, picture, tmp_path):
    truth = folder("truth", a=picture(20, 20))
    report = tmp_path / "r.csv"
    report.write_text("precious")
    command = ["evaluate", "--model", "deblur", "--precision", "fp32", "--degrade", "blur"]
    command += ["--targets", truth, "--csv", report]
    code, out, lines = run(*command)
    assert (code, out, report.read_text()) == (1, "", "precious")
    assert lines == [f"edgerestore: {report}: exists; add --overwrite or choose another name"]
    assert run(*command, "--overwrite")[0] == 0
    assert report.read_text().startswith("model,precision,image")
    code, _, lines = run(*command, "--overwrite", "--json", report)
    assert (code, "two reports have the same file" in lines[-1]) == (2, True)
    code, _, lines = run(*command, "--overwrite", "--html", truth / "a.png")
    assert (code, "is the input" in lines[-1]) == (1, True)
    os.mkfifo(tmp_path / "pipe")
    code, _, lines = run(*command, "--overwrite", "--html", tmp_path / "pipe")
    assert (code, "is no regular file" in lines[-1]) == (1, True)
    code, _, lines = run(*command, "--overwrite", "--html", tmp_path / "no" / "x.html")
    assert (code, "is not there; create it" in lines[-1]) == (1, True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pipe", "r.csv", "truth"]


def test_float_pictures_out_of_range(refused, folder):
    truth = folder("truth", a=np.full((20, 20, 3), 3, np.float32))
    code, line = refused("--degrade", "none", "--targets", truth)
    assert (code, "a.tif: holds values from 3 to 3" in line) == (1, True)
