"""The dataset maker: what a user gets, what is refused, and that nothing made is lost."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgerestore.cli.app import run_command_line
from edgerestore.errors import ArgumentError, SinkError
from edgerestore.training.collection import collect
from edgerestore.training.dataset import Dataset, SplitName
from edgerestore.training.making import make_dataset
from edgerestore.training.pairs import CutoutPairs, DejpegPairs, Pairs, RetouchPairs

from ..checked import not_none

PAIRS = DejpegPairs(side_px=24)


def write(path, image):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, picture):
    folder = tmp_path_factory.mktemp("photographs") / "sharp"
    for seed in range(5):
        write(folder / f"{seed}.png", picture(64, 72, seed=seed))
    return folder


@pytest.fixture
def make(tmp_path, photographs):
    def run(name="made", pairs=PAIRS, folders=None, **options):
        options = {"count": 40, "seed": 3, **options}
        return make_dataset(tmp_path / name, "dejpeg", pairs, folders or [photographs], **options)

    return run


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def interrupted(at):
    """Return a tick that interrupts as Ctrl-C does, once so many pairs are made."""

    def tick(done, total, label):
        if done >= at:
            raise KeyboardInterrupt

    return tick


def test_a_dataset_holds_its_splits_and_says_what_they_were_made_of(make, photographs):
    dataset = make()
    dataset.verify()
    arrays = [f"{split}/{kind}.npy" for split in SplitName for kind in ("inputs", "targets")]
    assert contents(dataset.folder) == sorted([*arrays, "dataset.json", "samples.jpg"])
    assert [len(dataset.split(name)) for name in SplitName] == [40, 4, 4]
    manifest = dataset.manifest
    assert {one.name for one in manifest.photographs} == {f"{i}.png" for i in range(5)}
    assert {one.split for one in manifest.photographs} == set(SplitName)
    assert manifest.pairs[SplitName.TRAIN] == PAIRS.describe()
    assert (manifest.recipe, manifest.seed) == ("dejpeg", 3)
    sheet = not_none(cv2.imread(str(dataset.folder / "samples.jpg")))
    assert sheet.shape[1] == 1600
    assert sheet.std() > 20


def test_no_photograph_is_in_two_splits(make, tmp_path):
    """Each photograph has a level of its own, so that a target tells where it is from."""
    for level in range(30, 240, 10):
        write(tmp_path / "grey" / f"{level}.png", np.full((64, 64, 3), level, np.uint8))
    pairs = RetouchPairs(side_px=24)
    dataset = make(pairs=pairs, folders=[tmp_path / "grey"], count=100)
    used: set[int] = set()
    for name, number in zip(SplitName, (17, 2, 2), strict=True):
        named = {
            int(one.name.removesuffix(".png"))
            for one in dataset.manifest.photographs
            if one.split is name
        }
        assert len(named) == number
        assert {int(target[0, 0, 0]) for target in dataset.split(name).targets} <= named
        assert not used & named
        used |= named


def test_names_order_and_number_of_processes_change_nothing(make, photographs, tmp_path):
    first = make()
    renamed = tmp_path / "renamed"
    for index, path in enumerate(sorted(photographs.iterdir())):
        lossless_copy(path, write_to(renamed, f"{9 - index}.webp"))
    assert make("two", workers=2).digest == first.digest
    assert make("renamed-made", folders=[renamed]).digest == first.digest
    assert make("other", seed=4).digest != first.digest


def write_to(folder, name):
    folder.mkdir(exist_ok=True)
    return folder / name


def lossless_copy(path, to):
    image = not_none(cv2.imread(str(path)))
    cv2.imwrite(str(to), image, [cv2.IMWRITE_WEBP_QUALITY, 101])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_making_goes_on_to_the_same_end(make, tmp_path, caplog, workers):
    whole = make()
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        make("parts", workers=workers, tick=interrupted(16))
    assert "has 16 of 48 pairs; the same command goes on" in caplog.text
    with pytest.raises(Exception, match="is not finished"):
        Dataset.open(tmp_path / "parts")
    before = (tmp_path / "parts" / "train" / "inputs.npy").read_bytes()[:20_000]
    counts = []
    parts = make("parts", tick=lambda done, *_: counts.append(done))
    assert counts == [16, 32, 40, 44, 48]
    assert (parts.folder / "train" / "inputs.npy").read_bytes()[:20_000] == before
    assert parts.digest == whole.digest
    assert contents(parts.folder) == contents(whole.folder)


def test_a_killed_making_goes_on(make, photographs, tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from edgerestore.training.making import make_dataset
from edgerestore.training.pairs import DejpegPairs

def kill(done, total, label):
    if done >= 32:
        os.kill(os.getpid(), signal.SIGKILL)

make_dataset(Path({str(tmp_path / "killed")!r}), "dejpeg", DejpegPairs(side_px=24),
             [Path({str(photographs)!r})], count=40, seed=3, tick=kill)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    counts = []
    dataset = make("killed", tick=lambda done, *_: counts.append(done))
    assert counts == [32, 40, 44, 48]
    assert dataset.digest == make("whole").digest


def test_more_pairs_are_added_to_those_there_are(make):
    small = make(count=20)
    first = np.array(small.split("train").inputs)
    large = make(count=40)
    np.testing.assert_array_equal(large.split("train").inputs[:20], first)
    assert large.digest == make("whole", count=40).digest
    with pytest.raises(ArgumentError, match="is one of 40 training pairs, more than --count 20"):
        make(count=20)
    large.verify()


def test_a_complete_dataset_is_left_as_it_is(make):
    folder = make().folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    make(tick=lambda *_: pytest.fail("nothing is to be drawn"))
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 4}, "with another seed"),
        ({"pairs": replace(PAIRS, side_px=28)}, "with another mix or side of pairs"),
        ({"pairs": replace(PAIRS, clean_share=0.5)}, "with another mix or side of pairs"),
        ({"exclude": ["2"]}, "of other photographs"),
    ],
)
def test_a_folder_of_another_making_is_refused_and_kept(make, change, said):
    dataset = make(count=4)
    with pytest.raises(ArgumentError, match=said) as caught:
        make(count=4, **change)
    assert "\n" not in str(caught.value)
    dataset.verify()


def test_a_folder_that_holds_something_else_is_refused_and_kept(make, tmp_path):
    own = write_to(tmp_path / "mine", "letter.txt")
    own.write_text("dear")
    with pytest.raises(ArgumentError, match="mine: holds something else"):
        make("mine")
    assert contents(tmp_path / "mine") == ["letter.txt"]


def test_two_makers_do_not_share_a_folder(make):
    def second(done, total, label):
        with pytest.raises(ArgumentError, match="is being made by another process"):
            make()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tick=second)
    make().verify()


def test_the_test_set_is_refused_by_its_pixels(make, photographs, shared_data, tmp_path):
    """Under another name and in another format it is the same picture."""
    folder = shutil.copytree(photographs, tmp_path / "mixed")
    for stem, name in {"13": "holiday.webp", "16": "16.png"}.items():
        lossless_copy(shared_data / "kodak" / f"{stem}.png", folder / name)
    with pytest.raises(ArgumentError) as caught:
        make(folders=[folder])
    assert str(caught.value) == (
        "--photographs: 16.png, holiday.webp are pictures of the test set, never trained on;"
        " add --exclude 16 --exclude holiday"
    )
    assert not (tmp_path / "made").exists()
    make(folders=[folder], exclude=["16", "holiday"], count=2)


def test_the_whole_test_set_is_known(shared_data, tmp_path):
    wanted = {f"{stem}.png" for stem in range(13, 17)}
    with pytest.raises(ArgumentError, match="of the test set") as caught:
        collect("--photographs", [shared_data / "kodak"], keep=lambda *_: None)
    assert all(name in str(caught.value) for name in wanted)
    assert "12.png" not in str(caught.value)
    for name in ("gopro/Flower_sharp1.png", "gopro/Flower_blur1.png", "matting/lemur.png"):
        shutil.copy(shared_data / name, write_to(tmp_path / "measured", Path(name).name))
    with pytest.raises(ArgumentError, match="Flower_blur1.png, Flower_sharp1.png, lemur.png are"):
        collect("--photographs", [tmp_path / "measured"], keep=lambda *_: None)


def test_what_cannot_be_used_is_left_out_by_name(make, photographs, tmp_path, picture, caplog):
    folder = shutil.copytree(photographs, tmp_path / "mixed")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:3000])
    write(folder / "tiny.png", picture(20, 90))
    shutil.copy(folder / "1.png", folder / "copy.png")
    glass = np.dstack([picture(64, 64), np.full((64, 64), 99, np.uint8)])
    cv2.imwrite(str(folder / "glass.png"), glass)
    with caplog.at_level(logging.WARNING):
        dataset = make(folders=[folder])
    lines = [record.getMessage() for record in caplog.records]
    for name, said in {
        "broken.jpg": "is no image",
        "cut.png": "",
        "tiny.png": "is 90x20, and 40 px a side are the least",
        "copy.png": "is the same picture as 1.png",
        "glass.png": "is transparent in places",
    }.items():
        assert any(f"left out: {folder / name}" in line and said in line for line in lines), lines
    assert len(lines) == 5
    assert dataset.digest == make("clean").digest


def test_photographs_of_any_depth_are_read(tmp_path, picture):
    colour = picture(50, 60)
    write(tmp_path / "in" / "8.png", colour)
    cv2.imwrite(str(tmp_path / "in" / "16.png"), picture(50, 60, seed=1).astype(np.uint16) * 257)
    write(tmp_path / "in" / "grey.png", picture(50, 60, 1, seed=2)[..., 0])
    cv2.imwrite(
        str(tmp_path / "in" / "float.tif"), picture(50, 60, seed=3).astype(np.float32) / 255
    )
    large = cv2.resize(colour, (3000, 2500), interpolation=cv2.INTER_NEAREST)
    write(tmp_path / "in" / "large.jpg", large)
    kept = []
    found = collect("--photographs", [tmp_path / "in"], keep=lambda _, image: kept.append(image))
    assert {one.name for one in found.entries} == {
        path.name for path in (tmp_path / "in").iterdir()
    }
    shapes = sorted(image.shape for image in kept)
    assert shapes == [*[(50, 60, 3)] * 4, (1826, 2191, 3)]  # four megapixels are the most
    assert all(image.dtype == np.uint8 for image in kept)
    for seed in (1, 3):
        wanted = picture(50, 60, seed=seed)[..., ::-1]
        assert any(np.array_equal(image, wanted) for image in kept)


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_photographs_are_refused_and_leave_nothing(make, photographs, tmp_path, count):
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(photographs.iterdir())[:count]:
        shutil.copy(path, folder)
    with pytest.raises(ArgumentError, match="few: ") as caught:
        make(folders=[folder])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_objects_need_transparency(make, photographs, tmp_path, picture, caplog):
    pairs = CutoutPairs(side_px=48)
    with pytest.raises(ArgumentError, match="add --objects DIR"):
        make(pairs=pairs)
    with pytest.raises(ArgumentError, match="0 objects with transparency to use, of 5 files"):
        make(pairs=pairs, objects=photographs)
    assert not (tmp_path / "made").exists()
    objects = tmp_path / "objects"
    objects.mkdir()
    for seed in range(4):
        alpha = np.zeros((40, 50), np.uint8)
        cv2.circle(alpha, (25, 20), 15, 255, -1, cv2.LINE_AA)
        cv2.imwrite(str(objects / f"{seed}.png"), np.dstack([picture(40, 50, seed=seed), alpha]))
    write(objects / "opaque.png", picture(40, 50))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        dataset = make(pairs=pairs, objects=objects, count=10)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"left out: {objects / 'opaque.png'}: has no transparency")
    assert len(dataset.manifest.objects) == 4
    assert {one.split for one in dataset.manifest.objects} == set(SplitName)
    alpha = np.array(dataset.split("train").targets)[..., 3]
    assert 0.02 < (alpha > 127).mean() < 0.9


def test_a_full_disk_loses_nothing(make, photographs, tmp_path):
    small = make(count=20)
    digest = small.digest
    with pytest.raises(SinkError, match=r"needs [\d.]+ GB more, and [\d.]+ GB are free"):
        make(count=10**10)
    code = f"""
