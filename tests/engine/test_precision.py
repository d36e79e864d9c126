"""What ``--precision auto`` takes, how it knows, and what INT8 leaves in float."""

import json
import math
import os
import shutil
import types
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from msgspec.structs import replace
from openvino import opset13 as ops

import edgerestore
from edgerestore.bundle.bundle import Bundle, file_info
from edgerestore.bundle.manifest import Variant
from edgerestore.bundle.precision import Precision
from edgerestore.engine import precision as engine_precision
from edgerestore.engine.precision import Pace, choose_precision, int8_pace
from edgerestore.engine.tiling.tile_size import _Speed
from edgerestore.errors import ArgumentError
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.runtimes import runtime_for
from edgerestore.runtimes.cache import measured, remember
from edgerestore.runtimes.machine import cpu_info
from edgerestore.runtimes.protocol import QueueSpec


def quantized(graph):
    """Put quantizers around the convolutions of a float graph, their ranges guessed."""
    model = ov.Core().read_model(graph)
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        seen = np.float32(4)
        rounded = ops.fake_quantize(node.input_value(0), -seen, seen, -seen, seen, 256)
        weights = node.input_value(1)
        values = ov.Model([ops.result(weights)], [], "weights")
        numbers = ov.compile_model(values, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
        widest = np.abs(numbers).max((1, 2, 3), keepdims=True).astype(np.float32)
        low, high = -widest, widest
        steps = ops.fake_quantize(ops.constant(numbers), low, high, low, high, 255)
        node.input(0).replace_source_output(rounded.output(0))
        node.input(1).replace_source_output(steps.output(0))
    return model


@pytest.fixture(scope="session")
def int8_bundle(tmp_path_factory):
    """The default model with an INT8 variant that is fast or slow, but not good."""
    folder = tmp_path_factory.mktemp("bundles") / "int8"
    shipped = Bundle.find("deblur")
    shutil.copytree(shipped.folder, folder)
    (folder / "int8").mkdir(exist_ok=True)
    ov.save_model(quantized(shipped.variant_files("fp32")[0]), folder / "int8" / "model.xml")
    files = {name: file_info(folder / name) for name in ("int8/model.xml", "int8/model.bin")}
    seal(folder, shipped.manifest, int8=Variant(files))
    return folder


def seal(folder, manifest, **variants):
    changed = replace(manifest, variants={**manifest.variants, **variants})
    (folder / "bundle.json").write_text(changed.to_json())


@pytest.fixture
def bundle(int8_bundle, tmp_path, monkeypatch):
    """A copy to write facts into, and a cache that remembers nothing yet."""
    monkeypatch.setattr(engine_precision, "_BUDGET_S", 0.0)  # the fewest rounds
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(int8_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def timed(folder, int8_ms, float_ms, **facts):
    """Write timings of every variant, made on this CPU unless ``facts`` say otherwise."""
    cpu = cpu_info()
    row = {"cpu": cpu.name, "isa": cpu.isa, "cores": cpu.cores, "shape": "640x360", **facts}
    manifest = Bundle.find(folder).manifest
    rows = {"fp32": ("f32", float_ms), "fp16": ("bf16", float_ms), "int8": ("int8", int8_ms)}
    seal(
        folder,
        manifest,
        **{
            name: replace(
                manifest.variants[name],
                timings=[*manifest.variants[name].timings, {**row, "precision": bits, "ms": ms}],
            )
            for name, (bits, ms) in rows.items()
        },
    )


def remembered():
    return list(Path(os.environ["EDGERESTORE_CACHE"]).glob("precision/*"))


def native_float():
    return next(p for p in runtime_for("CPU").precisions("CPU") if p != "int8")


# The rule alone


def choose(wanted, manifest, native, pace):
    return choose_precision(wanted, manifest, [Precision(name) for name in native], pace)


def never(rival):
    raise AssertionError("nothing is to be measured")


def paces(int8_ms, rival_ms):
    return lambda rival: Pace(int8_ms, rival_ms, "at conversion, 640x360")


def manifest_of(*variants, **quality):
    return types.SimpleNamespace(variants={name: Variant({}, quality) for name in variants})


FLOATS = ("fp32", "fp16")


@pytest.mark.parametrize(
    ("variants", "native", "precision", "reason"),
    [
        (FLOATS, ["bf16", "fp32", "int8"], "bf16", "the device's native half"),
        (FLOATS, ["fp16", "fp32"], "fp16", "the device's native half"),
        (FLOATS, ["fp32", "int8"], "fp32", "the device has no native half"),
        (("fp32",), ["bf16", "fp32"], "fp32", "the bundle has no fp16 model"),
        ((*FLOATS, "int8"), ["bf16", "fp32"], "bf16", "the device's native half"),
    ],
)
def test_without_int8_nothing_is_measured(variants, native, precision, reason):
    chosen = choose("auto", manifest_of(*variants), native, never)
    assert (chosen.precision, chosen.reason) == (precision, reason)


def test_the_faster_one_is_taken():
    manifest = manifest_of(*FLOATS, "int8")
    chosen = choose("auto", manifest, ["fp32", "int8"], paces(10, 21))
    wanted = "2.10 times as fast as fp32 here (measured at conversion, 640x360)"
    assert (chosen.precision, chosen.reason) == ("int8", wanted)
    chosen = choose("auto", manifest, ["bf16", "fp32", "int8"], paces(41, 28))
    wanted = "int8 measured slower here (41 ms against 28 ms at conversion, 640x360)"
    assert (chosen.precision, chosen.reason) == ("bf16", wanted)


@pytest.mark.parametrize("pace", [Pace(25, 28, "here"), Pace(10, 20, "here", 0.9, 2.4)])
def test_what_noise_may_have_made_decides_nothing(pace):
    chosen = choose("auto", manifest_of(*FLOATS, "int8"), ["fp32", "int8"], lambda _: pace)
    assert chosen.precision == "fp32"
    assert chosen.reason.startswith("int8 is undecided here (0.9")


def test_an_interval_above_one_decides():
    pace = Pace(25, 28, "here", 1.02, 1.2)
    assert (
        choose("auto", manifest_of(*FLOATS, "int8"), ["int8"], lambda _: pace).precision == "int8"
    )


def test_int8_competes_with_what_would_be_taken_without_it():
    asked = []

    def pace(rival):
        asked.append(rival)
        return Pace(1, 2, "")

    for native in (["bf16", "fp32", "int8"], ["fp32", "int8"]):
        choose("auto", manifest_of(*FLOATS, "int8"), native, pace)
    assert asked == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        (
            {"loss_db": 0.2512, "budget_db": 0.1, "forced": True},
            "the bundle's int8 loses 0.251 dB, over its quality budget of 0.1 dB",
        ),
        ({"loss_db": "much"}, "the bundle's int8 is over its quality budget"),
    ],
)
def test_what_was_forced_over_its_budget_is_not_taken(quality, reason):
    manifest = manifest_of(*FLOATS, "int8", within_budget=False, **quality)
    chosen = choose("auto", manifest, ["bf16", "fp32", "int8"], never)
    assert (chosen.precision, chosen.reason) == ("bf16", reason)


