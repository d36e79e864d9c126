"""TIFF files of many pages or many pixels: restored by region, with all that belongs to them."""

from __future__ import annotations

import itertools
import logging
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image as Pillow

import edgerestore
from edgerestore.bundle.manifest import TilingMode
from edgerestore.engine import loader
from edgerestore.engine.precision import Pace
from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.microscopy import restore_planes as module
from edgerestore.microscopy.regions import Region, RegionRestorer
from edgerestore.microscopy.restore_planes import PlanesOptions, restore_planes
from edgerestore.microscopy.tiff_planes import TiffPlanes, holds_planes

SIDE_PX = 96  # of regions, so that small pages have several


@pytest.fixture(scope="module")
def restorer():
    with edgerestore.load("denoise-gray", precision="fp32", tile=160) as made:
        yield made


@pytest.fixture(autouse=True)
def small_regions(monkeypatch):
    monkeypatch.setattr(module, "_SIDE_PX", SIDE_PX)


def plane(height, width, seed=0, dtype="uint16"):
    """Return a noisy plane; of u16, the values of a 10 bit camera with an offset."""
    rng = np.random.default_rng(seed)
    waves = np.add.outer(np.sin(np.arange(height) / 9 + seed), np.cos(np.arange(width) / 13))
    levels = np.clip(waves / 4 + 0.5 + rng.normal(0, 0.03, (height, width)), 0, 1)
    if dtype == "float32":
        return levels.astype(np.float32)
    return (levels * 255 if dtype == "uint8" else 100 + levels * 923).astype(dtype)


def written(path, data, **layout):
    tifffile.imwrite(path, data, **layout)
    return path


def restored(restorer, source, output, intensities="full", on_progress=None, **options):
    restorer.intensity_range = intensities
    chosen = PlanesOptions(**options)
    return restore_planes(restorer, source, output, chosen, on_progress=on_progress)


def pages(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


def first_page(file):
    return file.pages.first


def names(folder):
    return [one.name for one in folder.iterdir()]


LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 17},
    "tiles": {"tile": (64, 48)},
    "deflated": {"tile": (64, 64), "compression": "zlib"},
    "big-endian": {"byteorder": ">", "compression": "zlib"},
    "BigTIFF": {"bigtiff": True, "tile": (32, 32)},
}


@pytest.mark.parametrize(
    ("layout", "dtype"),
    [*((layout, "uint16") for layout in LAYOUTS), ("tiles", "uint8"), ("big-endian", "float32")],
)
def test_a_page_is_the_same_as_restored_whole(restorer, tmp_path, layout, dtype):
    image = plane(430, 401, dtype=dtype)
    source = written(tmp_path / "in.tif", image, **LAYOUTS[layout])
    restored(restorer, source, tmp_path / "out.tif")
    (made,) = pages(tmp_path / "out.tif")
    np.testing.assert_array_equal(made, restorer(image))
    with tifffile.TiffFile(source) as old, tifffile.TiffFile(tmp_path / "out.tif") as new:
        assert new.byteorder == old.byteorder
        assert new.is_bigtiff == old.is_bigtiff
        assert first_page(new).is_tiled == first_page(old).is_tiled
        assert (first_page(new).compression == 1) == (first_page(old).compression == 1)


@pytest.mark.parametrize("intensities", ["200:800", "auto", "p1:p99"])
def test_intensities_are_mapped_alike_in_every_region(restorer, tmp_path, intensities):
    image = plane(150, 220)
    source = written(tmp_path / "in.tif", image, tile=(64, 64))
    summary = restored(restorer, source, tmp_path / "out.tif", intensities)
    low, high = summary.ranges[0].split(":")
    restorer.intensity_range = (float(low), float(high))
    np.testing.assert_array_equal(pages(tmp_path / "out.tif")[0], restorer(image))
    assert summary.outside == np.count_nonzero((image < float(low)) | (image > float(high)))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(st.integers(0, 459), st.integers(0, 429), st.integers(1, 200), st.integers(1, 200)),
)
def test_any_region_is_that_of_the_whole(restorer, whole_page, spot):
    image, whole = whole_page
    top, left = spot[:2]
    region = Region(top, left, min(spot[2], 460 - top), min(spot[3], 430 - left))
    restorer.intensity_range = "full"

    cut = RegionRestorer(restorer, 460, 430, SIDE_PX)
    area = cut.extent(region)
    seen = image[area.top : area.top + area.height, area.left : area.left + area.width]
    made = cut.submit(region, seen).result()
    rows, columns = (
        slice(region.top, region.top + region.height),
        slice(region.left, region.left + region.width),
    )
    np.testing.assert_array_equal(made, whole[rows, columns])


