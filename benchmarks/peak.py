"""Run a command and print, as JSON, the most memory it held and how it ended.

A process of its own, and a small one: Linux counts what the parent held when it started a
child as the child's peak, so a test runner would measure itself.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB on Linux
print(json.dumps({"code": done.returncode, "peak_kib": peak, "said": done.stderr[-2000:]}))
