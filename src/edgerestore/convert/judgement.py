"""Networks that only seem to be those of their weights: variants tried, and outcomes judged.

Weights are recognised by their names. Some differences leave no trace there (a dilation, the slope
of an activation, a shortcut), and then the network runs, converts exactly, and restores badly.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConversionError, VerificationError
from .architectures import Architecture
from .checkpoint.network import Network
from .graph.signature import Signature
from .levels import RANGES, levels_text
from .plan import levels_pair
from .records import Report, Request
from .samples import load_samples
from .trial import Answer, Trial
from .verify import Reference, torch_network

__all__ = ["fitting_variant", "require_restoration", "variants_of"]

_logger = logging.getLogger(__name__)

_MARGIN_DB = 0.5
_LEAST_DB = 20.0  # below it the outcome is not the picture
_NEARLY_DB = 1.0  # a variant that is right may still invent detail


def variants_of(row: Architecture | None, request: Request) -> dict[str, Any]:
    """Return arguments that leave no trace in the weights, with other values, by their spelling."""
    if row is None:
        return {}
    return {
        f"{name}={value}": (name, value)
        for name, values in row.untraced.items()
        if name not in request.arguments
        for value in values
    }


def fitting_variant(network: Network, request: Request, report: Report) -> Network:
    """Return the variant of a known network that restores best with its weights.

    Parameters
    ----------
    network : Network
    request : Request
        What it states is not varied.
    report : callable
        Takes a line where another variant than the published one is taken.
    """
    row, arguments = network.row, network.arguments
    variants = variants_of(row, request)
    if row is None or not variants:
        return network
    channels, upscale = int(arguments.get("channels", 3)), int(arguments.get("upscale", 1))
    trial = Trial(load_samples(request.samples, channels), request.task or row.task, upscale)
    signature = Signature(
        channels,
        channels,
        color="gray" if channels == 1 else request.color or row.color,
        multiple_of=row.multiple_of,
        minimum_px=1,
        upscale=upscale,
    )
    stated = request.levels is not None
    ranges = [levels_pair(request.levels)] if request.levels is not None else RANGES

    def answer(candidate: Network, levels: tuple[float, float]) -> Answer:
        whole = replace(signature, black=levels[0], value_range=levels[1])
        return Reference(torch_network(candidate.module), whole)

    def score(
        candidate: Network, ranges: Sequence[tuple[float, float]]
    ) -> tuple[float, tuple[float, float]]:
        return max((trial.score(answer(candidate, levels)), levels) for levels in ranges)

    try:
        first, at = score(network, ranges)
        (own,) = trial.outcomes(answer(network, at), trial.kinds[:1])
        if own.loss_db < 0:
            ranges = [at]  # it restores: another range is not worth the time
        best, reached = network, first
        for name, value in variants.values():
            candidate = _with_argument(best, name, value)
            found, levels = score(candidate, ranges)
            if found > reached + _MARGIN_DB:
                best, reached, at = candidate, found, levels
        if best is network or reached < _LEAST_DB:
            return network
        (own,) = trial.outcomes(answer(best, at), trial.kinds[:1])
    except ConversionError:
        return network  # parity says so at its own sizes
    if own.loss_db > _NEARLY_DB:
        return network
    range_ = "" if stated else f" with --range {levels_text(at)}"
    report(
        f"variant: {row.name} with {_changed(network, best)} fits the weights ({reached:.1f} dB on"
        f" the samples{range_} against {first:.1f} as published); --arch-arg keeps what it states"
    )
    return best


def _changed(network: Network, variant: Network) -> str:
    """Return the arguments of a variant that the network has not, as ``--arch-arg`` takes them."""
    before = network.arguments.items()
    return ", ".join(f"{k}={v}" for k, v in variant.arguments.items() if (k, v) not in before)


def _with_argument(network: Network, name: str, value: Any) -> Network:
    """Return a variant with the same weights; the network itself where it refuses the argument."""
    assert network.row is not None  # noqa: S101 - rows alone have variants
    arguments = {**network.arguments, name: value}
    try:
        module = network.row.build(**arguments)
    except ValueError:
        return network
    module.load_state_dict(network.module.state_dict())
    return replace(network, module=module.float().eval(), arguments=arguments)


def require_restoration(
    answer: Answer, trial: Trial, request: Request, tried: str, report: Report, *, certain: bool
) -> None:
    """Raise where a network returns pictures that are far worse than the ones it is given.

    Parameters
    ----------
    answer : callable
        The network in its signature.
    trial : Trial
    request : Request
        ``force`` writes it all the same.
    tried : str
        Ranges and variants that were tried, for the message.
    report : callable
        Takes a line on what was found.
    certain : bool
        The task is stated, or the only one of such networks. Else a network may have been trained
        for anything, and is only doubted.

    Raises
    ------
    VerificationError
    """
    try:
        own, restores = trial.judge(answer)
    except ConversionError:
        return  # parity says so at its own sizes
    if restores:
        if trial.known:
            report(f"restores: {own}")
        return
    if restores is False:
        what = f"{request.source.name}: restores worse than given: {own}; tried {tried}"
        if certain and not request.force:
            raise VerificationError(
                f"{what}. The weights are of another network, or for another --task: name it with"
                " --arch, --arch-arg and --range, or write the bundle all the same with --force"
            )
        _logger.warning("%s; is that its --task, --arch, --range and --color?", what)
    elif trial.known:
        _logger.warning(
            "%s: restores less well than given: %s, as networks do that invent detail (GAN) or are"
            " trained for other damage; tried %s",
            *(request.source.name, own, tried),
        )
