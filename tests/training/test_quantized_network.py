"""Fine-tuning the INT8 graph of a bundle by a recipe: its gain, resuming, what is refused."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from msgspec.structs import replace

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.manifest import Variant
from edgerestore.calibration.inputs import measure_inputs
from edgerestore.calibration.quantizer import Ranges, quantize_graph
from edgerestore.cli.app import run_command_line
from edgerestore.convert import convert
from edgerestore.convert.quantization import replace_int8
from edgerestore.imaging.metrics import psnr
from edgerestore.runtimes.openvino.graph import float_graph, read_graph

from .conftest import write_dataset
from .test_networks import random_weights, shuffle_unet
from .test_trainer import assert_same, run_apart, sends


@pytest.fixture(scope="module")
def start(tmp_path_factory, picture):
    """A bundle whose INT8 was calibrated on dark pictures, and pairs whose targets it makes."""
    folder = tmp_path_factory.mktemp("start")
    torch.save(random_weights(shuffle_unet()).state_dict(), folder / "model.pth")
    bundle = folder / "bundle"
    convert(folder / "model.pth", bundle, name="start")
    floats = float_graph(read_graph(bundle / "model.onnx"))
    crops = [
        picture(32, 32, seed=seed).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(850)
        for seed in range(4)
    ]
    rounded = quantize_graph(floats, crops, (), Ranges.MEAN, measure_inputs(floats, crops))
    manifest = Bundle.find(bundle).manifest
    empty = replace(manifest, variants={**manifest.variants, "int8": Variant({})})
    pictures = [crop[0].transpose(1, 2, 0) for crop in crops]
    bundle = replace_int8(Bundle(bundle, empty), rounded, {}, pictures, folder / "int8").folder

    def pairs(count, seed):
        inputs = np.stack([picture(32, 32, seed=seed + i) for i in range(count)])
        with edgerestore.load(bundle, precision="fp32") as restorer:
            return inputs, np.stack([restorer(one) for one in inputs])

    splits = {"train": pairs(12, 0), "validation": pairs(8, 100)}
    return bundle, write_dataset(folder / "dataset", splits)


def run(recipe, data, folder, capsys, *options):
    arguments = ["train", str(recipe), "--data", str(data), "-o", str(folder), "--threads", "1"]
    code = run_command_line([*arguments, *options])
    return code, capsys.readouterr().err.splitlines()


def int8_db(bundle, data):
    inputs, targets = (
        np.load(data / "validation" / f"{kind}.npy") for kind in ("inputs", "targets")
    )
    with edgerestore.load(bundle, precision="int8") as restorer:
        return np.mean([psnr(restorer(one), two) for one, two in zip(inputs, targets, strict=True)])


def test_the_int8_of_a_run_is_better_than_that_it_began_with(recipe, start, tmp_path, capsys):
    bundle, data = start
    out = tmp_path / "out"
    own = recipe()
    # Its random weights make no turned picture of a turned one.
    text = "from dataclasses import replace\nRECIPE = replace(RECIPE, orientations=False)\n"
    own.write_text(own.read_text() + text)
    options = ["--qat", "--initial", str(bundle)]
    schedule = ["--steps", "60", "--every", "30", "--rate", "5e-3", "--crop", "32"]
    code, lines = run(own, data, out, capsys, *options, *schedule)
    assert code == 0, lines
    before, after = int8_db(bundle, data), int8_db(out / "bundle", data)
    assert after > before + 4
    assert before < 45
    quality = Bundle.find(out / "bundle").manifest.variants["int8"].quality
    assert quality["method"] == "fine-tuned by recipe tiny on its pairs"
    assert quality["loss_db"] < 1  # of at most 50 dB
    assert quality["within_budget"] is (quality["loss_db"] <= quality["budget_db"])
    assert not (out / "model.pth").exists()
    assert run_command_line(["info", str(out / "bundle")]) == 0
    assert "int8" in capsys.readouterr().out
    for name in ("fp32", "fp16"):
        files = [Bundle.find(one).manifest.variants[name].files for one in (bundle, out / "bundle")]
        assert files[0] == files[1]


def test_a_killed_run_goes_on_to_the_same_int8(recipe, start, tmp_path, capsys):
    bundle, data = start
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    options = ["--qat", "--initial", str(bundle)]
    killed = recipe(at_loss=sends("SIGKILL"))
    assert run_apart(killed, data, parts, 10, *options).returncode == -signal.SIGKILL
    code, lines = run(recipe(), data, parts, capsys, *options)
    assert code == 0
    assert "goes on from step 8" in lines
    assert run(recipe(), data, whole, capsys, *options)[0] == 0
    graphs = [(one / "bundle" / "int8" / "model.bin").read_bytes() for one in (parts, whole)]
    assert graphs[0] == graphs[1]
    states = [torch.load(one / "checkpoint.pt", weights_only=True) for one in (parts, whole)]
    assert_same(*(state["average"] for state in states))
    code, lines = run(recipe(), data, parts, capsys)
    assert (code, lines[-1]) == (
        2,
        f"edgerestore: {parts / 'checkpoint.pt'}: was made with --qat; use another folder for -o",
    )


def test_what_cannot_be_fine_tuned_is_one_line(recipe, start, mask_bundle, tmp_path, capsys):
    bundle, data = start
    weights = bundle.parent / "model.pth"
    plain = bundle.parent / "bundle"
    for options, told in (
        ([], "--qat fine-tunes the INT8 of a bundle: name it with --initial"),
        (
            ["--initial", str(weights)],
            f"--qat --initial {weights}: fine-tunes the INT8 of a bundle",
        ),
        (["--initial", str(plain)], f"--qat --initial {plain}: has no INT8; first: edgerestore"),
        (["--initial", str(mask_bundle)], f"--qat --initial {mask_bundle}: makes no pictures"),
        (["--initial", str(bundle), "--precision", "bf16"], "--qat computes in f32 on the CPU"),
    ):
        code, lines = run(recipe(), data, tmp_path / "out", capsys, "--qat", *options)
        assert code == 2
        assert lines[-1].startswith(f"edgerestore: {told}")
    code, lines = run("denoise", data, tmp_path / "out", capsys, "--qat", "--initial", str(bundle))
    assert code == 2
    assert f"--initial {bundle}: its task is deblur, the recipe's is denoise" in lines[-1]
