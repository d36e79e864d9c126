"""``edgerestore stitch`` on files: mosaics, positions, reports, and one line for bad input."""

import csv
import json
import re
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from edgerestore.cli.app import run_command_line
from edgerestore.errors import ArgumentError
from edgerestore.stitching.grid import Grid, Order, parse_grid, parse_overlap
from edgerestore.stitching.simulator import Scene, SimulatedMosaic, TileFaults

SIDE, OVERLAP = 160, 40


@pytest.fixture(scope="module")
def simulated():
    scene = Scene(31)
    faults = TileFaults(noise=4)
    return SimulatedMosaic(
        scene, 2, 3, height=SIDE, width=SIDE, overlap=OVERLAP, stage_px=4, whole=True, faults=faults
    )


@pytest.fixture(scope="module")
def folder(simulated, tmp_path_factory):
    """Tiles r{row}_c{column}.tif, which a folder lists row by row."""
    made = tmp_path_factory.mktemp("tiles")
    for row, column, image in simulated.tiles():
        tifffile.imwrite(made / f"r{row}_c{column}.tif", image)
    return made


def stitch(*words):
    return run_command_line(["stitch", *map(str, words)])


def usual(folder, tmp_path, *more):
    output = tmp_path / "mosaic.ome.tif"
    code = stitch(folder, "--grid", "2x3", "--overlap", OVERLAP, "-o", output, *more)
    return code, output


