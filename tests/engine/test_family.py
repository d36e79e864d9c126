"""Families: which models belong together, and which of them holds a rate on this machine."""

from __future__ import annotations

import logging
import re
import shutil

import numpy as np
import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.kinds import OutputKind
from edgerestore.engine.family import (
    HEADROOM,
    choose_member,
    choose_model,
    frame_time,
    lighter_members,
)
from edgerestore.engine.loader import Loader
from edgerestore.engine.speed import known_frame_time
from edgerestore.errors import ArgumentError, BundleError, DeviceError
from edgerestore.imaging.arrays import Depth, ImageKind

from ..bundles import write_bundle

KIND = ImageKind(24, 32, 3, Depth.U8)
SIZE = (KIND.width, KIND.height)
# 30 frames a second leave 33.3 ms, of which a model may fill 28.3.
TIMES = {"small": 5.0, "base": 20.0, "large": 60.0}


def names(bundles):
    return [bundle.manifest.name for bundle in bundles]


@pytest.fixture
def folder(family, tmp_path):
    """A copy of the family, to add to and to damage."""
    for bundle in family.values():
        shutil.copytree(bundle.folder, tmp_path / "models" / bundle.folder.name)
    return tmp_path / "models"


def test_a_family_is_found_beside_any_of_its_members_the_cheapest_first(family):
    for bundle in family.values():
        assert names(bundle.family()) == ["small", "base", "large"]


def test_only_what_can_run_in_its_place_belongs_to_it(folder, monkeypatch):
    write_bundle(folder / "alone")
    write_bundle(folder / "others", family="other")
    write_bundle(folder / "grey", family="sizes", channels=1)
    write_bundle(folder / "masks", family="sizes", kind=OutputKind.MASK)
    shutil.copytree(folder / "base", folder / "twin")
    shutil.copytree(folder / "base", folder / ".unfinished")
    assert names(Bundle.find(folder / "base").family()) == ["small", "base", "large"]
    assert names(Bundle.find(folder / "alone").family()) == ["alone"]
    monkeypatch.chdir(folder)
    assert names(Bundle.find("base").family()) == ["small", "base", "large"]


def test_a_bundle_that_cannot_be_read_is_told_and_left_out(folder, caplog):
    (folder / "large" / "bundle.json").write_text("{}")
    assert names(Bundle.find(folder / "base").family()) == ["small", "base"]
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "left out of the family sizes" in line
    assert "large" in line


def test_families_that_ship_are_of_one_kind():
    for name in edgerestore.model_names():
        manifest = Bundle.find(name).manifest
        if manifest.family is not None:
            same = [Bundle.find(one).manifest for one in edgerestore.model_names()]
            same = [one for one in same if one.family == manifest.family]
            assert len(Bundle.find(name).family()) == len(same)
            assert all(one.gmac_720p for one in same)


@pytest.mark.parametrize(
    ("fps", "chosen", "ms", "words"),
    [
        (10, "large", 60.0, "60 ms for 32x24 of the 85 ms that 10 frames a second allow; no model"),
        (30, "base", 20.0, "20 ms for 32x24 of the 28.3 ms that 30 frames .*; large takes 60 ms"),
        (1e3 / 20, "small", 5.0, "base takes 20 ms"),  # it would fill all of the time
        (HEADROOM * 1e3 / 20, "base", 20.0, "large takes 60 ms"),
        (500, "small", 5.0, "5 ms for 32x24, more than the 1.7 ms .* no model .* is smaller"),
    ],
)
def test_the_largest_that_holds_the_rate_is_chosen(timed_family, fps, chosen, ms, words):
    family = timed_family(KIND, **TIMES)
    choice = choose_model(family["base"].folder, fps=fps, size=SIZE)
    assert (choice.bundle.manifest.name, choice.frame_ms) == (chosen, ms)
    assert re.search(words, choice.reason), choice.reason
    assert "\n" not in choice.reason


@pytest.mark.parametrize(("quality", "chosen"), [("fast", "small"), ("best", "large")])
def test_fast_and_best_are_the_ends_whatever_the_rate(family, caplog, quality, chosen):
    caplog.set_level(logging.INFO)
    choice = choose_model(family["base"].folder, quality=quality, fps=1e3)
    assert choice.model == family[chosen].folder
    assert "small, base, large" in choice.reason
    assert choice.frame_ms is None
    assert not [r for r in caplog.records if "timing" in r.getMessage()]


