"""Retouching by colour tables: the definition, computed another way, and the whole bundle."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import edgerestore
from edgerestore.convert import convert
from edgerestore.convert.architectures.lut3d import AdaptiveLut
from edgerestore.convert.checkpoint.files import load_folder
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.errors import CheckpointError

from ..checked import imread


def looked_up(table: NDArray[np.float64], image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate a table ``[3, B, G, R]`` at RGB ``[..., 3]``, one corner of a cell at a time."""
    size = table.shape[-1]
    place = np.clip(image, 0, 1) * (size - 1) / 1.000001
    cell = np.minimum(place.astype(int), size - 2)
    within = place - cell
    made = np.zeros(image.shape)
    for corner in np.ndindex(2, 2, 2):
        at = cell + corner
        weight = np.prod(np.where(corner, within, 1 - within), axis=-1)
        colours = table[:, at[..., 2], at[..., 1], at[..., 0]]
        made += weight[..., None] * np.moveaxis(colours, 0, -1)
    return made


def mixed(network: AdaptiveLut, image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Judge an image as the network does, and sum the tables in f64."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    with torch.inference_mode():
        weights = network.classifier(planes)[0].double().numpy()
        tables = [network.get_parameter(f"LUTs.{i}.LUT").double().numpy() for i in range(3)]
    summed: NDArray[np.float64] = np.einsum("i,i...->...", weights, np.stack(tables))
    return summed


def test_tables_are_looked_up_trilinearly() -> None:
    rng = np.random.default_rng(0)
    network = AdaptiveLut(size=5, tables=3, width=2).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.from_numpy(rng.normal(0, 0.4, weights.shape)))
    image = rng.random((23, 17, 3), np.float32)
    image[0, :2] = [[0, 0, 0], [1, 1, 1]]
    with torch.inference_mode():
        made = network(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))[0]
    wanted = looked_up(mixed(network, image), image.astype(np.float64))
    np.testing.assert_allclose(made.numpy().transpose(1, 2, 0), wanted, atol=1e-4)


@pytest.fixture(scope="module")
def parts(shared_data: Path) -> Path:
    return shared_data / "checkpoints" / "retouch_3dlut"


@pytest.fixture(scope="module")
def bundle(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("retouch") / "lut3d"
    manifest = convert(parts, target).bundle.manifest
    assert (manifest.task, manifest.tiling.mode) == ("retouch", "whole")
    assert set(manifest.variants) == {"fp32"}  # halves would move whole grey levels
    return target


def test_the_bundle_retouches_as_its_definition_does(
    parts: Path, bundle: Path, shared_data: Path
) -> None:
    network = build_network(load_folder(parts), parts, None, {}).module
    assert isinstance(network, AdaptiveLut)
    photo = imread(shared_data / "kodak" / "13.png")[..., ::-1]
    photo = cv2.resize(photo, (1280, 720), interpolation=cv2.INTER_CUBIC)
    levels = photo.astype(np.float32) / np.float32(255)
    wanted = looked_up(mixed(network, levels), levels.astype(np.float64)) * 255
    with edgerestore.load(bundle) as restorer:
        assert restorer.precision == "fp32"
        made = restorer(photo)
        half = restorer(photo, strength=0.5).astype(float)
    assert np.abs(made - np.clip(wanted, 0, 255)).max() <= 0.51
    assert np.abs(made.astype(float) - photo).mean() > 3  # it does something
    assert np.abs(half - np.clip((photo + wanted) / 2, 0, 255)).max() <= 0.51


def test_a_tile_size_does_not_cut_what_is_judged_whole(bundle: Path, shared_data: Path) -> None:
    photo = imread(shared_data / "kodak" / "05.png")[..., ::-1].copy()
    with edgerestore.load(bundle, tile=128) as small, edgerestore.load(bundle) as whole:
        np.testing.assert_array_equal(small(photo), whole(photo))
        assert "sees all of it" in small.plan


@pytest.mark.parametrize("part", ["LUTs.pth", "classifier.pth"])
def test_one_part_alone_says_what_is_missing(parts: Path, part: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a part of lut3d; name the folder"):
        convert(parts / part, tmp_path / "bundle")