def test_what_was_judged_on_one_of_several_kinds_is_not_taken():
    kinds = {"blur": {"judged": True}, "dark": {"judged": False}}
    manifest = manifest_of(*FLOATS, "int8", within_budget=True, kinds=kinds)
    chosen = choose("auto", manifest, ["fp32", "int8"], never)
    assert chosen.precision == "fp32"
    assert "judged on one kind of input, blur; --precision int8 runs it" in chosen.reason
    kinds["dark"]["judged"] = True
    assert choose("auto", manifest, ["fp32", "int8"], paces(1, 2)).precision == "int8"


def test_what_was_forced_for_its_speed_competes_by_its_speed():
    manifest = manifest_of(*FLOATS, "int8", within_budget=True, forced=True)
    native = ["fp32", "int8"]
    assert choose("auto", manifest, native, paces(2, 1)).precision == "fp32"
    assert choose("auto", manifest, native, paces(1, 2)).precision == "int8"


def test_what_is_asked_for_is_taken():
    manifest = manifest_of(*FLOATS, "int8", within_budget=False)
    assert choose("int8", manifest, ["fp32", "int8"], never).reason == "asked for"
    with pytest.raises(ArgumentError, match="one of auto, fp32, tf32, bf16, fp16, int8"):
        choose("int4", manifest, ["fp32"], never)


# Where the speed is from


@pytest.mark.parametrize(("int8_ms", "float_ms"), [(1.0, 4.0), (4.0, 1.0)])
def test_timings_made_on_this_cpu_decide(bundle, needs_precision, int8_ms, float_ms):
    needs_precision("int8")
    timed(bundle, int8_ms, float_ms)
    with edgerestore.load(bundle) as restorer:
        faster = int8_ms < float_ms
        assert restorer.precision == ("int8" if faster else native_float())
        wanted = "4.00 times as fast" if faster else "(4 ms against 1 ms at conversion, 640x360)"
        assert wanted in restorer.precision_reason
    assert not remembered()


@pytest.mark.parametrize(
    "facts", [{"cpu": "Abacus"}, {"isa": "beads"}, {"cores": 1024}, {"shape": None}]
)
def test_timings_made_elsewhere_do_not(bundle, needs_precision, facts):
    needs_precision("int8")
    timed(bundle, 0.001, 9000, **facts)
    found = int8_pace(Bundle.find(bundle), runtime_for("CPU"), "CPU", native_float())
    assert found.origin == "on this device, 256x256"
    assert 0.001 < found.int8_ms < 9000
    assert 0.001 < found.rival_ms < 9000


