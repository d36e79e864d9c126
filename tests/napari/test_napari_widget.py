"""The widget of napari, with real layers and models, without a screen."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import edgerestore

from ..checked import not_none

napari: Any = pytest.importorskip("napari", reason="napari is not installed here")

pytestmark = pytest.mark.napari

PREVIEW = "preview (edgerestore)"


@pytest.fixture
def widget(viewer, stack):
    from edgerestore.microscopy.napari_widget import RestoreWidget

    viewer.add_image(stack, name="cells", scale=(2.0, 0.5, 0.5))
    widget = RestoreWidget(viewer)
    yield widget
    widget.cancel()
    widget._restoration.close()


def test_the_plugin_is_found_and_its_widget_opens(viewer, application):
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    (contribution,) = not_none(manager.get_manifest("edgerestore").contributions.widgets)
    opened = contribution.get_callable()(viewer)
    assert opened.native is not None


def test_apply_restores_each_plane_as_a_call_does(widget, viewer, stack, spin):
    widget._strength.value = 0.8
    widget.apply()
    spin(lambda: widget._worker is None)
    made = viewer.layers[-1]
    assert made.name == "cells (denoise-gray)"
    assert made.data.dtype == np.uint16
    assert tuple(made.scale) == (2.0, 0.5, 0.5)
    with edgerestore.load("denoise-gray", strength=0.8, intensity_range="auto") as restorer:
        for plane, given in zip(made.data, stack, strict=True):
            assert np.array_equal(plane, restorer(given))


def test_the_preview_follows_the_settings_and_the_plane(widget, viewer, stack, spin):
    widget._preview.value = True
    spin(lambda: PREVIEW in viewer.layers)
    with edgerestore.load("denoise-gray", intensity_range="auto") as restorer:
        at = int(viewer.dims.current_step[0])
        assert np.array_equal(viewer.layers[PREVIEW].data[0], restorer(stack[at]))
        first = viewer.layers[PREVIEW]
        viewer.dims.set_current_step(0, 2)
        spin(lambda: PREVIEW in viewer.layers and viewer.layers[PREVIEW] is not first)
        assert np.array_equal(viewer.layers[PREVIEW].data[0], restorer(stack[2]))
        assert viewer.layers[PREVIEW].translate[0] == 4.0
    second = viewer.layers[PREVIEW]
    widget._strength.value = 0.0
    spin(lambda: PREVIEW in viewer.layers and viewer.layers[PREVIEW] is not second)
    assert np.array_equal(viewer.layers[PREVIEW].data[0], stack[2])
    widget._preview.value = False
    assert PREVIEW not in viewer.layers


def test_a_part_that_is_seen_is_that_part_of_the_whole(widget, viewer, stack, spin):
    layer = viewer.layers["cells"]
    layer.corner_pixels = np.array([[0, 40, 60], [0, 119, 199]])
    widget._preview.value = True
    spin(lambda: PREVIEW in viewer.layers)
    preview = viewer.layers[PREVIEW]
    with edgerestore.load("denoise-gray", intensity_range="auto") as restorer:
        at = int(viewer.dims.current_step[0])
        assert np.array_equal(preview.data[0], restorer(stack[at])[40:120, 60:200])
    assert tuple(preview.translate[1:]) == (20.0, 30.0)


def test_cancel_ends_it_and_leaves_no_layer(viewer, spin):
    from edgerestore.microscopy.napari_widget import RestoreWidget

    rng = np.random.default_rng(1)
    viewer.add_image(rng.integers(0, 900, (8, 1500, 1500), np.uint16), name="large")
    widget: Any = RestoreWidget(viewer)
    seen: list[int] = []
    widget._progress.changed.connect(seen.append)
    widget.apply()
    assert widget._cancel.enabled
    assert not widget._apply.enabled
    spin(lambda: seen and widget._progress.max > 1)
    widget.cancel()
    began_s = time.perf_counter()
    spin(lambda: widget._worker is None)
    assert time.perf_counter() - began_s < 10
    assert [layer.name for layer in viewer.layers] == ["large"]
    assert widget._status.value == "Cancelled"
    assert widget._apply.enabled
    widget._restoration.close()


def test_export_writes_ome_zarr(widget, stack, tmp_path, spin):
    zarr = pytest.importorskip("zarr")
    yaozarrs = pytest.importorskip("yaozarrs")
    path = tmp_path / "cells.ome.zarr"
    widget.export(path)
    spin(lambda: widget._worker is None)
    assert widget._status.value == "cells.ome.zarr is written"
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(path, mode="r")
    with edgerestore.load("denoise-gray", intensity_range="auto") as restorer:
        assert np.array_equal(group["0"][1], restorer(stack[1]))
    widget.export(path)
    spin(lambda: widget._worker is None)
    assert "exists" in widget._status.value


def test_what_cannot_be_is_told(widget, viewer, spin):
    widget._range.value = "900:100"
    assert widget.apply() is None
    assert "lower value first" in widget._status.value
    widget._range.value = "auto"
    widget._model.value = "deblur"
    assert widget.apply() is None
    assert widget._status.value == "cells is grey and deblur is of colour images"
    colour = viewer.add_image(np.zeros((64, 64, 3), np.uint8), name="photo", rgb=True)
    widget._layer.value, widget._model.value = colour, "denoise-gray"
    assert widget.apply() is None
    assert "photo is in colour" in widget._status.value
    labels = viewer.add_image(np.zeros((64, 64), np.int32), name="counts")
    widget._layer.value = labels
    assert widget.apply() is None
    assert "counts: dtype int32 is not restored" in widget._status.value
    broken = np.zeros((64, 64), np.float32)
    broken[3, 5] = np.nan
    widget._layer.value = viewer.add_image(broken, name="broken", contrast_limits=(0, 1))
    widget.apply()
    spin(lambda: widget._worker is None)
    assert "row 3, column 5" in widget._status.value


def test_a_model_that_enlarges_lies_on_its_source(viewer, spin):
    from edgerestore.microscopy.napari_widget import RestoreWidget

    photo = np.random.default_rng(2).integers(0, 255, (40, 60, 3), np.uint8)
    viewer.add_image(photo, name="photo", rgb=True, scale=(2.0, 2.0))
    widget = RestoreWidget(viewer)
    widget._model.value = "sr-x4"
    widget.apply()
    spin(lambda: widget._worker is None)
    made = viewer.layers[-1]
    assert made.data.shape == (160, 240, 3)
    given = viewer.layers["photo"].extent.world
    assert np.allclose(made.extent.world[0] - made.scale / 2, given[0] - 1.0)
    widget._restoration.close()


def test_layers_come_and_go(widget, viewer):
    viewer.layers.clear()
    assert not widget._apply.enabled
    assert widget.apply() is None
    assert "no image layer" in widget._status.value
    viewer.add_image(np.zeros((64, 64), np.uint16), name="new")
    assert widget._layer.value.name == "new"
    assert widget._apply.enabled
