"""Choice of the runtime of a device that several serve: measured where none is preferred."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from ..bundle.bundle import Bundle
from ..bundle.precision import Precision
from ..runtimes import runtime_for, runtime_names, runtimes_for
from ..runtimes.cache import measured
from ..runtimes.machine import machine_key, paired_times
from ..runtimes.protocol import Runtime
from .cancellation import check_cancelled
from .precision import round_trip, trial_spec

__all__ = ["choose_runtime"]

_BUDGET_S = 1.5


def choose_runtime(bundle: Bundle, device: str, asked: str = "auto") -> Runtime:
    """Return the runtime that restores with a bundle on a device.

    What the first runtime serves is its own: it is what conversion proves and times. Of others
    that share a device (ONNX Runtime and PyTorch on a card) the faster one at f32 is taken, timed
    once in paired rounds; where these decide nothing, the first in the table.

    Parameters
    ----------
    bundle : Bundle
    device : str
    asked : str
        A runtime's name, or ``auto``.

    Raises
    ------
    ArgumentError, MissingExtraError, DeviceError, InferenceError
    """
    preferred = runtime_for(device, asked)
    if asked != "auto" or preferred.name == runtime_names()[0]:
        return preferred
    serving = {runtime.name: runtime for runtime in runtimes_for(device)}
    if len(serving) < 2:
        return preferred
    fastest = measured(
        "runtimes",
        f"{bundle.digest('fp32')}-{'-'.join(serving)}-{device}",
        f"{', '.join(map(machine_key, serving))}, {preferred.describe(device)}",
        lambda: _fastest(bundle, device, list(serving.values())),
        str,
    )
    return serving.get(fastest, preferred)


def _fastest(bundle: Bundle, device: str, serving: list[Runtime]) -> str:
    best, *others = serving
    spec = trial_spec(bundle.manifest)
    with ExitStack() as opened:
        queues = {}
        for runtime in serving:
            check_cancelled()
            queue = runtime.load(bundle, device, Precision.FP32).open_queue(spec, 2)
            queues[runtime.name] = queue
            opened.callback(queue.close)
        calls = {
            name: partial(round_trip, queue, bundle.manifest) for name, queue in queues.items()
        }
        for other in others:
            if paired_times(calls[best.name], calls[other.name], _BUDGET_S).low > 1:
                best = other
    return best.name
