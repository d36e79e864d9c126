"""The dataset folder: what is read from it, and what is refused."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest

from edgerestore.errors import SourceError
from edgerestore.training.dataset import (
    ArrayFile,
    Dataset,
    DatasetManifest,
    PictureEntry,
    SplitArrays,
    SplitName,
)


@pytest.fixture
def folder(tmp_path):
    """A dataset written by hand: pairs for a model that enlarges twice."""
    rng, arrays = np.random.default_rng(3), {}
    for name, count in zip(SplitName, (5, 2, 1), strict=True):
        (tmp_path / name).mkdir()
        files = {}
        for kind, shape in {"inputs": (count, 8, 8, 3), "targets": (count, 16, 16, 3)}.items():
            path = tmp_path / name / f"{kind}.npy"
            np.save(path, rng.integers(0, 256, shape, np.uint8))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files[kind] = ArrayFile(f"{name}/{kind}.npy", digest, shape)
        arrays[name] = SplitArrays(**files)
    entries = [PictureEntry(f"{n}.png", f"{i}" * 64, n) for i, n in enumerate(SplitName)]
    manifest = DatasetManifest(
        format=1,
        recipe="sr-x2",
        pairs={name: {"side_px": 8} for name in SplitName},
        seed=1,
        counts={name: len(arrays) for name in SplitName},
        tools={},
        photographs=tuple(entries),
        arrays=arrays,
    )
    (tmp_path / "dataset.json").write_bytes(msgspec.json.encode(manifest))
    return tmp_path


def edited(folder, change):
    path = folder / "dataset.json"
    content = msgspec.json.decode(path.read_bytes())
    change(content)
    path.write_bytes(msgspec.json.encode(content))


def test_pairs_are_read_from_disk_as_they_were_written(folder):
    dataset = Dataset.open(folder)
    dataset.verify()
    train = dataset.split("train")
    assert (len(train), train.upscale) == (5, 2)
    np.testing.assert_array_equal(train.inputs, np.load(folder / "train" / "inputs.npy"))
    assert isinstance(train.targets, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        train.inputs[0] = 0


def test_the_digest_names_the_pixels(folder):
    before = Dataset.open(folder).digest
    edited(folder, lambda content: content["tools"].update(numpy="9"))
    assert Dataset.open(folder).digest == before
    path = folder / "validation" / "targets.npy"
    np.save(path, 255 - np.load(path))
    with pytest.raises(SourceError, match=r"validation/targets.npy: was changed"):
        Dataset.open(folder).verify()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(format=2), "format 2 is not 1"),
        (lambda c: c.update(arrays={}), "is not finished"),
        (lambda c: c.pop("seed"), "seed"),
        (lambda c: c["arrays"]["train"]["inputs"].update(file="../secret.npy"), "not valid"),
        (lambda c: c["arrays"]["train"]["inputs"].update(shape=[5, 9, 9, 3]), "make the dataset"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused_in_one_line(folder, change, said):
    edited(folder, change)
    with pytest.raises(SourceError, match=said) as caught:
        Dataset.open(folder)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_arrays_are_named(folder, tmp_path):
    path = folder / "test" / "inputs.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SourceError, match=r"test/inputs.npy: is damaged"):
        Dataset.open(folder)
    path.unlink()
    with pytest.raises(SourceError, match=r"test/inputs.npy: is not there"):
        Dataset.open(folder)
    with pytest.raises(SourceError, match="is no dataset"):
        Dataset.open(tmp_path / "nowhere")
