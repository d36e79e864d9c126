"""Bundles of small networks, written without the minutes of a conversion."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from edgerestore.bundle.bundle import Bundle, stored_files, write_manifest
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
from edgerestore.convert.graph.cost import count_gmac, count_parameters
from edgerestore.convert.graph.signature import Signature, attach_signature

__all__ = ["write_bundle"]


def write_bundle(
    folder: Path,
    *,
    width: int = 4,
    layers: int = 1,
    channels: int = 3,
    family: str | None = None,
    kind: OutputKind = OutputKind.IMAGE,
) -> Bundle:
    """Write a bundle, f32 alone, of 3x3 convolutions with seeded weights.

    Parameters
    ----------
    folder : Path
        Its name is the model's.
    width, layers : int
        Features, and convolutions between the first and the last.
    channels : int
    family : str or None
    kind : OutputKind
    """
    folder.mkdir(parents=True)
    made = 1 if kind is OutputKind.MASK else channels
    color = "gray" if channels == 1 else "rgb"
    face = Signature(channels, made, color, residual=kind is OutputKind.IMAGE, kind=kind)
    graph = attach_signature(_core([channels, *[width] * (layers + 1), made]), face)
    onnx.save(graph, folder / "model.onnx")
    image = InputPort("image", InputKind.IMAGE, channels, color)
    manifest = Manifest(
        name=folder.name,
        task="deblur",
        summary="",
        licence="CC0-1.0",
        inputs=(image, STRENGTH),
        outputs=(OutputPort.of(image, kind, made),),
        tiling=Tiling(TilingMode.EXACT, layers + 2, reason="convolutions"),
        strength=StrengthKind.BLEND,
        variants={"fp32": Variant(stored_files(folder, "fp32"))},
        family=family,
        parameters=count_parameters(graph),
    )
    gmac = count_gmac(manifest, folder / "model.onnx")
    write_manifest(folder, replace(manifest, gmac_720p=gmac))
    return Bundle.find(folder)


def _core(features: list[int]) -> onnx.ModelProto:
    rng = np.random.default_rng(features)
    nodes, weights, name = [], [], "picture"
    for at, (given, made) in enumerate(pairwise(features)):
        values = rng.normal(0, 0.1 / np.sqrt(9 * given), (made, given, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weight{at}"))
        nodes.append(helper.make_node("Conv", [name, f"weight{at}"], [f"c{at}"], pads=[1] * 4))
        nodes.append(helper.make_node("LeakyRelu", [f"c{at}"], [f"r{at}"], alpha=0.5))
        name = f"r{at}"
    ends = [
        helper.make_tensor_value_info(one, TensorProto.FLOAT, [1, count, "h", "w"])
        for one, count in (("picture", features[0]), (name, features[-1]))
    ]
    graph = helper.make_graph(nodes, "core", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
