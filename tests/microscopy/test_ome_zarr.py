"""OME-Zarr in and out: the values of the restored whole, and all metadata that it came with."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ome_types
import pytest
import tifffile
import yaozarrs
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

import edgerestore
from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.microscopy import memory_budget
from edgerestore.microscopy import zarr_writer as writer_module
from edgerestore.microscopy.restore_planes import PlanesOptions, restore_planes

from ..bundles import write_bundle

CHUNK_PX, SIDE_PX = 32, 64


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    bundle = write_bundle(tmp_path_factory.mktemp("models") / "grey", channels=1)
    with edgerestore.load(bundle.folder, precision="fp32", tile=96) as made:
        yield made


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    bundle = write_bundle(tmp_path_factory.mktemp("models") / "colour")
    with edgerestore.load(bundle.folder, precision="fp32", tile=96) as made:
        yield made


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Let small pictures have several shards, of several chunks."""
    monkeypatch.setattr(writer_module, "_CHUNK_PX", CHUNK_PX)
    monkeypatch.setattr(memory_budget, "_SIDES_PX", (SIDE_PX,))
    # What waits for the disk is told by no test: only a power cut does.
    monkeypatch.setattr(os, "fsync", lambda _file: None)


def noise(shape, dtype="uint16", seed=0):
    values = np.random.default_rng(seed).random(shape, np.float32)
    if dtype == "float32":
        return values
    return (values * 200 if dtype == "uint8" else 100 + values * 900).astype(dtype)


def restored(restorer, source, output, intensities="full", on_progress=None, **options):
    restorer.intensity_range = intensities
    return restore_planes(
        restorer, source, output, PlanesOptions(**options), on_progress=on_progress
    )


def wanted(restorer, stack):
    planes = [restorer(one) for one in stack.reshape(-1, *stack.shape[-2:])]
    return np.stack(planes).reshape(stack.shape)


