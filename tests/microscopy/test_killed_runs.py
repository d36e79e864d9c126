"""Runs by region that are killed, from outside, whatever they are at."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ..bundles import write_bundle

pytestmark = pytest.mark.slow

KILLS = 10


def command(source, output, model):
    return [
        *(sys.executable, "-m", "edgerestore", "run", str(source), "-o", str(output)),
        *("--model", str(model), "--resume", "--memory", "60MiB", "--progress", "json"),
    ]


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


def test_killed_ten_times_and_gone_on_with_byte_for_byte(tmp_path):
    """Each run restores something; then it dies, and once what it left is damaged too."""
    rng = np.random.default_rng(7)
    bundle = write_bundle(tmp_path / "grey", channels=1, width=16, layers=3)
    image = rng.integers(100, 1000, (4500, 4100), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in.ome.tif", image, tile=(256, 256), ome=True)
    output, begun = tmp_path / "out.ome.zarr", tmp_path / "out.ome.partial.zarr"
    whole = command(tmp_path / "in.ome.tif", tmp_path / "whole.ome.zarr", bundle.folder)
    subprocess.run(whole, check=True, capture_output=True)
    kills = 0
    for kill in range(KILLS):
        run = command(tmp_path / "in.ome.tif", output, bundle.folder)
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.15)))
            process.kill()
            kills += process.wait() < 0
        if output.exists():
            break
        shards = sorted(path for path in begun.rglob("*") if path.parent.parent.name == "c")
        if kill == 2 and shards:
            shards[0].write_bytes(shards[0].read_bytes()[:-5])
        if kill == 3 and shards:
            shards[-1].unlink()
        if kill == 4:
            (begun / "0/c/0").mkdir(parents=True, exist_ok=True)
            (begun / "0/c/0/.0.0badcafe.partial").write_bytes(b"half a shard")
    assert kills >= 3
    last = subprocess.run(
        command(tmp_path / "in.ome.tif", output, bundle.folder), capture_output=True, check=False
    )
    assert last.returncode == 0 or output.exists(), last.stderr.decode()
    assert files(output) == files(tmp_path / "whole.ome.zarr")