def test_timings_at_different_shapes_are_not_compared(bundle, needs_precision):
    needs_precision("int8")
    timed(bundle, 0.001, 9000)
    manifest = Bundle.find(bundle).manifest
    elsewhere = [{**manifest.variants["int8"].timings[0], "shape": "64x64"}]
    seal(bundle, manifest, int8=replace(manifest.variants["int8"], timings=elsewhere))
    with edgerestore.load(bundle) as restorer:
        assert "on this device, 256x256" in restorer.precision_reason


def test_what_was_measured_is_remembered(bundle, needs_precision):
    needs_precision("int8")
    with edgerestore.load(bundle) as restorer:
        assert "on this device, 256x256" in restorer.precision_reason
    (path,) = remembered()
    content = json.loads(path.read_text())
    # What no clock would say now: a load that follows it has not measured.
    for int8_ms, expected in ((1.0, "int8"), (9000.0, native_float())):
        gain = 300 / int8_ms
        interval = {"low": gain * 0.9, "high": gain * 1.1}
        content["measured"] |= {"int8_ms": int8_ms, "rival_ms": 300.0, **interval}
        path.write_text(json.dumps(content))
        with edgerestore.load(bundle) as restorer:
            assert restorer.precision == expected
    assert remembered() == [path]


@pytest.mark.parametrize("spoiled", ["{half a", "[]", "another machine"])
def test_what_is_remembered_of_another_machine_or_not_at_all_is_measured(
    bundle, needs_precision, spoiled
):
    needs_precision("int8")
    edgerestore.load(bundle).close()
    (path,) = remembered()
    content = json.loads(path.read_text())
    if spoiled == "another machine":
        spoiled = json.dumps(
            {"machine": spoiled, "measured": {**content["measured"], "int8_ms": 1e9}}
        )
    path.write_text(spoiled)
    edgerestore.load(bundle).close()
    again = json.loads(path.read_text())
    assert again["machine"] == content["machine"]
    assert 0 < again["measured"]["int8_ms"] < 1e6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_was_asked_for_is_not_measured(bundle, needs_precision, precision):
    needs_precision(precision)
    edgerestore.load(bundle, precision=precision).close()
    assert not remembered()


# What INT8 leaves in float


@pytest.fixture
def queue(bundle, needs_precision):
    needs_precision("int8")
    model = runtime_for("CPU").load(Bundle.find(bundle), "CPU", Precision.INT8, live=False)
    opened = model.open_queue(QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB), 1)
    yield opened
    opened.close()


def test_the_float_rest_runs_in_what_the_device_has(queue):
    wanted = {"bf16": ov.Type.bf16, "fp16": ov.Type.f16, "fp32": ov.Type.f32}[native_float()]
    assert queue.compiled.get_property("INFERENCE_PRECISION_HINT") == wanted


def test_convolutions_are_integer(queue):
    nodes = queue.compiled.get_runtime_model().get_ordered_ops()
    facts = [node.get_rt_info() for node in nodes]
    layers = [f for f in facts if str(f["layerType"].value) == "Convolution"]
    assert {"u8", "i8"} & {str(f["runtimePrecision"].value) for f in layers}


def test_the_blend_stays_in_f32_at_int8(bundle, needs_precision, picture):
    """A base of 8 bits, or of bf16, would not give 16 bits back."""
    needs_precision("int8")
    image = picture(93, 71)
    strength = np.zeros((93, 71))
    with edgerestore.load(bundle, precision="int8") as restorer:
        np.testing.assert_array_equal(restorer(image, strength=strength), image)
        deep = image.astype(np.uint32) * 256 + np.arange(71, dtype=np.uint32)[:, None]
        deep = deep.astype(np.uint16)  # low bits that are no copy of the high ones
        np.testing.assert_array_equal(restorer(deep, strength=strength), deep)
        assert not np.array_equal(restorer(image), image)


def test_a_cached_measurement_that_holds_nothing_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path))
    kind, speed = list[_Speed], _Speed(64, 2.0, 3.0)
    rows = [
        {"side": side, "ns_per_px": ns, "bytes_per_px": 1.0}
        for side, ns in ((0, 1.0), ("64", 1.0), (64, 0), (64, None), (64, math.nan), (64, 1e400))
    ]
    for kept in ([], None, 7, "x", [{"no": "speed"}], [None], *([row] for row in rows)):
        path = tmp_path / "tiles" / "key.json"
        remember(path, {"machine": "this", "measured": kept})
        assert measured("tiles", "key", "this", lambda: [speed], kind) == [speed]
        assert measured("tiles", "key", "this", list, kind) == [speed]
    for text in ("[" * 100_000, '{"machine": ' + "9" * 5000 + "}", '{"machine": 1}', "\xff"):
        path.write_bytes(text.encode("latin1"))
        assert measured("tiles", "key", "this", lambda: [speed], kind) == [speed]
