"""Value range of a network, judged by how it answers real pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from ..errors import ConversionError
from .graph.signature import Signature
from .trial import Answer, Trial

__all__ = ["RANGES", "fitting_levels", "levels_text"]

_logger = logging.getLogger(__name__)

RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
"""Usual values of black and white."""
_LEAST_DB = 20.0  # below it the outcome is not the picture: the network does not restore
_MARGIN_DB = 1.0
_USUAL_MARGIN_DB = 2.5  # over the usual range of an architecture


def fitting_levels(
    signature: Signature,
    answer_of: Callable[[Signature], Answer],
    trial: Trial,
    *,
    stated: bool,
    usual: bool = False,
    report: Callable[[str], None],
) -> Signature:
    """Return the signature with the value range that fits the weights.

    Each usual range is scored by the PSNR of what the network restores: a network that is fed
    another range than it was trained in restores worse, by 3 to 13 dB for trained ones.

    Parameters
    ----------
    signature : Signature
        With the range that was stated, or the usual one.
    answer_of : callable
        Given a signature, returns the network within it, at strength 1.
    trial : Trial
    stated : bool
        The user or the network itself states the range: it is kept, and doubted in a warning. Else
        the range that fits best is taken.
    usual : bool
        The range is the usual one of the architecture: another is taken only where the network
        restores in it, and not where it merely changes less, and by more than a restorer of light
        damage gains there by changing less (1.2 dB was seen).
    report : callable
    """
    given = (signature.black, signature.value_range)
    ranges = dict.fromkeys((given, *RANGES))
    try:
        scores = {levels: trial.score(answer_of(_with(signature, levels))) for levels in ranges}
    except ConversionError:
        return signature  # parity says so at its own sizes
    best = max(scores, key=lambda levels: scores[levels])
    named = levels_text(given)
    found = f"{scores[best]:.1f} dB on the samples against {scores[given]:.1f} with {named}"
    margin_db = _USUAL_MARGIN_DB if usual else _MARGIN_DB
    if scores[best] < max(_LEAST_DB, scores[given] + margin_db):
        return signature
    if usual and not stated and not trial.restored(answer_of(_with(signature, best))):
        return signature
    if not stated:
        report(f"range: {levels_text(best)} fits the weights ({found}); --range {named} keeps it")
        return _with(signature, best)
    _logger.warning(
        "--range %s is doubtful: the weights restore better with %s (%s); convert with --range %s"
        " unless you know better",
        *(levels_text(given), levels_text(best), found, levels_text(best)),
    )
    return signature


def _with(signature: Signature, levels: tuple[float, float]) -> Signature:
    return replace(signature, black=levels[0], value_range=levels[1])


def levels_text(levels: tuple[float, float]) -> str:
    """Return a range as ``--range`` spells it."""
    black, white = levels
    return f"{white:g}" if black == 0 else f"{black:g}..{white:g}"