import resource, sys
from pathlib import Path
from edgerestore.errors import SinkError
from edgerestore.training.making import make_dataset
from edgerestore.training.pairs import DejpegPairs

resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    make_dataset(Path({str(tmp_path / "made")!r}), "dejpeg", DejpegPairs(side_px=24),
                 [Path({str(photographs)!r})], count=40, seed=3)
except SinkError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the file grew past the largest size allowed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    again = Dataset.open(tmp_path / "made")
    again.verify()
    assert again.digest == digest
    assert make(count=40).digest == make("whole", count=40).digest


OWN = """
from dataclasses import dataclass
import numpy as np
from edgerestore.training.pairs import Pairs

@dataclass(frozen=True, kw_only=True)
class Inverted(Pairs):
    side_px: int = 16
    def draw(self, pictures, rng):
        target = pictures.crop(rng, {side})
        return 255 - target, target
"""


def own_pairs(path, side) -> Pairs:
    """Return pairs of a class that a file defines, as a recipe of one's own does."""
    path.write_text(OWN.format(side=side))
    spec = spec_from_file_location(f"edgerestore_recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    pairs: Pairs = module.Inverted()
    return pairs


def test_pairs_of_ones_own_are_drawn_in_any_number_of_processes(make, tmp_path):
    pairs = own_pairs(tmp_path / "own_inverted.py", 16)
    one, two = (make(f"own{workers}", pairs=pairs, workers=workers) for workers in (1, 2))
    assert one.digest == two.digest
    train = two.split("train")
    np.testing.assert_array_equal(np.array(train.inputs), 255 - np.array(train.targets))


def test_pairs_that_are_not_what_they_say_are_refused(make, tmp_path):
    pairs = own_pairs(tmp_path / "own_wrong.py", 20)
    with pytest.raises(ArgumentError, match=r"inputs .* are uint8 \(20, 20, 3\), .* \(16, 16, 3\)"):
        make(pairs=pairs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--count", "0"], "--count 0: expected 1 pair or more"),
        (["--side", "8"], "--side 8: expected 16 pixels or more"),
        (["--workers", "0"], "--workers 0: expected 1 process or more"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
        (["--exclude", "nobody"], "--exclude nobody: no such picture"),
        ([], "0 photographs of 184 px and more to use, of 5 files"),
    ],
)
def test_the_command_refuses_in_one_line(photographs, tmp_path, capsys, options, said):
    arguments = ["dataset", "deblur", "--photographs", str(photographs)]
    code = run_command_line([*arguments, "-o", str(tmp_path / "out"), *options])
    assert code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_command_makes_what_a_trainer_opens(tmp_path, picture, capsys):
    for seed in range(3):
        write(tmp_path / "in" / f"{seed}.png", picture(120, 130, seed=seed))
    out = tmp_path / "out"
    arguments = ["dataset", "deblur", "--photographs", str(tmp_path / "in"), "-o", str(out)]
    assert run_command_line([*arguments, "--count", "12", "--side", "32", "--workers", "1"]) == 0
    said = f"{out}: 12 train, 1 validation, 1 test pairs of 32 px; look at {out}/samples.jpg"
    assert capsys.readouterr().out.splitlines() == [said]
    train = Dataset.open(out).split("train")
    assert train.inputs.shape == train.targets.shape == (12, 32, 32, 3)
