"""Fuzz targets: a round of examples in the usual run, rounds for as long as is asked for.

``EDGERESTORE_FUZZ_S=3600 pytest tests/hostile -k fuzz`` spends an hour on each target.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from itertools import count

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

__all__ = ["damaged", "fuzz"]

_EXAMPLES = 40


def fuzz(strategy: st.SearchStrategy[bytes], target: Callable[[bytes], None]) -> None:
    """Call a target with examples; it raises what a user must not see."""
    until = time.monotonic() + float(os.environ.get("EDGERESTORE_FUZZ_S", 0))
    for number in count():
        tried = given(strategy)(lambda content: target(content))
        limits = settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(limits(tried))()
        if time.monotonic() >= until:
            return


_PIECES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [
            b"\x00" * 8,
            b"\xff" * 8,
            b"\x1b[2J",
            b"9" * 40,
            b"-1",
            b"null",
            b"[",
            b"{",
            b'"',
            b"1e999",
        ]
    ),
)


def damaged(whole: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return files that were written well, with parts of them replaced, added or cut off."""

    @st.composite
    def files(draw: st.DrawFn) -> bytes:
        content = draw(st.sampled_from(whole))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(content)))
            piece = draw(st.one_of(st.just(b""), _PIECES))
            cut = draw(st.one_of(st.just(len(piece)), st.integers(0, 64)))
            content = content[:at] + piece + content[at + cut :]
        if draw(st.integers(0, 9)) == 0:
            content = content[: draw(st.integers(0, len(content)))]
        return content

    return files()
