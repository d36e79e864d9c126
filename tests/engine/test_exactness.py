"""Tiles that are not the whole on a machine: found at first use, told, and lived with."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import msgspec.structs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgerestore
from edgerestore.bundle.bundle import Bundle, stored_files, write_manifest
from edgerestore.bundle.kinds import OutputKind
from edgerestore.bundle.manifest import OutputPort, Tiling, TilingMode, Variant
from edgerestore.convert.graph.signature import Signature, attach_signature
from edgerestore.engine.tiling import exactness

from ..bundles import write_bundle

WIDE = 96


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def short(tmp_path: Path) -> Bundle:
    """A model whose manifest states less halo than its network has."""
    bundle = write_bundle(tmp_path / "short", layers=2)
    lying = msgspec.structs.replace(bundle.manifest, tiling=Tiling(TilingMode.EXACT, 1))
    write_manifest(bundle.folder, lying)
    return Bundle.find(bundle.folder)


def test_tiles_that_are_not_the_whole_are_told_and_nothing_is_taken_over(
    short: Bundle, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    with edgerestore.load(short.folder, precision="fp32", tile=48, reuse_static=0) as restorer:
        first, second = restorer(frame), restorer(frame)
        assert restorer.plan.startswith("tiles of 48 px: asked for; not exact here, where tiles")
        assert "nothing is taken over" in restorer.plan
        assert restorer.reuse is None
        assert first.flags.writeable
    np.testing.assert_array_equal(first, second)
    (kept,) = (own_cache / "exactness").iterdir()
    assert json.loads(kept.read_text())["measured"]["difference"] > 1e-6
    monkeypatch.setattr(exactness, "_proven", lambda *_: pytest.fail("was proven already"))
    with edgerestore.load(short.folder, precision="fp32", tile=48) as restorer:
        np.testing.assert_array_equal(restorer(frame), first)


def test_exact_tiles_are_proven_once_and_nothing_is_said(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "right", layers=2)
    frame = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    for _ in range(2):
        with edgerestore.load(bundle.folder, precision="fp32", tile=48, reuse_static=0) as one:
            one(frame)
            one(frame)
            assert one.plan == "tiles of 48 px: asked for"
            assert one.reuse is not None
            assert one.reuse.frames_reused == 1
        monkeypatch.setattr(exactness, "_proven", lambda *_: pytest.fail("was proven already"))
    with edgerestore.load(bundle.folder, precision="fp32") as small:
        small(frame)  # whole: asks for nothing
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")  # another processor
    with (
        edgerestore.load(bundle.folder, precision="fp32", tile=48) as other,
        pytest.raises(pytest.fail.Exception, match="was proven already"),
    ):
        other(frame)


def write_depthwise(folder: Path) -> Bundle:
    """Write a 1x1 convolution, a depthwise one and a 1x1 one, all with a bias."""
    bundle = write_bundle(folder)
    rng, nodes, weights, name = np.random.default_rng(0), [], [], "picture"
    for at, (shape, groups) in enumerate(
        [((WIDE, 3, 1, 1), 1), ((WIDE, 1, 3, 3), WIDE), ((3, WIDE, 1, 1), 1)]
    ):
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        values = {"w": rng.normal(0, scale, shape), "b": rng.normal(0, 0.1, shape[0])}
        weights += [
            numpy_helper.from_array(v.astype(np.float32), k + name) for k, v in values.items()
        ]
        taken, pads = [name, *(key + name for key in values)], [shape[2] // 2] * 4
        name = f"made{at}"
        nodes.append(helper.make_node("Conv", taken, [name], pads=pads, group=groups))
    ends = [
        helper.make_tensor_value_info(one, TensorProto.FLOAT, [1, 3, "h", "w"])
        for one in ("picture", name)
    ]
    graph = helper.make_graph(nodes, "core", ends[:1], ends[1:], weights)
    core = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(attach_signature(core, Signature(3, 3, "rgb")), folder / "model.onnx")
    image = bundle.manifest.input
    manifest = msgspec.structs.replace(
        bundle.manifest,
        outputs=(OutputPort.of(image, OutputKind.IMAGE, 3),),
        tiling=Tiling(TilingMode.EXACT, 1),
        variants={"fp32": Variant(stored_files(folder, "fp32"))},
    )
    write_manifest(folder, manifest)
    return Bundle.find(folder)


RUN = """
import sys, numpy as np, edgerestore
from edgerestore.runtimes.openvino import runtime
if sys.argv[2] == "fused":
    runtime.keep_depthwise_apart = lambda model: None
rng = np.random.default_rng(0)
large = rng.integers(0, 65536, (640, 860, 3), np.uint16)
small = np.ascontiguousarray(large[:600, :800])
with edgerestore.load(sys.argv[1], precision="fp32", tile=1 << 20) as restorer:
    whole = restorer(small)
with edgerestore.load(sys.argv[1], precision="fp32", tile=96) as restorer:
    print(np.count_nonzero(restorer(small) != whole), restorer.plan, sep="|")
with edgerestore.load(sys.argv[1], precision="fp32", reuse_static=0) as restorer:
    one, two = (restorer(frame)[:590, :790] for frame in (small, large))
    print(np.count_nonzero(one != two), restorer.plan, sep="|")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="an instruction set of x86 is asked for")
@pytest.mark.parametrize("how", ["apart", "fused"])
def test_what_is_fused_by_size_on_avx2_is_kept_apart_or_told(how: str, tmp_path: Path) -> None:
    write_depthwise(tmp_path / "depthwise")
    env = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "EDGERESTORE_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "depthwise"), how],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (differing, plan), (by_size, automatic) = (line.split("|") for line in done.stdout.splitlines())
    assert by_size == "0"  # one shape serves every frame
    if how == "apart":
        assert differing == "0"
        assert "not exact" not in plan + automatic
    elif differing != "0":  # the last cache decides; larger ones are met by no frame of a test
        assert re.search(r"not exact here, where tiles differ from the whole by \de-0[678]", plan)
        assert automatic.startswith("tiles of 512 px for every frame; not exact here")
