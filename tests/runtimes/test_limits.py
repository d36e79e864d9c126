"""Quotas and memory limits of control groups, and what timings are kept under."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine.tiling.tile_size import TileChooser
from edgerestore.imaging.arrays import ChannelOrder, Depth
from edgerestore.runtimes import limits
from edgerestore.runtimes.limits import available_memory_bytes, cpu_quota, usable_threads
from edgerestore.runtimes.machine import machine_key, paired_times
from edgerestore.runtimes.onnxruntime.runtime import OnnxRuntime
from edgerestore.runtimes.openvino.runtime import OpenVinoRuntime
from edgerestore.runtimes.protocol import QueueSpec

MIB = 1 << 20
SPEC = QueueSpec(64, 64, Depth.U8, ChannelOrder.RGB)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A file system whose control groups limit nothing yet; the process has eight processors."""
    monkeypatch.setattr(limits, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    write(tmp_path / "proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 8388608 kB\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version_2(root, group="app", **files):
    write(root / "proc/self/cgroup", f"0::/{group}\n")
    for name, text in files.items():
        write(root / "sys/fs/cgroup" / group / name.replace("_", ".", 1), text)


def version_1(root, controller, **files):
    write(root / "proc/self/cgroup", "5:cpu,cpuacct:/app\n4:memory:/app\n")
    folder = "cpu,cpuacct" if controller == "cpu" else controller
    for name, text in files.items():
        write(root / "sys/fs/cgroup" / folder / "app" / name, text)


@pytest.mark.parametrize(
    ("quota", "threads"), [("50000", 1), ("150000", 1), ("250000", 2), ("1600000", 8), ("max", 8)]
)
def test_threads_are_the_whole_processors_that_the_quota_grants(root, quota, threads):
    version_2(root, cpu_max=f"{quota} 100000\n")
    assert usable_threads() == threads


def test_a_quota_of_a_group_above_counts(root):
    version_2(root, "slice/app", cpu_max="max 100000\n")
    write(root / "sys/fs/cgroup/slice/cpu.max", "300000 100000\n")
    assert cpu_quota() == 3
    assert usable_threads() == 3


def test_version_1_of_control_groups(root):
    period = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}
    version_1(root, "cpu", **period)
    assert cpu_quota() == 1.5
    version_1(root, "cpu", **{**period, "cpu.cfs_quota_us": "-1\n"})
    assert cpu_quota() is None
    version_1(
        root,
        "memory",
        **{
            "memory.limit_in_bytes": f"{600 * MIB}\n",
            "memory.usage_in_bytes": f"{500 * MIB}\n",
            "memory.stat": f"cache 1\ntotal_inactive_file {100 * MIB}\n",
        },
    )
    assert available_memory_bytes() == 200 * MIB


@pytest.mark.parametrize("text", ["", "x y\n", "0 100000\n", "100000\n"])
def test_what_cannot_be_read_limits_nothing(root, text):
    version_2(root, cpu_max=text, memory_max=text)
    assert usable_threads() == 8
    assert available_memory_bytes() == 8 << 30


def test_a_container_whose_group_is_the_mount(root):
    write(root / "proc/self/cgroup", "0::/docker/0123\n")
    write(root / "sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert usable_threads() == 2


def test_the_environment_goes_first(root, monkeypatch):
    version_2(root, cpu_max="100000 100000\n")
    for text, threads in (("3", 3), ("0", 1), ("", 1), ("2,1", 2), ("many", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert usable_threads() == threads


def test_openvino_takes_the_threads_of_the_quota(root):
    version_2(root, cpu_max="50000 100000\n")
    queue = OpenVinoRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32).open_queue(SPEC)
    assert queue.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert queue.requests == 2
    queue.close()


@pytest.mark.parametrize("device", ["AUTO:CPU", "HETERO:CPU", "AUTO", "MULTI:CPU"])
def test_composite_devices_take_the_threads_of_the_environment(monkeypatch, device):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    queue = OpenVinoRuntime().load(Bundle.find("deblur"), device, Precision.FP32).open_queue(SPEC)
    assert queue.compiled.get_property("DEVICE_PROPERTIES")["CPU"]["INFERENCE_NUM_THREADS"] == 1
    queue.close()


def test_onnx_runtime_takes_the_threads_of_the_quota(root, monkeypatch):
    version_2(root, cpu_max="50000 100000\n")
    seen = []
    opened = onnxruntime.InferenceSession

    def session(proto, options, **more):
        seen.append(options.intra_op_num_threads)
        return opened(proto, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    OnnxRuntime().load(Bundle.find("deblur"), "CPU", Precision.FP32).open_queue(SPEC).close()
    assert seen == [1]


def test_the_tile_budget_is_a_quarter_of_what_the_group_has_left(root, monkeypatch):
    version_2(root, memory_max=f"{900 * MIB}\n", memory_current=f"{500 * MIB}\n")
    assert TileChooser("auto")._budget == 100 * MIB
    version_2(root, memory_max="max\n")
    assert TileChooser("auto")._budget == 512 * MIB


def test_timings_are_made_anew_where_threads_instructions_or_versions_differ(root, monkeypatch):
    keys = [machine_key("openvino")]
    version_2(root, cpu_max="200000 100000\n")
    keys.append(machine_key("openvino"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    keys.append(machine_key("openvino"))
    keys.append(machine_key("onnxruntime"))
    assert len(set(keys)) == 4
    for key in keys:
        assert os.uname().nodename not in key


def test_equal_calls_are_undecided_and_unequal_ones_are_not(monkeypatch):
    """On a clock that says what the calls take, noise included."""
    now, noise = [0.0], np.random.default_rng(0)
    monkeypatch.setattr("edgerestore.runtimes.machine.time.perf_counter", lambda: now[0])

    def call(seconds):
        def run():
            now[0] += seconds * noise.uniform(0.85, 1.15)

        return run

    undecided = 0
    for _ in range(20):
        found = paired_times(call(0.01), call(0.01), budget_s=9)
        undecided += found.low <= 1 <= found.high
    assert undecided >= 17
    found = paired_times(call(0.02), call(0.01), budget_s=9)
    assert 1.7 < found.low <= found.ratio <= found.high < 2.3
