"""Drawn photographs, and bundles small enough to build in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from edgerestore.bundle.bundle import file_info
from edgerestore.bundle.kinds import InputKind, OutputKind
from edgerestore.bundle.manifest import (
    STRENGTH,
    InputPort,
    Manifest,
    OutputPort,
    StrengthKind,
    Tiling,
    TilingMode,
    Variant,
)
from edgerestore.cli.app import run_command_line

Outcome = tuple[int, str, list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process; return its code, output and error lines."""

    def call(*arguments: object) -> Outcome:
        code = run_command_line([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, [line for line in captured.err.splitlines() if line]

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write pictures (RGB, any depth) into a folder of a name."""

    def write(name: str, **pictures: NDArray[Any]) -> Path:
        made = tmp_path / name
        made.mkdir()
        for stem, picture in pictures.items():
            suffix = ".tif" if picture.dtype == np.float32 else ".png"
            code = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
            if picture.ndim == 3:
                picture = cv2.cvtColor(picture, code[picture.shape[2]])
            assert cv2.imwrite(str(made / f"{stem}{suffix}"), picture)
        return made

    return write


def _bundle(target: Path, kind: OutputKind, upscale: int, outcome: Callable[..., ov.Node]) -> Path:
    image = ops.parameter([1, 3, -1, -1], np.float32, name="image")
    image.output(0).set_names({"image"})
    strength = ops.parameter([1, 1, -1, -1], np.float32, name="strength")
    strength.output(0).set_names({"strength"})
    last = ops.clamp(ops.multiply(outcome(image), strength), 0.0, 1.0)
    last.output(0).set_names({"restored"})
    target.mkdir()
    ov.save_model(
        ov.Model([last], [image, strength], target.name),
        target / "model.xml",
        compress_to_fp16=False,
    )
    files = {name: file_info(target / name) for name in ("model.xml", "model.bin")}
    taken = InputPort("image", InputKind.IMAGE, 3, "rgb")
    manifest = Manifest(
        name="tiny",
        task="test",
        summary="",
        licence="none",
        inputs=(taken, STRENGTH),
        outputs=(OutputPort.of(taken, kind, 1 if kind is OutputKind.MASK else 3, upscale),),
        tiling=Tiling(TilingMode.EXACT, halo_px=2),
        strength=StrengthKind.BLEND,
        variants={"fp32": Variant(files)},
    )
    (target / "bundle.json").write_text(manifest.to_json())
    return target


@pytest.fixture(scope="session")
def doubler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that repeats every pixel twice, in both directions."""

    def outcome(image: ov.Node) -> ov.Node:
        scales = ops.constant(np.array([2, 2], np.float32))
        axes = ops.constant(np.array([2, 3], np.int64))
        return ops.interpolate(image, scales, "nearest", "scales", axes=axes)

    target = tmp_path_factory.mktemp("bundles") / "doubler"
    return _bundle(target, OutputKind.IMAGE, 2, outcome)


@pytest.fixture(scope="session")
def masker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose mask is the picture's mean over its channels."""

    def outcome(image: ov.Node) -> ov.Node:
        return ops.reduce_mean(image, ops.constant(np.array([1], np.int64)), keep_dims=True)

    target = tmp_path_factory.mktemp("bundles") / "masker"
    return _bundle(target, OutputKind.MASK, 1, outcome)
