"""A small picture, a restorer for it, and no thread left behind."""

from __future__ import annotations

import threading

import pytest

import edgerestore


@pytest.fixture
def no_thread_left():
    yield
    # A producer that a test held up needs a moment once it is let go.
    for one in threading.enumerate():
        if one.name.startswith("edgerestore-"):
            one.join(2)
            assert not one.is_alive(), one.name


@pytest.fixture
def servers_end_at_once():
    yield
    left = [one.name for one in threading.enumerate() if one.name.startswith("edgerestore-")]
    assert not left


@pytest.fixture
def image(picture):
    return picture(48, 64)


@pytest.fixture
def restorer():
    with edgerestore.load("deblur", precision="fp32", live=True) as opened:
        yield opened
