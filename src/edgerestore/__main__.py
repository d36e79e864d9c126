"""``edgerestore`` and ``python -m edgerestore``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from .cli.app import run_command_line

    # SVT-AV1 tells its version and settings there; errors it still tells.
    os.environ.setdefault("SVT_LOG", "1")
    with suppress(OSError, AttributeError):  # closed by the caller
        # Our lines keep a descriptor of their own: that of the system is silenced at times.
        sys.stderr = os.fdopen(
            os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace"
        )
    code = run_command_line(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # Nobody reads it, or the disk behind it is full: the exit code is the command's, and
            # Python's own would be 120.
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