def ome_zarr(path, data, version="0.5", *, levels=1, chunk=(40, 48), extra=None, **layout):
    """Write an OME-Zarr of t, c, z, y and x, the last of them as there are."""
    axes = "tczyx"[-data.ndim :]
    kinds = {"t": ("time", "second"), "c": ("channel", None)}
    form: Literal[2, 3] = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=form)
    datasets = []
    keys: dict[str, Any] = {"dimension_names": list(axes)}
    if form == 2:
        keys = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    for at in range(levels):
        step = 2**at
        part = data[..., ::step, ::step]
        group.create_array(
            str(at),
            data=part,
            chunks=(*[1] * (data.ndim - 2), *chunk),
            **keys,
            **layout,
        )
        scale = [*[1.0] * (data.ndim - 2), 0.25 * step, 0.25 * step]
        if data.ndim > 2 and "z" in axes:
            scale[axes.index("z")] = 1.5
        datasets.append(
            {"path": str(at), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    told: list[dict[str, str]] = []
    for one in axes:
        kind, unit = kinds.get(one, ("space", "micrometer"))
        told.append({"name": one, "type": kind, **({"unit": unit} if unit else {})})
    multiscale = {"axes": told, "datasets": datasets, "name": "cells"}
    ome: dict[str, Any] = {"multiscales": [multiscale], **(extra or {})}
    if form == 2:
        multiscale["version"] = "0.4"
        group.attrs.update({**ome, "mine": {"kept": True}})
    else:
        group.attrs.update({"ome": {"version": "0.5", **ome}, "mine": {"kept": True}})
    return path


def attributes(path):
    found = dict(zarr.open_group(path, mode="r").attrs)
    return found.get("ome", found)


def level(path, name="0"):
    return np.asarray(zarr.open_array(path / name, mode="r")[...])


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


def names(folder):
    return sorted(one.name for one in folder.iterdir())


OME = {
    "axes": "ZCYX",
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "\u00b5m",
    "PhysicalSizeY": 0.25,
    "PhysicalSizeYUnit": "\u00b5m",
    "PhysicalSizeZ": 1.5,
    "PhysicalSizeZUnit": "\u00b5m",
    "Channel": {"Name": ["DAPI", "GFP", "Cy5"]},
    "Plane": {"PositionX": [12.5] * 6, "PositionXUnit": ["\u00b5m"] * 6},
}


@pytest.fixture
def stack():
    return np.stack([noise((90, 130), seed=seed) for seed in range(6)]).reshape(2, 3, 90, 130)


def test_an_ome_tiff_becomes_an_ome_zarr(restorer, tmp_path, stack):
    source, output = tmp_path / "in.ome.tif", tmp_path / "out.ome.zarr"
    tifffile.imwrite(source, stack, ome=True, metadata=OME, tile=(64, 48))
    summary = restored(restorer, source, output)
    assert summary.planes == 6
    assert names(tmp_path) == ["in.ome.tif", "out.ome.zarr"]
    np.testing.assert_array_equal(level(output), wanted(restorer, stack).transpose(1, 0, 2, 3))
    found = zarr.open_array(output / "0", mode="r")
    assert found.chunks == (1, 1, CHUNK_PX, CHUNK_PX)
    assert found.shards == (1, 1, SIDE_PX, SIDE_PX)
    (scales,) = attributes(output)["multiscales"]
    assert [one["name"] for one in scales["axes"]] == ["c", "z", "y", "x"]
    assert scales["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 1.5, 0.25, 0.25]
    assert scales["axes"][3]["unit"] == "micrometer"
    channels = attributes(output)["omero"]["channels"]
    assert [one["label"] for one in channels] == ["DAPI", "GFP", "Cy5"]
    xml = (output / "OME/METADATA.ome.xml").read_text("utf-8")
    with tifffile.TiffFile(source) as file:
        assert ome_types.from_xml(xml) == ome_types.from_xml(str(file.ome_metadata))


def test_other_readers_read_what_is_written(restorer, tmp_path, stack):
    source, output = tmp_path / "in.ome.tif", tmp_path / "out.ome.zarr"
    tifffile.imwrite(source, stack, ome=True, metadata=OME)
    for version in ("0.5", "0.4"):
        restored(restorer, source, output, version=version, overwrite=True)
        (node,) = Reader(parse_url(output))()
        np.testing.assert_array_equal(np.asarray(node.data[0]), level(output))
        assert node.metadata["channel_names"] == ["DAPI", "GFP", "Cy5"]
        if version == "0.5":
            yaozarrs.validate_zarr_store(str(output))
        else:
            yaozarrs.validate_ome_object(dict(zarr.open_group(output, mode="r").attrs))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shape", [(90, 70), (3, 90, 70), (2, 1, 3, 70, 90)])
def test_a_store_becomes_a_store(restorer, tmp_path, version, shape):
    data = noise(shape)
    omero = {"channels": [{"label": "a", "color": "00FF00", "window": {"start": 1, "end": 9}}]}
    source = ome_zarr(tmp_path / "in.zarr", data, version, levels=2, extra={"omero": omero})
    output = tmp_path / "out.zarr"
    restored(restorer, source, output)
    np.testing.assert_array_equal(level(output), wanted(restorer, data))
    before, after = attributes(source), attributes(output)
    assert after["omero"] == before["omero"]
    for one, other in zip(before["multiscales"], after["multiscales"], strict=True):
        assert {**one, "type": 0, "metadata": 0} == {**other, "type": 0, "metadata": 0}
    assert dict(zarr.open_group(output, mode="r").attrs)["mine"] == {"kept": True}
    fine, coarse = level(output), level(output, "1")
    cells = fine.reshape(*shape[:-2], shape[-2] // 2, 2, shape[-1] // 2, 2)
    np.testing.assert_array_equal(coarse, np.rint(cells.mean((-3, -1))))


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (">u2", {"shards": (80, 96)}),
        ("uint8", {"shards": (80, 48), "compressors": None}),
        ("float32", {}),
        (">f4", {}),
    ],
)
def test_samples_of_any_store(restorer, tmp_path, dtype, layout):
    data = noise((130, 100), np.dtype(dtype).name).astype(dtype)
    version = "0.4" if dtype == ">f4" else "0.5"
    source = ome_zarr(tmp_path / "in.zarr", data, version, **layout)
    restored(restorer, source, tmp_path / "out.zarr")
    own = data.astype(data.dtype.newbyteorder("="))
    np.testing.assert_array_equal(level(tmp_path / "out.zarr"), restorer(own))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(20, 170), st.integers(20, 170)),
    chunk=st.tuples(st.integers(7, 80), st.integers(7, 80)),
    sharded=st.booleans(),
    dtype=st.sampled_from(["uint8", "uint16", "float32", ">u2", ">f4"]),
    intensities=st.sampled_from(["full", "auto", "p1:p99", "0.2:0.7"]),
    levels=st.integers(1, 3),
    tiff=st.booleans(),
)
def test_anything_restored_by_region_is_as_restored_whole(
    restorer, tmp_path, size, chunk, sharded, dtype, intensities, levels, tiff
):
    data = noise(size, np.dtype(dtype).name).astype(dtype)
    for one in tmp_path.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    if tiff:
        source = tmp_path / "in.tif"
        tifffile.imwrite(source, data, tile=(16 * (1 + chunk[0] // 16), 32))
    else:
        layout = {"shards": tuple(2 * one for one in chunk)} if sharded else {}
        source = ome_zarr(tmp_path / "in.zarr", data, levels=levels, chunk=chunk, **layout)
    summary = restored(restorer, source, tmp_path / "out.zarr", intensities)
    own = data.astype(data.dtype.newbyteorder("="))
    seen = summary.ranges[0]
    restorer.intensity_range = (
        seen if seen == "full" else tuple(float(one) for one in seen.split(":"))
    )
    np.testing.assert_array_equal(level(tmp_path / "out.zarr"), restorer(own))
    count = len(attributes(tmp_path / "out.zarr")["multiscales"][0]["datasets"])
    assert count == (1 if tiff else levels)


def test_large_pictures_get_a_pyramid(restorer, tmp_path, monkeypatch):
    from edgerestore.microscopy import pyramids

    monkeypatch.setattr(pyramids, "_FLAT_PX", 200)
    monkeypatch.setattr(pyramids, "_SMALLEST_PX", 70)
    tifffile.imwrite(tmp_path / "in.tif", noise((150, 260)), resolution=(5000, 5000))
    restored(restorer, tmp_path / "in.tif", tmp_path / "out.zarr")
    shapes = [level(tmp_path / "out.zarr", str(at)).shape for at in range(3)]
    assert shapes == [(150, 260), (75, 130), (37, 65)]
    yaozarrs.validate_zarr_store(str(tmp_path / "out.zarr"))


def test_a_store_becomes_an_ome_tiff(restorer, tmp_path):
    data = noise((2, 3, 70, 90))
    omero = {
        "channels": [
            {"label": one, "color": "FF00FF", "window": {"start": 0, "end": 9, "min": 0, "max": 9}}
            for one in ("a", "b")
        ]
    }
    source = ome_zarr(tmp_path / "in.zarr", data, levels=2, extra={"omero": omero})
    restored(restorer, source, tmp_path / "out.ome.tif")
    assert names(tmp_path) == ["in.zarr", "out.ome.tif"]
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        series = file.series[0]
        assert series.axes == "CZYX"
        np.testing.assert_array_equal(series.asarray(), wanted(restorer, data))
        assert [one.shape for one in series.levels] == [(2, 3, 70, 90), (2, 3, 35, 45)]
        pixels = ome_types.from_xml(str(file.ome_metadata)).images[0].pixels
    assert [one.name for one in pixels.channels] == ["a", "b"]
    assert (pixels.physical_size_x, pixels.physical_size_z) == (0.25, 1.5)
    assert pixels.physical_size_x_unit.value == "\u00b5m"


def test_the_ome_model_is_equal_after_a_round_trip(restorer, tmp_path, stack):
    first = tmp_path / "in.ome.tif"
    with tifffile.TiffWriter(first, ome=True) as file:
        file.write(stack, metadata=OME, tile=(64, 48))
    restored(restorer, first, tmp_path / "middle.zarr")
    restorer.strength = 0
    try:
        restored(restorer, tmp_path / "middle.zarr", tmp_path / "out.ome.tif")
    finally:
        restorer.strength = 1
    with tifffile.TiffFile(first) as old, tifffile.TiffFile(tmp_path / "out.ome.tif") as new:
        was, now = (ome_types.from_xml(str(one.ome_metadata)) for one in (old, new))
        assert now == was
        made = new.series[0].asarray()
    np.testing.assert_array_equal(made, wanted(restorer, stack))


def test_colours_are_three_channels(colour, tmp_path):
    rgb = noise((80, 100, 3), "uint8")
    tifffile.imwrite(tmp_path / "in.tif", rgb, photometric="rgb", tile=(32, 32))
    restored(colour, tmp_path / "in.tif", tmp_path / "mid.zarr")
    np.testing.assert_array_equal(level(tmp_path / "mid.zarr"), colour(rgb).transpose(2, 0, 1))
    colors = [one["color"] for one in attributes(tmp_path / "mid.zarr")["omero"]["channels"]]
    assert colors == ["FF0000", "00FF00", "0000FF"]
    once = level(tmp_path / "mid.zarr").transpose(1, 2, 0)
    restored(colour, tmp_path / "mid.zarr", tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.ome.tif"), colour(once))


def test_chosen_channels_are_restored_and_others_pass_through(restorer, tmp_path, stack):
    source = tmp_path / "in.ome.tif"
    tifffile.imwrite(source, stack, ome=True, metadata=OME)
    restored(restorer, source, tmp_path / "out.zarr", channels=("GFP", "0"))
    made, whole = level(tmp_path / "out.zarr"), wanted(restorer, stack).transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(made[:2], whole[:2])
    np.testing.assert_array_equal(made[2], stack[:, 2])
    with pytest.raises(ArgumentError, match="no channel 'YFP'; it has DAPI, GFP, Cy5"):
        restored(restorer, source, tmp_path / "no.zarr", channels=("YFP",))


def test_several_images_keep_their_place(restorer, tmp_path):
    first, other = noise((60, 80)), noise((40, 50), seed=1)
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as file:
        file.write(first, metadata={"axes": "YX", "Name": "slide"})
        file.write(other, metadata={"axes": "YX", "Name": "label"})
    restored(restorer, tmp_path / "in.ome.tif", tmp_path / "out.zarr")
    np.testing.assert_array_equal(level(tmp_path / "out.zarr/0"), restorer(first))
    np.testing.assert_array_equal(level(tmp_path / "out.zarr/1"), restorer(other))
    yaozarrs.validate_zarr_store(str(tmp_path / "out.zarr"))
    restored(restorer, tmp_path / "out.zarr", tmp_path / "again.ome.tif")
    with tifffile.TiffFile(tmp_path / "again.ome.tif") as file:
        assert [one.shape for one in file.series] == [(60, 80), (40, 50)]


def test_metadata_that_was_not_valid_stays_and_is_told(restorer, tmp_path, caplog):
    omero = {"channels": [{"label": "a", "color": 7}]}
    source = ome_zarr(tmp_path / "in.zarr", noise((60, 70)), extra={"omero": omero})
    restored(restorer, source, tmp_path / "out.zarr")
    assert "its metadata is no valid OME-Zarr (" in caplog.text
    assert attributes(tmp_path / "out.zarr")["omero"] == omero


def test_labels_come_along(restorer, tmp_path):
    source = ome_zarr(tmp_path / "in.zarr", noise((60, 70)))
    ome_zarr(source / "labels/nuclei", noise((60, 70), "uint8"))
    restored(restorer, source, tmp_path / "out.zarr")
    assert files(tmp_path / "out.zarr/labels") == files(source / "labels")


# Blank regions.


def test_regions_of_one_value_are_inferred_once(restorer, tmp_path):
    image = noise((64 * 7, 64 * 7))
    image[64:-64, 64:-64] = 500
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(64, 64))
    summary = restored(restorer, tmp_path / "in.tif", tmp_path / "out.zarr")
    assert summary.blank == 9 - 1
    np.testing.assert_array_equal(level(tmp_path / "out.zarr"), restorer(image))


def test_a_border_of_one_value_is_no_blank(restorer, tmp_path):
    image = np.full((300, 300), 700, np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(64, 64))
    restored(restorer, tmp_path / "in.tif", tmp_path / "out.zarr")
    np.testing.assert_array_equal(level(tmp_path / "out.zarr"), restorer(image))


# Ended runs.


class EndedError(Exception):
    """Whatever ends a run."""


def ended_after(count):
    def tick(done, total):
        if done >= count:
            raise EndedError

    return tick


@pytest.mark.parametrize("after", [1, 4, 9, 12])
@pytest.mark.parametrize("name", ["out.zarr", "out.ome.tif"])
def test_an_ended_run_goes_on_byte_for_byte(restorer, tmp_path, after, name):
    source = ome_zarr(tmp_path / "in.zarr", noise((2, 150, 170)), levels=3)
    restored(restorer, source, tmp_path / f"whole-{name}")
    with pytest.raises(EndedError):
        restored(restorer, source, tmp_path / name, on_progress=ended_after(after))
    assert name not in names(tmp_path)
    summary = restored(restorer, source, tmp_path / name, resume=True)
    assert summary.resumed >= after - 1
    assert summary.resumed + summary.regions == 2 * 9
    if name.endswith(".zarr"):
        assert files(tmp_path / name) == files(tmp_path / f"whole-{name}")
    else:
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert names(tmp_path) == sorted(["in.zarr", name, f"whole-{name}"])


def test_changed_settings_are_refused_by_name(restorer, tmp_path):
    source = ome_zarr(tmp_path / "in.zarr", noise((150, 170)))
    output = tmp_path / "out.zarr"
    with pytest.raises(EndedError):
        restored(restorer, source, output, on_progress=ended_after(3))
    with pytest.raises(SinkError, match="intensities was full and is 100:900"):
        restored(restorer, source, output, "100:900", resume=True)
    with pytest.raises(SinkError, match="compression was zstd and is gzip"):
        restored(restorer, source, output, resume=True, compression="gzip")
    with pytest.raises(SinkError, match="an unfinished run left"):
        restored(restorer, source, output)
    ome_zarr(source, noise((150, 170), seed=5))
    with pytest.raises(SinkError, match="input"):
        restored(restorer, source, output, resume=True)


def test_a_full_disk_stops_and_says_how_to_go_on(restorer, tmp_path, caplog):
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        source = ome_zarr(tmp_path / "in.zarr", noise((400, 400)))
        with pytest.raises(SinkError, match="the disk is full"):
            restored(restorer, source, disk / "out.zarr")
        assert "add --resume to go on" in caplog.text
        subprocess.run(["mount", "-o", "remount,size=3m", disk], check=True)
        summary = restored(restorer, source, disk / "out.zarr", resume=True)
        assert summary.resumed
        restored(restorer, source, tmp_path / "whole.zarr")
        assert files(disk / "out.zarr") == files(tmp_path / "whole.zarr")
    finally:
        subprocess.run(["umount", disk], check=True)


# Bad input.


def broken_shard(source):
    path = source / "0/c/0/0"
    path.write_bytes(path.read_bytes()[:-9])


def no_multiscales(source):
    meta = json.loads((source / "zarr.json").read_text())
    del meta["attributes"]["ome"]["multiscales"]
    (source / "zarr.json").write_text(json.dumps(meta))


def wrong_axes(source):
    edit(source, lambda scales: scales["axes"].reverse())


def no_array(source):
    shutil.rmtree(source / "0")


def garbage(source):
    (source / "zarr.json").write_text("{")


def one_axis_too_many(source):
    axis = {"name": "c", "type": "channel"}
    edit(source, lambda scales: scales["axes"].insert(0, axis))


def newer(source):
    meta = json.loads((source / "zarr.json").read_text())
    meta["attributes"]["ome"]["version"] = "0.9"
    (source / "zarr.json").write_text(json.dumps(meta))


def other_depth(source):
    shutil.rmtree(source / "1")
    zarr.create_array(source / "1", data=noise((75, 85), "uint8"), chunks=(40, 40))


def edit(source, change):
    meta = json.loads((source / "zarr.json").read_text())
    change(meta["attributes"]["ome"]["multiscales"][0])
    (source / "zarr.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (broken_shard, r"in\.zarr: its plane: chunk at .*cannot be read"),
        (no_multiscales, "holds no multiscales"),
        (wrong_axes, "has the axes x, y"),
        (no_array, "is not there, though its multiscales name it"),
        (garbage, "its metadata cannot be read"),
        (one_axis_too_many, "has 2 axes, its multiscales 3"),
        (newer, r"is OME-Zarr 0\.9"),
        (other_depth, "its levels are of uint16 and of uint8"),
    ],
)
def test_damaged_stores_are_one_line(restorer, tmp_path, damage, said):
    source = ome_zarr(tmp_path / "in.zarr", noise((150, 170)), levels=2, shards=(160, 192))
    damage(source)
    with pytest.raises(SourceError, match=said):
        restored(restorer, source, tmp_path / "out.zarr")
    assert names(tmp_path) == ["in.zarr"]


def test_chunks_that_are_missing_are_told(restorer, tmp_path, caplog):
    source = ome_zarr(tmp_path / "in.zarr", noise((150, 170)))
    (source / "0/c/1/1").unlink()
    restored(restorer, source, tmp_path / "out.zarr")
    assert "1 of its 16 chunks are not stored; they are read as 0" in caplog.text


def test_floats_that_are_not_finite_are_placed(restorer, tmp_path):
    data = noise((3, 150, 170), "float32")
    data[2, 140, 99] = np.nan
    source = ome_zarr(tmp_path / "in.zarr", data)
    with pytest.raises(ArgumentError, match=r"z 2: the image holds NaN .* at row 140, column 99"):
        restored(restorer, source, tmp_path / "out.zarr")


@pytest.mark.parametrize("dtype", ["int16", "float64", "uint32"])
def test_samples_that_are_not_restored(restorer, tmp_path, dtype):
    source = ome_zarr(tmp_path / "in.zarr", np.zeros((60, 60), dtype))
    with pytest.raises(SourceError, match=f"holds {dtype} samples"):
        restored(restorer, source, tmp_path / "out.zarr")


def test_an_ome_xml_that_lies_about_its_size(restorer, tmp_path):
    source = tmp_path / "in.ome.tif"
    tifffile.imwrite(source, noise((60, 80)), ome=True, metadata={"axes": "YX"})
    source.write_bytes(source.read_bytes().replace(b'SizeX="80"', b'SizeX="81"'))
    with pytest.raises(SourceError, match=r"its OME-XML|SizeX is 81, its pages hold 80"):
        restored(restorer, source, tmp_path / "out.zarr")
    assert names(tmp_path) == ["in.ome.tif"]


def test_memory_that_does_not_suffice_says_what_would(restorer, tmp_path):
    source = ome_zarr(tmp_path / "in.zarr", noise((2000, 2000)), chunk=(2000, 2000))
    with pytest.raises(ArgumentError, match=r"needs at least --memory \d+MiB"):
        restored(restorer, source, tmp_path / "out.zarr", memory_bytes=4 << 20)


def test_stated_by_the_whole_picture_is_refused(restorer, tmp_path):
    from edgerestore.engine.adjustments import Adjustments

    source = ome_zarr(tmp_path / "in.zarr", noise((60, 60)))
    restorer.adjustments = Adjustments(brightness="auto")
    try:
        with pytest.raises(ArgumentError, match="brightness auto is estimated from a whole"):
            restored(restorer, source, tmp_path / "out.zarr")
    finally:
        restorer.adjustments = Adjustments()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edgerestore", "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = ome_zarr(tmp_path / "in.zarr", noise((2, 60, 80)))
    bundle = write_bundle(tmp_path / "grey", channels=1)
    model = ["--model", bundle.folder, "--memory", "256MiB"]
    done = command(source, "-o", tmp_path / "out.ome.zarr", *model, "--channels", "1")
    assert done.returncode == 2
    assert "has no channel '1'" in done.stderr
    done = command(source, "-o", tmp_path / "out.ome.zarr", *model)
    assert done.returncode == 0, done.stderr
    assert "2 planes in" in done.stderr.splitlines()[-1]
    again = command(source, "-o", tmp_path / "out.ome.zarr", *model)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "exists; add --overwrite" in again.stderr
    other = command(source, "-o", tmp_path / "out.png", *model)
    assert other.returncode == 2
    assert "name a .zarr or a .tif" in other.stderr
