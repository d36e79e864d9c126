"""Resizing, by any kind of interpolation."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from .axis import AxisView
from .step import GlobalContextError, Rule, Step, View

__all__ = ["RESIZING"]


def _interpolate(step: Step) -> list[View]:
    settings = step.attributes
    view: View = {}
    for dimension, (small, large) in enumerate(step.shapes_out()):
        axis = step.views[0].get(dimension)
        if axis is None:
            continue
        before = step.shape_in(0)[dimension]
        if small * step.other.input_value(0).get_shape()[dimension] != large * before:
            if small == large:
                raise GlobalContextError("resizes to a fixed size")
            raise GlobalContextError("resizes by a factor that depends on the size of the frame")
        view[dimension] = _resized(axis, Fraction(small, before), settings)
    return [view]


def _resized(axis: AxisView, scale: Fraction, settings: dict[str, Any]) -> AxisView:
    if scale == 1:
        return axis
    mode, frame = settings["mode"], settings["coordinate_transformation_mode"]
    if frame == "align_corners":
        raise GlobalContextError("aligns corners, so it depends on the size of the frame")
    half = Fraction(1, 2)
    reach = {"nearest": 0, "cubic": 1}.get(mode.removesuffix("_pillow").removesuffix("_onnx"), 0)
    wide = max(Fraction(1), 1 / scale) if settings.get("antialias") or "pillow" in mode else None

    def sources(element: int) -> range:
        if frame == "asymmetric":
            place = element / scale
        elif frame == "tf_half_pixel_for_nn":
            place = (element + half) / scale
        else:
            place = (element + half) / scale - half
        if wide is not None:
            radius = wide * (reach + 1)
            return range(math.floor(place - radius), math.ceil(place + radius) + 1)
        if mode == "nearest":
            return _nearest(place, settings["nearest_mode"])
        return range(math.floor(place) - reach, math.ceil(place) + reach + 1)

    return axis.resampled(axis.px_per_element / scale, sources)


def _nearest(place: Fraction, rounding: str) -> range:
    half = Fraction(1, 2)
    chosen = {
        "floor": math.floor(place),
        "ceil": math.ceil(place),
        "simple": math.floor(place),
        "round_prefer_floor": math.ceil(place - half),
        "round_prefer_ceil": math.floor(place + half),
    }.get(rounding)
    if chosen is None:
        return range(math.floor(place), math.ceil(place) + 1)
    return range(chosen, chosen + 1)


RESIZING: dict[str, Rule] = {"Interpolate": _interpolate}
"""Its rule, by OpenVINO's name."""
