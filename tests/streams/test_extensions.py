"""Sinks, sources and image formats of other packages, by entry points."""

from __future__ import annotations

import importlib.metadata
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edgerestore import extensions
from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.imaging import image_files
from edgerestore.streams.events import EventLog
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SinkOptions, SourceOptions
from edgerestore.streams.session import restore_path
from edgerestore.streams.sinks.registry import SINK_GROUP, is_path, open_sink
from edgerestore.streams.sources.address import SOURCE_GROUP, parse_address
from edgerestore.streams.sources.registry import is_live, open_source

from ..checked import not_none

OTHER = """
import numpy as np
from edgerestore.errors import SinkError
from edgerestore.imaging.image_files import ImageFormat, ImageTags
from edgerestore.streams.sinks.registry import CallbackSink
from edgerestore.streams.sources.producer import ProducerSource

seen = []

def open_sink(match, options):
    if match["rest"] is None:
        raise SinkError("counter: needs a name")
    return CallbackSink(lambda image, frame: seen.append((match["rest"], image)), skips=True)

def open_source(address, options, log):
    return ProducerSource([np.full((4, 6), 7, np.uint8)] * 3, rate=options.rate or 25)

open_source.live = False

def decode(raw, path):
    return np.frombuffer(raw[4:], np.uint8).reshape(raw[0], raw[1]), ImageTags()

def encode(image, tags):
    return bytes([*image.shape[:2], 0, 0]) + image.tobytes()

FORMAT = ImageFormat(("uint8",), False, decode, encode)
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A package with an entry point of each group, and one that cannot be loaded."""
    (tmp_path / "other_package.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    named = {
        (SINK_GROUP, "Counter"): "open_sink",
        (SINK_GROUP, "broken"): "nothing",
        (SOURCE_GROUP, "scope"): "open_source",
        (image_files.FORMAT_GROUP, "plain"): "FORMAT",
    }
    points = [
        importlib.metadata.EntryPoint(name, f"other_package:{value}", group)
        for (group, name), value in named.items()
    ]
    monkeypatch.setattr(
        extensions, "entry_points", lambda group: [one for one in points if one.group == group]
    )
    image_files._other_suffixes.cache_clear()
    yield
    sys.modules.pop("other_package", None)
    image_files._other_suffixes.cache_clear()


@pytest.mark.usefixtures("other")
def test_a_sink():
    assert not is_path("counter:front")
    assert is_path("counters")
    assert "other_package" not in sys.modules, "a name alone loads nothing"
    sink = open_sink("counter:front", SinkOptions())
    sink.write(Frame(np.ones((4, 6), np.uint8), 0, Fraction(1)))
    sink.close()
    (name, image) = sys.modules["other_package"].seen[0]
    assert (name, image.shape, sink.skips) == ("front", (4, 6), True)
    with pytest.raises(SinkError, match="needs a name"):
        open_sink("counter", SinkOptions())
    with pytest.raises(ArgumentError, match=r"edgerestore\.sinks broken: other_package:nothing"):
        open_sink("broken:x", SinkOptions())


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("text", ["scope:1", "scope://user:secret@host/1"])
def test_a_source(text):
    assert str(parse_address(text)) == text.replace("user:secret", "***")
    assert not is_live(not_none(parse_address(text)))
    source = open_source(text, SourceOptions(fps=50), log=EventLog())
    assert [one.pts for one in source if isinstance(one, Frame)] == [0, 1800, 3600]
    source.close()
    assert parse_address("scopes:1.mp4") is None
    with pytest.raises(SourceError, match="known are .* scope:// .*camera:N and -"):
        parse_address("foo://host")


@pytest.mark.usefixtures("other")
def test_an_image_format(tmp_path, echo, picture):
    folder, image = tmp_path / "in", picture(12, 16)[..., 0]
    folder.mkdir()
    (folder / "a.plain").write_bytes(bytes([12, 16, 0, 0]) + image.tobytes())
    assert ".plain" in image_files.image_suffixes()
    restore_path(echo(), str(folder), tmp_path / "out", progress="none")
    np.testing.assert_array_equal(image_files.decode_image(tmp_path / "out" / "a.plain")[0], image)
    with pytest.raises(SinkError, match=r"\.plain cannot hold uint16 samples"):
        image_files.encode_image(image.astype(np.uint16), None, Path("a.plain"))
