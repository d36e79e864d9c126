"""A Qt application without a screen, and a viewer's model."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest


@pytest.fixture(scope="session")
def application():
    widgets = pytest.importorskip("qtpy.QtWidgets", reason="Qt is not installed")
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    # OpenCV points Qt at plugins of its own, which are of another Qt.
    os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)
    return widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def spin(application):
    def wait(done, most_s=60.0):
        end_s = time.perf_counter() + most_s
        while not done():
            assert time.perf_counter() < end_s
            application.processEvents()
            time.sleep(0.005)

    return wait


@pytest.fixture
def viewer(application):
    components = pytest.importorskip("napari.components", reason="napari is not installed")
    return components.ViewerModel()


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:200, 0:300]
    clean = 400 + 200 * np.sin(x / 9) * np.cos(y / 13)
    return np.stack([rng.poisson(clean + 50 * at) for at in range(3)]).astype(np.uint16)
