"""Cards of models: figures as evaluation gives them, an origin that is checked or told unknown."""

from __future__ import annotations

import hashlib
import re
import shutil

import cv2
import msgspec
import numpy as np
import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.cards.card import card_files, write_card
from edgerestore.cards.figures import suitable_degradations
from edgerestore.cards.origin import Origin, find_origin
from edgerestore.cli.app import run_command_line
from edgerestore.errors import ArgumentError, CheckpointError, SourceError
from edgerestore.evaluation import evaluate
from edgerestore.imaging.degradations import Degradation
from edgerestore.training.log import plot_curves, read_log
from edgerestore.training.making import make_dataset
from edgerestore.training.pairs import CutoutPairs, DejpegPairs

from ..checked import imread

RECIPE = """
from edgerestore.convert.architectures.shuffle_unet import ShuffleUNet
from edgerestore.training.objectives import Supervised
from edgerestore.training.pairs import DejpegPairs
from edgerestore.training.recipes import Recipe, Schedule

RECIPE = Recipe(
    name="tiny", task="dejpeg", summary="JPEG of small pictures",
    network=lambda: ShuffleUNet(3, 3, 2, (8, 8), (0, 1), (1,)),
    pairs=DejpegPairs(side_px=24),
    schedule=Schedule(steps=4, batch=2, crop_px=24, warmup_steps=1, every=2, seed=7),
    objective=Supervised({"charbonnier": 20.0, "psnr": 1.0}),
    uses=("Small pictures.",), limits=("Large | pictures.",),
)
"""


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def tick(*_):
    """Report nothing."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, picture):
    folder = tmp_path_factory.mktemp("photographs") / "held_out"
    for seed in range(3):
        smooth = cv2.GaussianBlur(picture(96, 104, seed=seed), (0, 0), 1 + seed / 4)
        write(folder / f"{seed}_.png", smooth)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, picture):
    """A dataset, its photographs, a recipe, and a run that another one goes on from."""
    folder = tmp_path_factory.mktemp("trained")
    for seed in range(10, 16):
        write(folder / "photographs" / f"{seed}.png", picture(64, 72, seed=seed))
    make_dataset(
        folder / "data", "tiny", DejpegPairs(side_px=24), [folder / "photographs"], count=8
    )
    (folder / "tiny.py").write_text(RECIPE)
    train = ["train", str(folder / "tiny.py"), "--data", str(folder / "data"), "--threads", "1"]
    first, second = folder / "one", folder / "two"
    assert run_command_line([*train, "-o", str(first)]) == 0
    initial = ["--initial", str(first / "model.pth"), "--seed", "8", "--steps", "6"]
    assert run_command_line([*train, "-o", str(second), *initial]) == 0
    return folder


def bundle_from(weights):
    """Return the default model as if it had been converted from a file."""
    bundle = Bundle.find("deblur")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    source = {**bundle.manifest.source, "sha256": digest}
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, source=source))


def origin_of(folder, bundle, **options):
    return find_origin(
        bundle.manifest,
        **{
            "recipe": str(folder / "tiny.py"),
            "training": [folder / "one", folder / "two"],
            "data": [folder / "data"],
            **options,
        },
    )


@pytest.mark.slow
def test_a_card_tells_what_evaluation_finds_and_shows_both_ends(photographs, tmp_path, capsys):
    options = ["--measure", str(photographs), "--pictures", str(photographs)]
    options += ["--degrade", "defocus:2", "--degrade", "shake:20"]
    for folder in ("a", "b"):
        assert run_command_line(["card", "deblur", "-o", str(tmp_path / folder), *options]) == 0
    page, success, failure, curves = card_files("deblur", tmp_path / "a")
    assert capsys.readouterr().out.startswith(f"wrote {page}")
    for path in (page, success, failure):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert len(path.read_bytes()) < 80_000
    assert imread(success).shape == (96, 3 * 104 + 8, 3)
    assert not curves.exists()
    text = page.read_text()
    gains = {}
    for degrade in ("defocus:2", "shake:20"):
        found = evaluate(["deblur"], targets=photographs, degrade=degrade, precisions=["fp32"])
        before, after = (row.mean("psnr_db") for row in found.rows)
        assert f"{before:.2f} → {after:.2f} ({after - before:+z.2f})" in text
        for given, made in zip(found.rows[0].images, found.rows[1].images, strict=True):
            pair = given.values["psnr_db"], made.values["psnr_db"]
            gains[pair[1] - pair[0]] = f"{pair[0]:.2f} → {pair[1]:.2f} dB"
    shown = re.findall(r"PSNR ([\d.]+ → [\d.]+ dB) over the whole picture at fp32", text)
    assert shown == [gains[max(gains)], gains[min(gains)]]
    assert "0_.png" not in text  # an underscore at the end of a word is markup
    assert "0&#95;.png" in text
    assert "CPU: " in text
    assert "Training data is not known" in text
    assert "How it was trained is not known" in text


def test_a_card_without_pictures_says_so_and_takes_an_earlier_ones_away(photographs, tmp_path):
    bundle, kinds = Bundle.find("deblur"), ["blur"]
    write_card(bundle, tmp_path, Origin(), pictures=photographs, degradations=kinds, tick=tick)
    assert (tmp_path / "deblur_failure.jpg").exists()
    page = write_card(bundle, tmp_path, Origin(), overwrite=True, tick=tick)
    assert [path.name for path in tmp_path.iterdir()] == ["deblur.md"]
    text = page.read_text()
    assert "Not measured for this card" in text
    assert "No pictures were given" in text
    assert "jpg" not in text


def test_an_earlier_card_is_kept_unless_it_may_be_replaced(tmp_path, capsys):
    (tmp_path / "deblur.md").write_text("mine")
    assert run_command_line(["card", "deblur", "-o", str(tmp_path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["deblur.md"]
    assert (tmp_path / "deblur.md").read_text() == "mine"


@pytest.mark.slow
def test_recipe_runs_and_data_are_told_by_name(trained, tmp_path):
    bundle = bundle_from(trained / "two" / "model.pth")
    licence = trained / "SOURCES.txt"
    licence.write_text("all <drawn>, CC0\n")
    origin = origin_of(trained, bundle, sources=[licence])
    assert origin.complete
    pictures = trained / "photographs"
    page = write_card(
        bundle, tmp_path, origin, pictures=pictures, degradations=["jpeg:10"], tick=tick
    )
    text = page.read_text()
    assert "- Small pictures." in text
    assert "- Large &#124; pictures." in text
    assert "Supervised (losses 20 x charbonnier + 1 x psnr)" in text
    assert "| 1, tiny | 4 | 4 | 2 | 24 | 0.0015 | 1 | cosine | 7 | none |" in text
    assert "| 2, tiny | 6 | 6 | 2 | 24 | 0.0015 | 1 | cosine | 8 | none |" in text
    assert "converted from the last run's weights (same sha256)" in text
    assert "6 photographs (4 train, 1 validation, 1 test)" in text
    for path in pictures.iterdir():
        assert path.name in text
    assert "all &lt;drawn&gt;, CC0" in text
    assert f"1 pair of test split of dataset {origin.datasets[0].digest}" in text
    told = re.findall(
        r"(\d+\.png), JPEG of quality 10[^\n]*?(The model was trained on it)?\.\n", text
    )
    in_training = {
        entry.name for entry in origin.datasets[0].manifest.photographs if entry.split == "train"
    }
    assert len(told) == 2
    assert all(bool(trained_on) == (name in in_training) for name, trained_on in told)


@pytest.mark.slow
def test_runs_are_drawn_one_after_another(trained, tmp_path):
    bundle = bundle_from(trained / "one" / "model.pth")
    alone = origin_of(trained, bundle, training=[trained / "one"])
    page = write_card(bundle, tmp_path / "one", alone, tick=tick)
    assert "dashed line" not in page.read_text()
    second = bundle_from(trained / "two" / "model.pth")
    both = write_card(second, tmp_path / "both", origin_of(trained, second), tick=tick)
    assert "dashed line" in both.read_text()
    drawn = [imread(tmp_path / name / "deblur_curves.png") for name in ("one", "both")]
    assert drawn[0].shape == drawn[1].shape
    assert (drawn[0] != drawn[1]).any()


def test_logs_of_masks_and_of_older_runs_are_drawn(tmp_path):
    logs = [tmp_path / f"{name}.csv" for name in ("masks", "older")]
    logs[0].write_text("step,loss,new,iou\n2,0.5,,0.2\n4,0.25,1,0.6\n")
    logs[1].write_text("step,loss\n5,0.2\n")
    assert read_log(logs[0])[0] == {"step": 2, "loss": 0.5, "iou": 0.2}
    shapes = []
    for run in (logs[:1], logs):
        plot_curves(run, tmp_path / "curves.png")
        shapes.append(imread(tmp_path / "curves.png").shape)
    assert shapes == [(396, 1100, 3)] * 2
    logs[1].write_text("step,loss\n5\n")
    with pytest.raises(SourceError, match="older"):
        plot_curves(logs, tmp_path / "curves.png")


@pytest.mark.slow
def test_parts_that_do_not_belong_together_are_refused(trained, photographs, tmp_path):
    bundle = bundle_from(trained / "two" / "model.pth")
    with pytest.raises(CheckpointError, match=r"one/model\.pth: deblur was converted from another"):
        origin_of(trained, bundle, training=[trained / "two", trained / "one"])
    with pytest.raises(
        ArgumentError, match=r"--recipe deblur: is deblur, and .*two was trained by"
    ):
        origin_of(trained, bundle, recipe="deblur")
    with pytest.raises(SourceError, match=r"checkpoint\.pt: not there"):
        origin_of(trained, bundle, training=[photographs])
    with pytest.raises(SourceError, match=r"dataset\.json: no finished dataset"):
        origin_of(trained, bundle, data=[photographs])
    other = tmp_path / "other"
    make_dataset(other, "tiny", DejpegPairs(side_px=24), [trained / "photographs"], count=4, seed=9)
    with pytest.raises(ArgumentError, match="none of the runs was trained on it"):
        origin_of(trained, bundle, data=[other])
    damaged = shutil.copytree(trained / "two", tmp_path / "damaged")
    (damaged / "log.csv").write_text("step,loss\n1,x\n")
    with pytest.raises(SourceError, match=r"log\.csv: cannot be read as a training log"):
        write_card(
            bundle, tmp_path / "out", origin_of(trained, bundle, training=[damaged]), tick=tick
        )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_pictures_that_were_trained_on_are_no_measure(trained, tmp_path):
    bundle = bundle_from(trained / "two" / "model.pth")
    origin = origin_of(trained, bundle)
    renamed = tmp_path / "renamed"
    seen = next(one.name for one in origin.datasets[0].manifest.photographs if one.split == "train")
    write(renamed / "new_name.png", imread(trained / "photographs" / seen)[..., ::-1])
    with pytest.raises(ArgumentError, match=r"renamed: new_name\.png: trained on"):
        write_card(bundle, tmp_path / "out", origin, measured_on=[renamed], tick=tick)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_cannot_be_verified_is_told(trained, tmp_path):
    bundle = bundle_from(trained / "two" / "model.pth")
    unfinished = shutil.copytree(trained / "one", tmp_path / "unfinished")
    (unfinished / "model.pth").unlink()
    origin = origin_of(trained, bundle, training=[unfinished], data=[])
    assert not origin.complete
    text = write_card(bundle, tmp_path / "out", origin, tick=tick).read_text()
    assert "no `model.pth`, so the bundle is not verified to be of it" in text
    assert "no dataset folder was given" in text


def test_what_fits_a_task_is_known_to_the_registry():
    manifest = Bundle.find("deblur").manifest
    for task in ("deblur", "denoise", "dejpeg", "retouch", "super-resolve", "colourise"):
        for upscale in (1, 4):
            output = msgspec.structs.replace(manifest.output, upscale=upscale)
            one = msgspec.structs.replace(manifest, task=task, outputs=(output,))
            names = suitable_degradations(one)
            assert [str(Degradation.parse(name, upscale=upscale)) for name in names] == [*names]
    assert suitable_degradations(manifest)[0] == "blur"


def test_what_quantization_found_by_kind_of_input_is_told(tmp_path):
    bundle = Bundle.find("deblur")
    variants = dict(bundle.manifest.variants)
    kinds = {
        "blur": {"loss_db": 0.01, "worst_loss_db": 0.05, "within_budget": True},
        "nearest": {"loss_db": 0.26, "float_db": 27.5, "int8_db": 27.24, "within_budget": False},
    }
    quality = {**variants["int8"].quality, "kinds": kinds}
    variants["int8"] = msgspec.structs.replace(variants["int8"], quality=quality)
    told = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, variants=variants))
    text = write_card(told, tmp_path, Origin(), tick=tick).read_text()
    assert "| blur | 0.01 | 0.05 | - | - | yes |" in text
    assert "| nearest | 0.26 | - | 27.5 | 27.24 | no |" in text


@pytest.mark.slow
def test_cut_outs_of_a_dataset_are_measured_by_their_transparency(mask_bundle, tmp_path, picture):
    for seed in range(3):
        write(tmp_path / "photographs" / f"{seed}.png", picture(80, 80, seed=seed))
        stamp = np.zeros((40, 40, 4), np.uint8)
        cv2.circle(stamp, (20, 20), 15, (30 * seed, 20, 255, 255), -1)  # OpenCV's order: red
        assert cv2.imwrite(str(tmp_path / f"stamp{seed}.png"), stamp)
    objects = tmp_path / "objects"
    objects.mkdir()
    for seed in range(3):
        (tmp_path / f"stamp{seed}.png").rename(objects / f"{seed}.png")
    make_dataset(
        tmp_path / "data", "own", CutoutPairs(side_px=64), [tmp_path / "photographs"],
        objects=objects, count=10,
    )  # fmt: skip
    bundle = Bundle.find(mask_bundle)
    origin = find_origin(bundle.manifest, data=[tmp_path / "data"])
    text = write_card(bundle, tmp_path / "out", origin, tick=tick).read_text()
    assert "of 3 objects (1 train, 1 validation, 1 test)" in text
    row = next(line for line in text.splitlines() if line.startswith("| inputs as they are"))
    mae, iou = (float(cell) for cell in row.split("|")[3:5])
    assert mae < 0.3
    assert iou > 0.5


@pytest.mark.slow
def test_masks_are_measured_on_pairs(mask_bundle, tmp_path):
    image = np.full((64, 64, 3), 128, np.uint8)
    image[16:48, 16:48] = (255, 0, 0)
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    for name, mask in (("right", alpha), ("wrong", alpha[:, ::-1] // 2)):
        write(tmp_path / "pairs" / "inputs" / f"{name}.png", image)
        write(tmp_path / "pairs" / "targets" / f"{name}.png", mask)
    pairs = tmp_path / "pairs"
    page = write_card(
        Bundle.find(mask_bundle),
        tmp_path / "out",
        Origin(),
        measured_on=[pairs],
        pictures=pairs,
        tick=tick,
    )
    text = page.read_text()
    row = next(line for line in text.splitlines() if line.startswith("| inputs as they are"))
    assert re.search(r"\(right\.png\) \| .*\(wrong\.png\) \|$", row)
    assert imread(page.with_name("red_success.jpg")).shape == (64, 3 * 64 + 8, 3)


def test_clean_pictures_show_nothing(photographs, tmp_path):
    with pytest.raises(ArgumentError, match="--degrade"):
        write_card(
            Bundle.find("deblur"),
            tmp_path / "out",
            Origin(),
            pictures=photographs,
            degradations=["none"],
            tick=tick,
        )
    assert not (tmp_path / "out").exists()