def origins(simulated):
    """Return true origins in the mosaic."""
    truth = simulated.truth.reshape(-1, 2)
    return {
        (at // 3, at % 3): tuple((place - truth.min(axis=0)).astype(int))
        for at, place in enumerate(truth)
    }


def test_every_pixel_is_one_of_a_tile(folder, simulated, tmp_path, capsys):
    code, output = usual(folder, tmp_path)
    assert code == 0
    assert "7 of 7 pairs measured" in capsys.readouterr().out
    mosaic = tifffile.imread(output)
    expected = np.zeros_like(mosaic)
    for cell, (x, y) in reversed(origins(simulated).items()):
        expected[y : y + SIDE, x : x + SIDE] = simulated.tile(*cell)
    assert np.array_equal(mosaic, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["mosaic.ome.tif"]


@pytest.mark.parametrize("seam", ["last", "mean", "linear"])
def test_seams(folder, simulated, tmp_path, seam):
    _, output = usual(folder, tmp_path, "--seam", seam)
    mosaic = tifffile.imread(output).astype(int)
    total, count = np.zeros(mosaic.shape), np.zeros(mosaic.shape, int)
    last = np.zeros_like(mosaic)
    for cell, (x, y) in origins(simulated).items():
        spot = np.s_[y : y + SIDE, x : x + SIDE]
        total[spot] += simulated.tile(*cell)
        last[spot] = simulated.tile(*cell)
        count[spot] += 1
    alone = count == 1
    assert np.array_equal(mosaic[alone], last[alone])
    if seam == "last":
        assert np.array_equal(mosaic, last)
    elif seam == "mean":
        assert np.array_equal(mosaic[count > 0], np.rint((total / np.maximum(count, 1))[count > 0]))
    else:
        assert np.abs(mosaic - total / np.maximum(count, 1))[count > 0].mean() < 3


def test_subpixel_resampling_follows_the_truth(tmp_path):
    simulated = SimulatedMosaic(
        Scene(32), 1, 2, height=SIDE, width=SIDE, overlap=60, stage_px=2, seed=3
    )
    for row, column, image in simulated.tiles():
        tifffile.imwrite(tmp_path / f"r{row}_c{column}.tif", image)
    errors = {}
    for mode in ((), ("--subpixel",)):
        output = tmp_path / "out.tif"
        words = ("--grid", "1x2", "--overlap", 60, "--seam", "last", "-o", output, "-y")
        assert stitch(tmp_path / "r*_c*.tif", *words, *mode) == 0
        mosaic = tifffile.imread(output).astype(float)
        x, y = simulated.truth[0, 0]
        step = simulated.truth[0, 1] - simulated.truth[0, 0]
        left = max(0.0, -step[0]), max(0.0, -step[1])
        true = simulated.scene.at(y, x, SIDE, SIDE + 120)
        top = int(np.ceil(left[1]))
        rows = slice(top + 12, top + SIDE - 24)
        shown = mosaic[rows, 120:200]
        expected = true[12 : 12 + shown.shape[0], 120:200]
        errors[mode] = np.abs(shown - expected).mean()
    assert errors["--subpixel",] < 0.5 * errors[()]


def test_reports_tell_of_every_pair(folder, tmp_path):
    paths = {name: tmp_path / f"audit.{name}" for name in ("html", "json", "csv")}
    words = [word for name, path in paths.items() for word in (f"--{name}", path)]
    code, _ = usual(folder, tmp_path, *words)
    assert code == 0
    facts = json.loads(paths["json"].read_text())
    assert len(facts["pairs"]) == 7
    assert facts["pixels"] == {
        "positions": "measured", "mosaic": "measured", "restored_by": None, "resampled": False,
        "seam": "first",
    }  # fmt: skip
    assert all(pair["candidates"][0]["covariance_px2"] for pair in facts["pairs"])
    assert len(facts["loops"]) == 2
    rows = list(csv.DictReader(paths["csv"].read_text().splitlines()))
    assert {row["state"] for row in rows} == {"measured"}
    assert max(float(row["residual_px"]) for row in rows) < 0.5
    page = paths["html"].read_text()
    assert "Every pair is measured" in page
    assert "data:image/" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_positions_go_out_and_come_in(folder, simulated, tmp_path):
    names = ("TileConfiguration.txt", "global-positions.txt", "positions.csv", "tiles.ome.xml")
    words = [word for name in names for word in ("--positions", tmp_path / name)]
    code, output = usual(folder, tmp_path, *words)
    assert code == 0
    first = tifffile.imread(output)
    for name in names[:3]:
        again = tmp_path / f"{name}.tif"
        code = stitch(
            folder, "--grid", "2x3", "--overlap", OVERLAP, "--stage", tmp_path / name, "-o", again
        )
        assert code == 0
        assert np.array_equal(tifffile.imread(again), first)
    found = re.findall(r'PositionX="([^"]+)"', (tmp_path / "tiles.ome.xml").read_text())
    true = simulated.truth.reshape(-1, 2)[:, 0]
    assert np.diff([float(x) for x in found]) == pytest.approx(np.diff(true), abs=0.2)


def test_fractional_stage_positions_change_no_pixel(folder, simulated, tmp_path):
    _, output = usual(folder, tmp_path)
    stage = tmp_path / "stage.csv"
    random = np.random.default_rng(4)
    lines = ["file,x_um,y_um"]
    for row in range(2):
        for column in range(3):
            x, y = np.array([column, row]) * (SIDE - OVERLAP) + random.uniform(-3, 3, 2)
            lines.append(f"r{row}_c{column}.tif,{0.65 * x + 1000:.4f},{0.65 * y - 77:.4f}")
    stage.write_text("\n".join(lines))
    again = tmp_path / "again.tif"
    words = (
        "--grid",
        "2x3",
        "--overlap",
        "25%",
        "--stage",
        stage,
        "--pixel-size",
        0.65,
        "-o",
        again,
    )
    assert stitch(folder, *words) == 0
    assert np.array_equal(tifffile.imread(again), tifffile.imread(output))


@pytest.mark.parametrize("size", ["1x2", "2x1", "2x2"])
def test_small_grids(simulated, tmp_path, size):
    grid = parse_grid(size)
    for row, column in grid.cells():
        tifffile.imwrite(tmp_path / f"{row}{column}.tif", simulated.tile(row, column))
    output = tmp_path / "out.tif"
    words = ("--grid", size, "--overlap", OVERLAP, "-o", output)
    assert stitch(tmp_path / "[0-9]*.tif", *words) == 0
    step = simulated.truth[grid.rows - 1, grid.columns - 1] - simulated.truth[0, 0]
    assert (
        tifffile.imread(output).shape == tuple(np.abs(step).astype(int)[::-1] + SIDE)
        or size == "2x2"
    )


def test_holes_and_patterns(folder, simulated, tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    for path in folder.iterdir():
        if path.name != "r0_c2.tif":
            (part / path.name).write_bytes(path.read_bytes())
    report = tmp_path / "audit.json"
    code, output = usual(part / "r{row}_c{column}.tif", tmp_path, "--json", report)
    assert code == 0
    assert json.loads(report.read_text())["holes"] == [[0, 2]]
    mosaic = tifffile.imread(output)
    x, y = origins(simulated)[0, 2]
    assert not mosaic[y : y + 60, x + OVERLAP + 10 :].any()


@pytest.mark.parametrize("kind", ["plain", "ome"])
def test_pages_of_one_file(simulated, folder, tmp_path, kind):
    _, expected = usual(folder, tmp_path)
    path = tmp_path / ("stack.ome.tif" if kind == "ome" else "stack.tif")
    tiles = [(cell[:2], cell[2]) for cell in simulated.tiles()]
    with tifffile.TiffWriter(path, ome=kind == "ome") as writer:
        for (row, column), image in tiles:
            x, y = column * 120 * 0.5, row * 120 * 0.5
            metadata = {
                "axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm",
                "Plane": {"PositionX": [x], "PositionXUnit": ["µm"],
                          "PositionY": [y], "PositionYUnit": ["µm"]},
            }  # fmt: skip
            writer.write(image, metadata=metadata if kind == "ome" else None, contiguous=False)
    report, output = tmp_path / "audit.json", tmp_path / "from_pages.ome.tif"
    words = ("--grid", "2x3", "--overlap", OVERLAP, "--json", report, "-o", output)
    assert stitch(path, *words) == 0
    assert np.array_equal(tifffile.imread(output), tifffile.imread(expected))
    facts = json.loads(report.read_text())
    assert facts["stage"] == ("OME-XML" if kind == "ome" else "the regular grid")
    if kind == "ome":
        with tifffile.TiffFile(output) as file:
            assert 'PhysicalSizeX="0.5"' in (file.ome_metadata or "")


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_depths_arrive(simulated, tmp_path, dtype):
    for row, column, image in simulated.tiles():
        tifffile.imwrite(tmp_path / f"r{row}_c{column}.tif", image.astype(dtype) * 3)
    code, output = usual(tmp_path / "r*.tif", tmp_path)
    assert code == 0
    mosaic = tifffile.imread(output)
    assert mosaic.dtype == dtype
    x, y = origins(simulated)[0, 0]
    assert np.array_equal(
        mosaic[y : y + SIDE, x : x + SIDE], simulated.tile(0, 0).astype(dtype) * 3
    )


def test_restoring_is_asked_for_by_name_and_told(folder, simulated, tmp_path):
    import edgerestore

    report = tmp_path / "audit.json"
    shown = {}
    for when in ("writing", "estimation"):
        words = ("--restore", "denoise-gray", "--precision", "fp32", "--restore-before", when)
        code, output = usual(folder, tmp_path, *words, "--json", report, "-y")
        assert code == 0
        facts = json.loads(report.read_text())["pixels"]
        assert facts["mosaic"] == "restored"
        assert facts["positions"] == ("measured" if when == "writing" else "restored")
        assert facts["restored_by"].startswith("denoise-gray at strength 1")
        shown[when] = tifffile.imread(output)
        with tifffile.TiffFile(output) as file:
            assert "restored by denoise-gray" in (file.ome_metadata or "")
    x, y = origins(simulated)[0, 0]
    with edgerestore.load("denoise-gray", precision="fp32") as restorer:
        expected = restorer(simulated.tile(0, 0))
    for mosaic in shown.values():
        assert np.array_equal(mosaic[y : y + SIDE, x : x + SIDE], expected)
    assert not list(tmp_path.glob(".restored*"))


def test_real_tiles_are_exact(shared_data, tmp_path):
    tiles = shared_data / "mosaics" / "mist_t01"
    read = [tifffile.imread(path) for path in sorted(tiles.glob("*.tif"))]
    images = {(at % 5, at // 5): image.astype(int) for at, image in enumerate(read)}
    random = np.random.default_rng(5)
    stage = ["row,column,x_px,y_px"]
    for row, column in images:
        x, y = 230.3 * column + random.uniform(-4, 4), 172.02 * row + random.uniform(-4, 4)
        stage.append(f"{row},{column},{x:.3f},{y:.3f}")
    (tmp_path / "stage.csv").write_text("\n".join(stage))
    for more in ((), ("--stage", tmp_path / "stage.csv")):
        report = tmp_path / "audit.json"
        words = ("--grid", "5x5", "--order", "column", "--overlap", "6%", "--json", report, "-y")
        assert stitch(tiles, *words, *more) == 0
        facts = json.loads(report.read_text())
        places = {
            (tile["row"], tile["column"]): np.rint([tile["x_px"], tile["y_px"]]).astype(int)
            for tile in facts["tiles"]
        }
        accepted = 0
        for pair in facts["pairs"]:
            first, second = tuple(pair["first"]), tuple(pair["second"])
            dx, dy = places[second] - places[first]
            one, other = images[first], images[second]
            left, right = max(0, dx), min(245, 245 + dx)
            top, bottom = max(0, dy), min(183, 183 + dy)
            assert np.array_equal(
                one[top:bottom, left:right], other[top - dy : bottom - dy, left - dx : right - dx]
            )
            accepted += pair["state"] == "measured"
        assert accepted >= 38


def spoiled(folder, tmp_path, name, image):
    """Return a copy of the tiles with one replaced."""
    made = tmp_path / "spoiled"
    made.mkdir()
    for path in folder.iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    tifffile.imwrite(made / name, image, photometric="rgb" if image.ndim == 3 else "minisblack")
    return made


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((100, SIDE), np.uint8), "is 160x100 px, other tiles are 160x160"),
        (np.zeros((SIDE, SIDE), np.uint16), "holds uint16, other tiles hold uint8"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), "3 channels; stitch one channel"),
    ],
)
def test_tiles_that_differ_are_told(folder, tmp_path, capsys, image, said):
    made = spoiled(folder, tmp_path, "r1_c1.tif", image)
    code, output = usual(made, tmp_path)
    told = capsys.readouterr().err
    assert code == 2
    assert said in told
    assert "r1_c1.tif" in told
    assert told.count("\n") == 1
    assert not output.exists()


def test_nan_is_told(simulated, tmp_path, capsys):
    for row, column, image in simulated.tiles():
        tile = image.astype(np.float32)
        if (row, column) == (1, 0):
            tile[5, 7] = np.nan
        tifffile.imwrite(tmp_path / f"r{row}_c{column}.tif", tile)
    code, _ = usual(tmp_path / "r*.tif", tmp_path)
    told = capsys.readouterr().err
    assert code == 2
    assert "r1_c0.tif: holds NaN or infinity in 1 value" in told
    assert told.count("\n") == 1


def test_an_unreadable_tile_is_placed_by_the_stage_and_told(folder, simulated, tmp_path, capsys):
    made = spoiled(folder, tmp_path, "r1_c1.tif", np.zeros((4, 4), np.uint8))
    (made / "r1_c1.tif").write_bytes(b"II*\0nothing")
    report = tmp_path / "audit.json"
    code, output = usual(made, tmp_path, "--json", report)
    told = capsys.readouterr()
    assert code == 0
    assert "r1_c1.tif" in told.err
    assert "place is by the stage" in told.err
    facts = json.loads(report.read_text())
    lost = next(tile for tile in facts["tiles"] if (tile["row"], tile["column"]) == (1, 1))
    assert lost["placed_by"] == "stage"
    assert "r1_c1.tif" in lost["unread"]
    assert {
        pair["reason"] for pair in facts["pairs"] if [1, 1] in (pair["first"], pair["second"])
    } == {"unread"}
    x, y = origins(simulated)[1, 1]
    assert not tifffile.imread(output)[y + 60 : y + 100, x + 60 : x + 100].any()


@pytest.mark.parametrize("level", [0, 200])
def test_blank_tiles_are_undefined_and_told(folder, tmp_path, capsys, level):
    made = spoiled(folder, tmp_path, "r1_c2.tif", np.full((SIDE, SIDE), level, np.uint8))
    code, _ = usual(made, tmp_path)
    assert code == 0
    told = capsys.readouterr().out
    assert "5 of 7 pairs measured" in told
    assert "1 tile placed by the stage" in told


def test_a_residual_above_the_limit_exits_with_3(folder, tmp_path, capsys):
    code, output = usual(folder, tmp_path, "--max-residual", "0.0001")
    assert code == 3
    assert "beside their measured shift" in capsys.readouterr().err
    assert output.exists()


def test_an_output_that_exists_is_kept(folder, tmp_path, capsys):
    output = tmp_path / "mosaic.ome.tif"
    output.write_bytes(b"mine")
    code, _ = usual(folder, tmp_path)
    assert code == 1
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert output.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--grid", "3x3", "--overlap", "40"), "holds 6 tiles, a grid of 3x3 has 9"),
        (("--grid", "1x2", "--overlap", "40"), "holds 6 tiles, a grid of 1x2 has 2"),
        (("--grid", "six", "--overlap", "40"), "ROWSxCOLUMNS"),
        (("--grid", "0x3", "--overlap", "40"), "ROWSxCOLUMNS"),
        (("--grid", "2x3", "--overlap", "0"), "share nothing"),
        (("--grid", "2x3", "--overlap", "160"), "as large as the tile"),
        (("--grid", "2x3", "--overlap", "120%"), "as large as the tile"),
        (("--grid", "2x3", "--overlap", "much"), "pixels or per cent"),
        (("--grid", "2x3", "--overlap", "40", "--order", "diagonal"), "--order takes"),
        (("--grid", "2x3", "--overlap", "40", "--order", "row,column"), "keep one"),
        (("--grid", "2x3", "--overlap", "40", "--search", "far"), "--search is pixels"),
        (("--grid", "2x3", "--overlap", "40", "--seam", "soft"), "--seam is"),
        (("--grid", "2x3", "--overlap", "40", "--estimators", "magic"), "no estimator"),
        (("--grid", "2x3", "--overlap", "2", "--search", "1", "--min-overlap", "9"), "never"),
        (("--grid", "2x3", "--overlap", "40", "--restore", "sr-x4"), "in its size"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(folder, tmp_path, capsys, words, said):
    output = tmp_path / "out.tif"
    assert stitch(folder, *words, "-o", output) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not output.exists()


def test_stages_that_say_too_little_are_told(folder, tmp_path, capsys):
    cases = {
        "x,y\n" + "0,0\n" * 6: "does not say its unit",
        "x_um,y_um\n" + "0,0\n" * 6: "need the size of a pixel",
        "x_furlong,y_furlong\n" + "0,0\n" * 6: "is not known",
        "a,b\n0,0\n": "has no positions",
        "x_px,y_px\n0,0\n": "has no position of",
        "x_px,y_px\n0,east\n": "line 2",
        "file,x_px,y_px\n" + "".join(f"r{r}_c{c}.tif,nan,0\n" for r in range(2) for c in range(3)):
            "are no numbers",
    }  # fmt: skip
    stage = tmp_path / "stage.csv"
    for text, said in cases.items():
        stage.write_text(text)
        code, _ = usual(folder, tmp_path, "--stage", stage)
        assert code in (1, 2)
        assert said in capsys.readouterr().err
    code, _ = usual(folder, tmp_path, "--stage", tmp_path / "none.csv")
    assert code == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing", "is not there"),
        ("no*.tif", "no file has such a name"),
        ("t{row}_{column}.tif", "no file has such a name"),
        ("t{row}.tif", "name both"),
    ],
)
def test_tiles_that_are_not_there(tmp_path, capsys, source, said):
    code, _ = usual(tmp_path / source, tmp_path)
    assert code in (1, 2)
    assert said in capsys.readouterr().err


