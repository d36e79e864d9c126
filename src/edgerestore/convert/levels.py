"""Value range of a network, judged by how it answers real pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import ConversionError
from ..imaging.arrays import Planes, pixels_of, planes_of
from ..imaging.degradations.registry import Degradation
from ..imaging.metrics import psnr
from .graph.signature import Signature
from .samples import Samples

__all__ = ["fitting_levels"]

_logger = logging.getLogger(__name__)

_CANDIDATES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
_UNKNOWN_TASK = ("blur", "noise", "none")
_CROPS, _SIDE_PX = 2, 128
_MOST_DB = 40.0  # above it ranges differ by rounding
_LEAST_DB = 20.0  # below it the outcome is not the picture: the network does not restore
_MARGIN_DB = 1.0

Answer = Callable[[Planes], Planes]


def fitting_levels(
    signature: Signature,
    answer_of: Callable[[Signature], Answer],
    samples: Samples,
    task: str,
    *,
    stated: bool,
    report: Callable[[str], None],
) -> Signature:
    """Return the signature with the value range that fits the weights.

    The task's own degradation is applied to crops of pictures, and each usual range is scored by
    the PSNR of what comes out against the picture: a network that is fed another range than it
    was trained in restores worse, by 3 to 13 dB for trained ones.

    Parameters
    ----------
    signature : Signature
        With the range that was stated, or the usual one.
    answer_of : callable
        Given a signature, returns the network within it, at strength 1.
    samples : Samples
    task : str
        Of the manifest; an unknown one is scored by several degradations.
    stated : bool
        The user or the network states the range: it is kept, and doubted in a warning. Else the
        range that fits best is taken.
    report : callable
    """
    given = (signature.black, signature.value_range)
    ranges = dict.fromkeys((given, *_CANDIDATES))
    try:
        scores = {
            levels: _score(answer_of(_with(signature, levels)), signature, samples, task)
            for levels in ranges
        }
    except ConversionError:
        return signature  # parity says so at its own sizes
    best = max(scores, key=lambda levels: scores[levels])
    found = f"{scores[best]:.1f} dB on the samples against {scores[given]:.1f} with {_text(given)}"
    if scores[best] < max(_LEAST_DB, scores[given] + _MARGIN_DB):
        return signature
    if not stated:
        report(f"range: {_text(best)} fits the weights ({found}); --range {_text(given)} keeps it")
        return _with(signature, best)
    _logger.warning(
        "--range %s is doubtful: the weights restore better with %s (%s); convert with --range %s"
        " unless you know better",
        *(_text(given), _text(best), found, _text(best)),
    )
    return signature


def _score(answer: Answer, signature: Signature, samples: Samples, task: str) -> float:
    known = Degradation.for_task(task, signature.upscale)
    kinds = [known]
    if known.kind == "none":
        kinds = [Degradation(kind, upscale=signature.upscale) for kind in _UNKNOWN_TASK]
    rng = np.random.default_rng(0)
    scores = []
    side = _SIDE_PX * signature.upscale
    for index in range(min(_CROPS, len(samples.images))):
        sharp = pixels_of(samples.crop(index, side, side))
        for kind in kinds:
            restored = pixels_of(answer(planes_of(kind.apply(sharp, rng))))
            scores.append(min(_MOST_DB, psnr(restored, sharp)))
    score = float(np.mean(scores))
    return score if np.isfinite(score) else -np.inf  # a network may blow up in a wrong range


def _with(signature: Signature, levels: tuple[float, float]) -> Signature:
    return replace(signature, black=levels[0], value_range=levels[1])


def _text(levels: tuple[float, float]) -> str:
    black, white = levels
    return f"{white:g}" if black == 0 else f"{black:g}..{white:g}"
