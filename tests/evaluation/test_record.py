"""Figures of an evaluation in the manifest of the model, whole or not at all."""

from __future__ import annotations

import shutil

import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.evaluation import evaluate
from edgerestore.evaluation.record import ScoreRecord


@pytest.fixture
def bundle(tmp_path):
    shutil.copytree(Bundle.find("deblur").folder, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def photographs(folder, picture):
    return folder("truth", a=picture(64, 80), b=picture(48, 60, seed=1))


def test_means_are_recorded_with_those_of_the_input(run, bundle, photographs):
    arguments = ["--precision", "fp32", "--degrade", "blur", "--targets", photographs]
    code, _, lines = run("evaluate", "--model", bundle, *arguments, "--record", "drawn blur")
    assert code == 0, lines
    found = evaluate([bundle], targets=photographs, degrade="blur", precisions=["fp32"])
    given, made = found.rows
    manifest = Bundle.find(bundle).manifest
    psnr, *others = [score for score in manifest.scores if score.data == "drawn blur"]
    assert (psnr.metric, psnr.unit, psnr.precision, psnr.data) == (
        "PSNR", "dB", "fp32", "drawn blur"
    )  # fmt: skip
    assert psnr.value == pytest.approx(made.mean("psnr_db"), abs=1e-4)
    assert psnr.before == pytest.approx(given.mean("psnr_db"), abs=1e-4)
    assert "SSIM" in [score.metric for score in others]
    Bundle.find(bundle).verify()


def test_the_same_data_and_precision_are_replaced_and_others_kept(bundle, photographs):
    def record(data, degrade):
        found = evaluate([bundle], targets=photographs, degrade=degrade, precisions=["fp32"])
        ScoreRecord(data, [bundle]).write(found)
        scores = Bundle.find(bundle).manifest.scores
        return [(s.data, s.value) for s in scores if s.unit == "dB" and s.data not in shipped]

    shipped = {score.data for score in Bundle.find(bundle).manifest.scores}
    first = record("one", "blur")
    both = record("two", "noise:25")
    assert both[: len(first)] == first
    assert {data for data, _ in both} == {"one", "two"}
    again = record("one", "noise:25")
    assert sorted(data for data, _ in again) == sorted(data for data, _ in both)
    assert [value for data, value in again if data == "one"] != [value for _, value in first]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--record", " "], 2, "record: say in a phrase"),
        (["--record", "x", "--tta"], 2, "only at strength 1 and without tta"),
        (["--record", "x", "--strength", "0.5"], 2, "only at strength 1 and without tta"),
        (["--record", "x", "--model", "deblur+deblur"], 2, "is several models; name one"),
        (["--record", "x", "--model", "nosuch"], 1, "no bundle there"),
    ],
)
def test_what_is_not_the_models_own_is_refused_before_any_work(
    run, bundle, photographs, arguments, code, words
):
    before = (bundle / "bundle.json").read_bytes()
    got, out, lines = run(
        "evaluate", "--model", bundle, "--degrade", "blur", "--targets", photographs, *arguments
    )
    assert (got, out) == (code, "")
    assert words in lines[-1]
    assert (bundle / "bundle.json").read_bytes() == before