def test_names_of_outputs_are_checked_first(folder, tmp_path, capsys):
    for name, words in (("out.png", ("-o",)), ("list.doc", ("--positions",))):
        code = stitch(folder, "--grid", "2x3", "--overlap", 40, *words, tmp_path / name)
        assert code in (1, 2)
        assert name in capsys.readouterr().err
    assert stitch(folder, "--grid", "2x3", "--overlap", 40) == 2
    assert "nothing to write" in capsys.readouterr().err


def test_orders_of_acquisition():
    def cells(text):
        return list(Grid(2, 3, Order.parse(text)).cells())

    assert cells("row")[:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert cells("row,snake")[3:] == [(1, 2), (1, 1), (1, 0)]
    assert cells("column")[:3] == [(0, 0), (1, 0), (0, 1)]
    assert cells("column,snake,top-right")[:4] == [(0, 2), (1, 2), (1, 1), (0, 1)]
    assert cells("bottom-left")[0] == (1, 0)
    assert sorted(cells("snake,bottom-right")) == sorted(cells(""))


def test_overlaps():
    assert parse_overlap("10%", 100, 200) == (20, 10)
    assert parse_overlap("15", 100, 200) == (15, 15)
    assert parse_overlap("20,10%", 100, 200) == (20, 10)
    with pytest.raises(ArgumentError):
        parse_overlap("1,2,3", 100, 200)


def test_pictures_of_other_formats(simulated, tmp_path):
    for row, column, image in simulated.tiles():
        cv2.imwrite(str(tmp_path / f"t_{3 * row + column + 1}.png"), image)
    code, output = usual(tmp_path / "t_{index}.png", tmp_path)
    assert code == 0
    x, y = origins(simulated)[0, 0]
    assert np.array_equal(tifffile.imread(output)[y : y + SIDE, x : x + SIDE], simulated.tile(0, 0))


def opened(store) -> Any:
    return zarr.open_group(store, mode="r")


def test_a_store_holds_the_same_pixels_and_its_copies(folder, tmp_path):
    _, expected = usual(folder, tmp_path)
    store = tmp_path / "mosaic.ome.zarr"
    words = ("--grid", "2x3", "--overlap", OVERLAP, "--pixel-size", 0.5, "-o", store)
    assert stitch(folder, *words) == 0
    mosaic = tifffile.imread(expected)
    group = opened(store)
    assert np.array_equal(group["0"][:], mosaic)
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["unit"] for axis in multiscale["axes"]] == ["micrometer"] * 2
    for dataset in multiscale["datasets"]:
        factor = int(2 ** int(dataset["path"]))
        level = group[dataset["path"]]
        assert level.shape == tuple(-(-side // factor) for side in mosaic.shape)
        (scale,) = (one["scale"] for one in dataset["coordinateTransformations"] if "scale" in one)
        assert scale == [0.5 * factor] * 2


def test_a_store_that_exists_is_kept(folder, tmp_path, capsys):
    store = tmp_path / "mosaic.ome.zarr"
    words = ("--grid", "2x3", "--overlap", OVERLAP, "-o", store)
    assert stitch(folder, *words) == 0
    assert stitch(folder, *words) == 1
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert stitch(folder, *words, "--overwrite") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mosaic.ome.zarr"]


def test_a_killed_run_is_gone_on_with(folder, tmp_path, monkeypatch, capsys):
    from edgerestore.stitching import zarr_mosaic
    from edgerestore.stitching.mosaic import MosaicReader

    monkeypatch.setattr(zarr_mosaic, "_SHARD_PX", 128)
    monkeypatch.setattr(zarr_mosaic, "_CHUNK_PX", 64)
    store, made = tmp_path / "mosaic.ome.zarr", []
    region = MosaicReader.region

    def counted(reader, wanted):
        made.append(wanted)
        if len(made) == 5:
            raise KeyboardInterrupt
        return region(reader, wanted)

    monkeypatch.setattr(MosaicReader, "region", counted)
    words = ("--grid", "2x3", "--overlap", OVERLAP, "-o", store)
    assert stitch(folder, *words) == 130
    assert not store.exists()
    assert stitch(folder, *words) == 1
    assert "add --resume" in capsys.readouterr().err
    assert stitch(folder, *words, "--resume", "--seam", "last") == 1  # of other facts
    assert stitch(folder, *words, "--resume") == 0
    assert len({(one.top, one.left) for one in made[:4]} & {(o.top, o.left) for o in made[5:]}) == 0
    monkeypatch.setattr(MosaicReader, "region", region)
    _, expected = usual(folder, tmp_path)
    mosaic = opened(store)["0"][:]
    assert np.array_equal(mosaic, tifffile.imread(expected))
