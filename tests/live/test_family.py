"""A stream takes the model of the family that holds its rate, and goes down the family's sizes."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import repeat

import numpy as np
import pytest

import edgerestore
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import check_image
from edgerestore.streams.events import EventKind
from edgerestore.streams.options import InputKind, LiveOptions, SourceOptions
from edgerestore.streams.session import Session
from edgerestore.streams.supervisor import levels_for

from ..bundles import write_bundle
from .live_tools import Shown, camera, of_kind, until

pytestmark = pytest.mark.usefixtures("no_thread_left")

# 30 frames a second leave 33.3 ms, of which a model may fill 28.3.
TIMES = {"small": 5.0, "base": 20.0, "large": 60.0}
_PATIENCE_S = 120.0
AT_30 = SourceOptions(fps=30)


@pytest.fixture
def family(timed_family, image):
    return timed_family(check_image(image), **TIMES)


def run(model, frames, options, **loading):
    """Run frames through a session; return it and what it showed."""
    shown = Shown()
    with edgerestore.load(model.folder, **loading) as restorer:
        session = Session(restorer, frames, [shown], options)
        session.run()
        return session, shown.images, restorer.bundle.manifest.name


@pytest.mark.parametrize(
    ("quality", "target_fps", "chosen"),
    [
        ("balanced", None, "base"),
        ("balanced", 10, "large"),
        ("balanced", 1000, "small"),
        ("fast", None, "small"),
        ("best", None, "large"),
    ],
)
def test_a_stream_is_restored_by_the_member_that_is_chosen(
    family, image, quality, target_fps, chosen
):
    options = LiveOptions(source=AT_30, quality=quality, target_fps=target_fps)
    session, images, name = run(family["base"], repeat(image, 3), options, precision="fp32")
    assert name == chosen
    with edgerestore.load(family[chosen].folder, precision="fp32") as plain:
        expected = plain(image)
    assert len(images) == 3
    for restored in images:  # the first one, too
        np.testing.assert_array_equal(restored, expected)
    (event,) = of_kind(session, EventKind.CHOSEN)
    assert event.message.startswith(f"{chosen} on CPU (openvino) at fp32: ")
    assert (event.cause, event.details["model"]) == (quality, chosen)
    if quality == "balanced" and target_fps is None:
        assert "20 ms for 64x48 of the 28.3 ms" in event.message
        assert event.message.endswith("large takes 60 ms")


def test_pictures_have_no_rate(family, image, tmp_path, picture):
    import cv2

    cv2.imwrite(str(tmp_path / "in.png"), picture(48, 64))
    for quality, chosen in (("balanced", "base"), ("best", "large")):
        with edgerestore.load(family["base"].folder) as restorer:
            options = LiveOptions(quality=quality, overwrite=True)
            out = tmp_path / "out.png"
            Session(restorer, tmp_path / "in.png", [out], options, kind=InputKind.IMAGE).run()
            assert restorer.bundle.manifest.name == chosen


def test_settings_stay_with_the_stream(family, image):
    options = LiveOptions(source=AT_30, quality="best")
    _, images, _ = run(family["base"], [image], options, precision="fp32", strength=0.5)
    with edgerestore.load(family["large"].folder, precision="fp32", strength=0.5) as plain:
        np.testing.assert_array_equal(images[0], plain(image))


def test_a_model_that_was_asked_for_before_the_first_frame_stays(family, image):
    options = LiveOptions(source=AT_30, quality="best")
    with edgerestore.load(family["base"].folder) as restorer:
        session = Session(restorer, [image], [Shown()], options)
        session.switch(model=str(family["small"].folder))
        until(lambda: of_kind(session, EventKind.SWITCHED))
        session.run()
        assert restorer.bundle.manifest.name == "small"
        assert not of_kind(session, EventKind.CHOSEN)


def test_what_has_no_family_to_choose_from_is_refused_before_any_work(family, image, tmp_path):
    base, alone = family["base"].folder, write_bundle(tmp_path / "alone").folder
    options = LiveOptions(quality="best")
    cases = [
        (edgerestore.load(f"{base}+{base}"), "a quality chooses among the sizes of one model"),
        (edgerestore.load(alone), "belongs to no family"),
        (edgerestore.Restorer(edgerestore.load(base).predictor), "only a restorer that load"),
    ]
    for restorer, words in cases:
        with restorer, pytest.raises(ArgumentError, match=words):
            Session(restorer, [image], [Shown()], options)
    with pytest.raises(ArgumentError, match="quality is one of"):
        LiveOptions(quality="good")


def test_the_levels_of_a_family_come_before_parts_of_frames(family):
    manifest = family["large"].manifest
    lighter = [family["base"], family["small"]]
    levels = levels_for(manifest, "fp32", family=lighter)
    assert [(level.name, level.refresh_interval) for level in levels] == [
        ("as asked", 1),
        ("base", 1),
        ("small", 1),
        ("each part on one frame of 2", 2),
        ("each part on one frame of 3", 3),
    ]
    assert {level.model for level in levels[2:]} == {str(family["small"].folder)}


@contextmanager
def behind(restorer, image, **options):
    """A session that shows a fifth of the frames that are wanted, whatever the model takes."""
    given = LiveOptions(target_fps=100.0, **options)
    session = Session(restorer, camera(image), [Shown(delay_s=0.05)], given)
    session.start()
    try:
        yield session
    finally:
        session.stop()
        session.join()


def test_a_stream_that_falls_behind_goes_down_its_family(family, image):
    loaded = edgerestore.load(family["base"].folder, precision="fp32", live=True)
    with loaded as restorer, behind(restorer, image) as session:
        until(lambda: of_kind(session, EventKind.SWITCHED), _PATIENCE_S)
        assert restorer.bundle.manifest.name == session.status()["level"] == "small"
        (step,) = of_kind(session, EventKind.STEPPED)
        assert step.message.startswith("lowered to small: ")


def test_an_explicit_list_replaces_the_family(family, image):
    lighter = (str(family["large"].folder),)
    loaded = edgerestore.load(family["base"].folder, precision="fp32", live=True)
    with loaded as restorer, behind(restorer, image, lighter=lighter) as session:
        until(lambda: of_kind(session, EventKind.STEPPED), _PATIENCE_S)
        (step,) = of_kind(session, EventKind.STEPPED)
        assert step.message.startswith("lowered to each part on one frame of 2: ")
        assert not of_kind(session, EventKind.SWITCHED)


def test_another_model_brings_its_own_levels(family, image):
    """Switched to another kind of model, a stream does not go down the first one's family."""
    loaded = edgerestore.load(family["base"].folder, live=True)
    with loaded as restorer, behind(restorer, image) as session:
        session.switch(model="deblur", precision="int8")
        until(lambda: of_kind(session, EventKind.SWITCHED), _PATIENCE_S)
        before = len(of_kind(session, EventKind.STEPPED))
        until(lambda: len(of_kind(session, EventKind.STEPPED)) > before, _PATIENCE_S)
        step = of_kind(session, EventKind.STEPPED)[before]
        lighter = [one.manifest.name for one in restorer.bundle.family()[::-1]]
        after = [*lighter[lighter.index("deblur") + 1 :], "each part on one frame of 2"]
        assert step.message.startswith(f"lowered to {after[0]}: ")
        assert restorer.bundle.manifest.family == "deblur"
