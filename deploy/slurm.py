"""Restore a gigapixel stack on a SLURM cluster, by Dask's own deployer (pip install dask-jobqueue).

    python deploy/slurm.py /shared/slide.ome.tif /shared/clean.ome.zarr --jobs 8 -- \
        --model denoise-gray --memory 4GiB --resume

Input, output and the models must lie where every node finds them under the same names, and all
nodes must have the same edgerestore with its extras microscopy and distributed. What stands
behind ``--`` is given to ``edgerestore run``; ``--resume`` goes on after whatever ended it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from dask_jobqueue import SLURMCluster


def main() -> int:
    """Start the jobs, restore, and give the nodes back."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--jobs", type=int, default=4, help="nodes that restore")
    parser.add_argument("--cores", type=int, default=16, help="cores of each")
    parser.add_argument("--memory", default="16GB", help="of each job, as SLURM counts it")
    parser.add_argument("--queue", default=None, help="SLURM's partition")
    parser.add_argument("--walltime", default="04:00:00")
    parser.add_argument("run", nargs="*", help="options of edgerestore run, behind --")
    asked = parser.parse_args()
    # One process a node: the model uses all of its cores. Two threads: one restores while the
    # other writes.
    with SLURMCluster(
        queue=asked.queue,
        cores=2,
        job_cpu=asked.cores,
        processes=1,
        memory=asked.memory,
        walltime=asked.walltime,
    ) as cluster:
        cluster.scale(jobs=asked.jobs)
        run = [sys.executable, "-m", "edgerestore", "run", asked.source, "-o", asked.output]
        address = str(cluster.scheduler_address)
        return subprocess.run([*run, "--dask", address, *asked.run], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