@pytest.fixture(scope="module")
def whole_page(restorer):
    image = plane(460, 430)
    restorer.intensity_range = "full"
    return image, restorer(image)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    samples=st.sampled_from([1, 3, 4, 5]),
    separate=st.booleans(),
    top=st.integers(0, 99),
    left=st.integers(0, 79),
)
def test_reading_a_region_of_any_layout(tmp_path, layout, samples, separate, top, left):
    shape = (100, 80) if samples == 1 else (samples, 100, 80) if separate else (100, 80, samples)
    data = np.random.default_rng(samples).integers(0, 65536, shape, dtype=np.uint16)
    colour = samples in (3, 4)
    source = written(
        tmp_path / "in.tif",
        data,
        photometric="rgb" if colour else "minisblack",
        planarconfig=None if samples == 1 else "separate" if separate else "contig",
        extrasamples=["unassalpha"] if samples == 4 else None,
        **LAYOUTS[layout],
    )
    data = np.moveaxis(data, 0, -1) if samples > 1 and separate else data
    with TiffPlanes(source) as file:
        (page,) = file.planes
        assert (page.samples, page.color) == (samples, colour)
        made = file.read(page, Region(top, left, 100 - top, 80 - left))
    np.testing.assert_array_equal(made, data[top:, left:])


def test_every_page_and_the_ome_model_arrive(restorer, tmp_path):
    stack = np.stack([plane(70, 90, seed) for seed in range(6)]).reshape(2, 3, 70, 90)
    metadata = {
        "axes": "ZCYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "\u00b5m",
        "Channel": {"Name": ["DAPI", "GFP", "Cy5"]},
        "Plane": {"PositionX": [12.5] * 6, "PositionXUnit": ["\u00b5m"] * 6},
    }
    source = written(tmp_path / "in.ome.tif", stack, ome=True, metadata=metadata)
    summary = restored(restorer, source, tmp_path / "out.ome.tif")
    assert summary.planes == 6
    with tifffile.TiffFile(source) as old, tifffile.TiffFile(tmp_path / "out.ome.tif") as new:
        assert new.ome_metadata == old.ome_metadata
        assert (new.series[0].axes, new.series[0].shape) == ("ZCYX", (2, 3, 70, 90))
        made = new.series[0].asarray()
    for one, wanted in zip(made.reshape(-1, 70, 90), stack.reshape(-1, 70, 90), strict=True):
        np.testing.assert_array_equal(one, restorer(wanted))


def test_a_pyramid_is_made_anew(restorer, tmp_path):
    image = plane(401, 262)
    source = tmp_path / "in.ome.tif"
    with tifffile.TiffWriter(source, ome=True) as file:
        file.write(image, subifds=2, tile=(64, 64), metadata={"axes": "YX"})
        file.write(image[:400:2, ::2], subfiletype=1, tile=(64, 64))
        file.write(image[:400:4, :260:4], subfiletype=1, tile=(64, 64))
    restored(restorer, source, tmp_path / "out.ome.tif")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
    assert [level.shape for level in levels] == [(401, 262), (200, 131), (100, 65)]
    np.testing.assert_array_equal(levels[0], restorer(image))
    for fine, coarse in itertools.pairwise(levels):
        height, width = coarse.shape
        cells = fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
        np.testing.assert_array_equal(coarse, np.rint(cells.mean((1, 3))))


def test_each_of_many_channels_is_restored_by_itself(restorer, tmp_path):
    channels = [plane(80, 100, seed) for seed in range(5)]
    source = written(
        tmp_path / "in.tif", np.stack(channels, -1), photometric="minisblack", planarconfig="contig"
    )
    assert holds_planes(source)
    restored(restorer, source, tmp_path / "out.tif")
    (made,) = pages(tmp_path / "out.tif")
    for index, channel in enumerate(channels):
        np.testing.assert_array_equal(made[..., index], restorer(channel))


