"""Caches that were damaged or made up: what is there is measured again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import strategies as st

from edgerestore.engine.speed import FRAMES, FrameTime
from edgerestore.engine.tiling.tile_size import _Speed
from edgerestore.runtimes.cache import measured, recorded

from .fuzz import damaged, fuzz

TIME = FrameTime(40.0, 1280, 720, "fp32", "CPU", "this")
ENTRY = {"machine": "this", "measured": asdict(TIME)}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    (tmp_path / FRAMES).mkdir()
    return tmp_path / FRAMES / "key.json"


def read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for time in recorded(FRAMES, "key", "this", FrameTime):
        check(time)
    check(measured(FRAMES, "key", "this", lambda: TIME, FrameTime))
    for speed in measured(FRAMES, "key", "this", lambda: [_Speed(64, 1.0, 1.0)], list[_Speed]):
        assert 0 < speed.frame_ms(100, 100, 8, 8) < float("inf")


def check(time: FrameTime) -> None:
    assert time.pixels > 0
    assert 0 < time.ms < float("inf")
    assert isinstance(time.machine, str)


@st.composite
def wrong_rows(draw: st.DrawFn) -> bytes:
    entry = {"machine": "this", "measured": asdict(TIME)}
    place: dict[str, object] = draw(st.sampled_from([entry, entry["measured"]]))
    place[draw(st.sampled_from(sorted(place)))] = draw(VALUES)
    return json.dumps(entry).encode()


def test_fuzz_caches(kept: Path) -> None:
    whole = [json.dumps(ENTRY).encode(), b'{"machine": "this", "measured": [{"side": 64}]}']
    fuzz(damaged(whole) | wrong_rows(), lambda content: read(kept, content))