def test_without_a_rate_the_model_stays(family):
    choice = choose_model(family["base"].folder)
    assert choice.model == family["base"].folder
    assert "no rate" in choice.reason


def test_times_are_measured_once_for_a_size_and_a_precision(family, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    caplog.set_level(logging.INFO)

    def timings(size, **options):
        caplog.clear()
        choice = choose_model(family["base"].folder, fps=0.01, size=size, **options)
        assert choice.bundle.manifest.name == "large"
        return [r.getMessage() for r in caplog.records if "timing" in r.getMessage()]

    assert timings((32, 24)) == [
        f"timing {name} once for 32x24 on CPU" for name in ("small", "base", "large")
    ]
    assert timings((32, 24)) == []
    assert len(timings((48, 24))) == 3
    assert timings((32, 24), precision="fp32") == []
    time = known_frame_time(family["large"])
    assert time is not None
    assert (time.height, time.precision, time.origin) == (24, "fp32", "here")


def test_dearer_models_take_longer(family, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    kind = ImageKind(96, 128, 3, Depth.U8)
    small, large = (
        frame_time(Loader(family[name].folder, live=True), family[name], kind)
        for name in ("small", "large")
    )
    assert 0 < small.ms < large.ms


def test_a_member_that_does_not_run_is_told_and_left_out(folder, caplog):
    (folder / "base" / "model.onnx").write_bytes(b"damaged")
    choice = choose_model(folder / "small", fps=0.01, size=SIZE)
    assert choice.bundle.manifest.name == "large"
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line.startswith("base is left out of its family: ")
    for name in ("small", "large"):
        (folder / name / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="was changed or is corrupted"):
        choose_model(folder / "small", fps=0.01, size=(40, 40))  # not in the cache


def test_lighter_members_are_those_that_are_faster_here_the_dearest_first(timed_family):
    family = timed_family(KIND, small=5.0, base=4.0, large=60.0)
    loader = Loader(family["large"].folder)
    assert names(lighter_members(loader, family["large"])) == ["base", "small"]
    assert names(lighter_members(loader, family["large"], KIND)) == ["small", "base"]
    assert names(lighter_members(loader, family["base"], KIND)) == []
    assert lighter_members(loader, family["small"], KIND) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": "good"}, "quality is one of fast, balanced, best, got 'good'"),
        ({"fps": 0}, "fps is a number of frames a second above 0"),
        ({"fps": float("nan")}, "fps is a number"),
        ({"size": (0, 720)}, "size is a width and a height above 0, got 0 x 720"),
        ({"model": "deblur+deblur"}, "deblur.deblur: a quality chooses among the sizes of one"),
        ({"precision": "fp8", "fps": 30}, "precision is one of"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(family, options, words):
    with pytest.raises(ArgumentError, match=words):
        choose_model(**{"model": family["base"].folder, **options})


def test_a_model_without_a_family_is_refused(tmp_path):
    write_bundle(tmp_path / "alone")
    with pytest.raises(ArgumentError, match="alone: belongs to no family.*--family NAME"):
        choose_model(tmp_path / "alone", fps=30)
    with pytest.raises(BundleError, match="no bundle there"):
        choose_model("nosuch", fps=30)


def test_a_device_that_is_not_there_is_named(family):
    with pytest.raises(DeviceError, match="GPU.7 is not here"):
        choose_model(family["base"].folder, fps=30, device="GPU.7")


def test_the_only_member_is_taken_without_timing(tmp_path):
    bundle = write_bundle(tmp_path / "single", family="one")
    choice = choose_member(Loader(bundle.folder), bundle, "balanced", 1e6, KIND)
    assert choice.bundle is bundle
    assert "only model of its family, one" in choice.reason


def test_auto_is_the_default_model(picture):
    image = picture(24, 32)
    with edgerestore.load("auto") as auto, edgerestore.load("deblur") as named:
        assert auto.bundle.manifest.name == "deblur"
        np.testing.assert_array_equal(auto(image), named(image))