def test_white_is_zero_stays_so(restorer, tmp_path):
    image = plane(80, 100, dtype="uint8")
    source = written(tmp_path / "in.tif", 255 - image, photometric="miniswhite")
    restored(restorer, source, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert first_page(file).photometric.name == "MINISWHITE"
        np.testing.assert_array_equal(255 - file.pages[0].asarray(), restorer(image))


def test_tags_and_resolution_arrive(restorer, tmp_path):
    source = written(
        tmp_path / "in.tif",
        np.stack([plane(60, 64), plane(60, 64, 1)]),
        photometric="minisblack",
        description="ImageJ=1.54\nimages=2\nunit=\\u00B5m\nspacing=0.3",
        resolution=(4.0, 4.0),
        resolutionunit="MICROMETER",
        extratags=[(65000, 12, 2, (1.5, -2.0), True), (65001, 1, 6, b"\0\1\2\3\4\5", True)],
        metadata=None,
    )
    restored(restorer, source, tmp_path / "out.tif", "100:1023")
    with tifffile.TiffFile(source) as old, tifffile.TiffFile(tmp_path / "out.tif") as new:
        for code in (270, 282, 283, 296, 65000, 65001):
            given, kept = (first_page(one).tags.get(code) for one in (old, new))
            assert given is not None
            assert kept is not None
            assert kept.value == given.value
        history = first_page(new).tags.get(37395)
        assert history is not None
        assert "intensities 100:1023" in str(history.value)


def test_what_imagej_wrote_arrives(restorer, tmp_path):
    metadata = {
        "axes": "ZYX",
        "Labels": ["first", "second", "third"],
        "Info": "a note",
        "LUTs": [np.arange(768, dtype=np.uint8).reshape(3, 256)],
        "spacing": 0.3,
        "unit": "um",
    }
    stack = np.stack([plane(60, 70, seed) for seed in range(3)])
    source = written(tmp_path / "in.tif", stack, imagej=True, metadata=metadata)
    restored(restorer, source, tmp_path / "out.tif")
    with tifffile.TiffFile(source) as old, tifffile.TiffFile(tmp_path / "out.tif") as new:
        assert new.is_imagej
        assert (new.series[0].axes, new.series[0].shape) == ("ZYX", (3, 60, 70))
        np.testing.assert_equal(new.imagej_metadata, old.imagej_metadata)


def test_pages_that_are_enlarged_say_so(tmp_path):
    rgb = np.stack([plane(50, 60, seed, "uint8") for seed in range(3)], -1)
    source = written(
        tmp_path / "in.ome.tif",
        np.stack([rgb, rgb[::-1]]),
        ome=True,
        photometric="rgb",
        metadata={"axes": "ZYXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    with edgerestore.load("sr-x4", precision="fp32") as larger:
        restore_planes(larger, source, tmp_path / "out.ome.tif")
        with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
            assert file.series[0].shape == (2, 200, 240, 3)
            assert 'PhysicalSizeX="0.125"' in str(file.ome_metadata)
            np.testing.assert_array_equal(file.series[0].asarray()[0], larger(rgb))


def test_blank_tiles_that_the_file_leaves_out(restorer, tmp_path):
    tiles = iter([b"", np.full((64, 64), 500, np.uint16).tobytes(), b"", b""])
    source = tmp_path / "in.tif"
    tifffile.imwrite(source, tiles, shape=(128, 128), dtype=np.uint16, tile=(64, 64))
    restored(restorer, source, tmp_path / "out.tif")
    blank = np.zeros((128, 128), np.uint16)
    blank[:64, 64:] = 500
    np.testing.assert_array_equal(pages(tmp_path / "out.tif")[0], restorer(blank))


# What is refused, and leaves nothing.


def test_a_model_that_sees_the_whole_is_refused(restorer):
    manifest = restorer.bundle.manifest
    windows = replace(manifest, tiling=replace(manifest.tiling, mode=TilingMode.WINDOWED))
    other: Any = SimpleNamespace(bundle=SimpleNamespace(manifest=windows))
    with pytest.raises(ArgumentError, match="sees a frame as a whole"):
        RegionRestorer(other, 100, 100, 64)


@pytest.mark.parametrize(
    ("data", "layout", "said"),
    [
        (np.zeros((40, 40), np.int16), {}, "page 1 holds int16 samples"),
        (np.zeros((40, 40), np.float64), {}, "page 1 holds float64 samples"),
        (np.zeros((3, 40, 40), np.uint8), {"photometric": "cielab"}, "holds CIELAB colours"),
    ],
)
def test_other_samples_are_refused_by_name(restorer, tmp_path, data, layout, said):
    source = written(tmp_path / "in.tif", data, **layout)
    with pytest.raises(SourceError, match=said):
        restored(restorer, source, tmp_path / "out.tif")
    assert names(tmp_path) == ["in.tif"]


@pytest.mark.usefixtures("without_imagecodecs")
@pytest.mark.parametrize("compression", ["zstd", "tiff_lzw"])
def test_a_compression_that_an_extra_decodes_names_it(restorer, tmp_path, compression):
    first, other = (Pillow.fromarray(plane(40, 48, seed, "uint8")) for seed in range(2))
    source = tmp_path / "in.tif"
    first.save(source, save_all=True, append_images=[other], compression=compression)
    with pytest.raises(SourceError, match="needs imagecodecs: pip install"):
        restored(restorer, source, tmp_path / "out.tif")


def test_a_file_that_is_cut_off_is_one_line(restorer, tmp_path):
    stack = np.stack([plane(100, 100, seed) for seed in range(3)])
    source = written(tmp_path / "in.tif", stack, photometric="minisblack", rowsperstrip=10)
    source.write_bytes(source.read_bytes()[:-9000])
    with pytest.raises(SourceError, match=r"in\.tif: "):
        restored(restorer, source, tmp_path / "out.tif")
    assert names(tmp_path) == ["in.tif"]


def test_floats_that_are_not_finite_name_their_page(restorer, tmp_path):
    stack = np.stack([plane(60, 60, 0, "float32"), plane(60, 60, 1, "float32")])
    stack[1, 5, 5] = np.nan
    source = written(tmp_path / "in.tif", stack, photometric="minisblack")
    with pytest.raises(ArgumentError, match=r"in\.tif: page 2: the image"):
        restored(restorer, source, tmp_path / "out.tif")
    assert names(tmp_path) == ["in.tif"]


def test_what_is_there_is_kept(restorer, tmp_path):
    source = written(tmp_path / "in.tif", plane(60, 60))
    (tmp_path / "out.tif").write_bytes(b"mine")
    with pytest.raises(SinkError, match="exists"):
        restored(restorer, source, tmp_path / "out.tif")
    with pytest.raises(SinkError, match="is the input"):
        restored(restorer, source, source, overwrite=True)
    assert (tmp_path / "out.tif").read_bytes() == b"mine"


def test_progress_counts_regions_and_may_end_the_work(restorer, tmp_path):
    source = written(tmp_path / "in.tif", plane(200, 200), tile=(32, 32))
    seen: list[tuple[int, int]] = []

    def tick(done, total):
        seen.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restored(restorer, source, tmp_path / "out.tif", on_progress=tick)
    assert seen == [(done, 6) for done in range(1, 6)]
    assert names(tmp_path) == ["in.tif"]


def command(*arguments):
    return [sys.executable, "-m", "edgerestore", "run", *map(str, arguments)]


def test_the_command_line_restores_every_page(tmp_path):
    stack = np.stack([plane(60, 80, seed) for seed in range(3)])
    source = written(tmp_path / "in.tif", stack, photometric="minisblack")
    done = subprocess.run(
        command(source, "-o", tmp_path / "out.tif", "--model", "denoise-gray"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "3 planes in" in done.stderr.splitlines()[-1]
    assert len(pages(tmp_path / "out.tif")) == 3


def test_ctrl_c_stops_a_large_page_and_keeps_what_is_restored(tmp_path):
    image = np.tile(plane(500, 500), (24, 24))
    source = written(tmp_path / "in.tif", image[None].repeat(2, 0), photometric="minisblack")
    with subprocess.Popen(
        command(
            source, "-o", tmp_path / "out.tif", "--model", "denoise-gray", "--progress", "json"
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while '"done": 2' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        begun_s = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - begun_s < 30
    assert process.returncode == 130
    assert "out.tif" not in names(tmp_path)
    assert "of it kept; add --resume to go on" in said


def test_ranges_are_told_once_at_the_end(restorer, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    stack = np.stack([plane(200, 200, seed) for seed in range(3)])
    source = written(tmp_path / "in.tif", stack, photometric="minisblack")
    summary = restored(restorer, source, tmp_path / "out.tif", "auto")
    assert not [line for line in caplog.messages if "intensities" in line]
    assert len(summary.ranges) == 3
    assert str(summary).startswith("3 planes in ")


def test_a_full_disk_is_one_line_and_leaves_nothing(restorer, tmp_path):
    source = tmp_path / "in.ome.tif"
    image = plane(300, 300)
    with tifffile.TiffWriter(source, ome=True) as file:
        file.write(image, subifds=1, tile=(64, 64), metadata={"axes": "YX"})
        file.write(image[::2, ::2], subfiletype=1, tile=(64, 64))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(SinkError, match=r"out\.tif: "):
            restored(restorer, source, tmp_path / "out.tif")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert names(tmp_path) == ["in.ome.tif"]


def test_precision_is_chosen_by_samples_from_all_over(tmp_path, monkeypatch):
    """INT8 is judged on the first picture of 16 bits, here a region of one value."""
    monkeypatch.setattr(loader, "int8_pace", lambda *_: Pace(1.0, 9.0, "in this test"))
    image = plane(300, 300)
    image[:110, :] = 500
    source = written(tmp_path / "in.tif", image, tile=(64, 64))
    with edgerestore.load("denoise-gray", tile=160) as chosen:
        assert chosen.precision == "int8"
        restored(chosen, source, tmp_path / "out.tif", "100:1023")
        chosen.intensity_range = (100, 1023)
        np.testing.assert_array_equal(pages(tmp_path / "out.tif")[0], chosen(image))
