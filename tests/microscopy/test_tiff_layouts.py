"""TIFF of rarer layouts, read by region: compressions, one strip of it all, more than 4 GiB."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from edgerestore.errors import SourceError
from edgerestore.imaging.image_files import decode_image
from edgerestore.microscopy.regions import Region
from edgerestore.microscopy.tiff_planes import TiffPlanes, holds_planes


def noise(shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 250, shape).astype(dtype)


def region_of(path, top, left, height, width):
    with TiffPlanes(path) as file:
        return file.read(file.planes[0], Region(top, left, height, width))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", ["lzw", "zstd", "jpegxr", "packbits", "lzma", "jpeg2000"])
def test_compressions(tmp_path, compression, dtype):
    tifffile.imwrite(
        tmp_path / "in.tif", noise((150, 170), dtype), tile=(64, 64), compression=compression
    )
    whole = tifffile.imread(tmp_path / "in.tif")
    np.testing.assert_array_equal(
        region_of(tmp_path / "in.tif", 30, 41, 100, 129), whole[30:130, 41:]
    )


@pytest.mark.parametrize("color", ["rgb", "ycbcr"])
def test_jpeg_tiles(tmp_path, color):
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise((150, 170, 3), "uint8"),
        tile=(64, 64),
        compression="jpeg",
        photometric=color,
    )
    whole = tifffile.imread(tmp_path / "in.tif")
    np.testing.assert_array_equal(
        region_of(tmp_path / "in.tif", 30, 41, 100, 129), whole[30:130, 41:]
    )


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("separate", [False, True])
def test_rows_of_strips(tmp_path, byteorder, separate):
    shape = (3, 90, 70) if separate else (90, 70, 3)
    tifffile.imwrite(
        tmp_path / "in.tif",
        noise(shape),
        photometric="rgb",
        planarconfig="separate" if separate else "contig",
        byteorder=byteorder,
        rowsperstrip=13,
    )
    whole = tifffile.imread(tmp_path / "in.tif")
    whole = np.moveaxis(whole, 0, -1) if separate else whole
    np.testing.assert_array_equal(region_of(tmp_path / "in.tif", 7, 11, 60, 40), whole[7:67, 11:51])


def sparse(path, height, width):
    """Write a BigTIFF of one strip of zeros, of which the disk holds next to nothing."""
    size = height * width * 2
    data = 16
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 16, 1, data),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 16, 1, size),
    ]
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, data + size))
        file.seek(data + size - 2)
        file.write(struct.pack("<H", 4321))
        file.write(struct.pack("<Q", len(tags)))
        for code, kind, count, value in tags:
            file.write(struct.pack("<HHQQ", code, kind, count, value))
        file.write(struct.pack("<Q", 0))
    return path


READ = """
import resource, sys
from pathlib import Path
from edgerestore.microscopy.regions import Region
from edgerestore.microscopy.tiff_planes import TiffPlanes
with TiffPlanes(Path(sys.argv[1])) as file:
    plane = file.planes[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    region = file.read(plane, Region(plane.height - 500, plane.width - 600, 500, 600))
    print(region[-1, -1], region.sum(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_strip_of_five_gib_is_read_by_rows(tmp_path):
    path = sparse(tmp_path / "in.tif", 60_000, 45_000)
    assert path.stat().st_size > 4 << 30
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    last, total, grown_kib = map(int, done.stdout.split())
    assert (last, total) == (4321, 4321)
    assert grown_kib < 50_000


def test_directories_that_run_in_a_circle(tmp_path):
    path = tmp_path / "in.tif"
    with tifffile.TiffWriter(path) as file:
        for at in range(3):
            file.write(noise((40, 40)) + at, metadata=None)
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
        entries = 12 * len(file.pages.first.tags) + 2
    raw = bytearray(path.read_bytes())
    raw[offsets[2] + entries : offsets[2] + entries + 4] = offsets[1].to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"in\.tif: its pages run in a circle"):
        TiffPlanes(path)
    assert not holds_planes(path)
    with pytest.raises(SourceError, match=r"in\.tif: its pages run in a circle"):
        decode_image(path)


def test_reduced_copies_that_are_their_own_page(tmp_path):
    path = tmp_path / "in.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(noise((80, 80)), subifds=1, metadata=None)
        file.write(noise((40, 40)), subfiletype=1, metadata=None)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        spot, offset = page.tags[330].valueoffset, page.offset
    raw = bytearray(path.read_bytes())
    raw[spot : spot + 4] = offset.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"in\.tif: page 1 is a reduced copy of itself"):
        TiffPlanes(path)
