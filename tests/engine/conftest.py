"""The default model at INT8, with and without taking over what did not change."""

from __future__ import annotations

import pytest

import edgerestore


@pytest.fixture(scope="module")
def reusing():
    with edgerestore.load("deblur", precision="int8", reuse_static=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def full():
    with edgerestore.load("deblur", precision="int8") as opened:
        yield opened
