"""HDR10 metadata: mastering display (SMPTE ST 2086) and content light level (CTA-861.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import Type

__all__ = ["HdrMetadata", "hdr_metadata"]

Point = tuple[Fraction, Fraction]

# AVMasteringDisplayMetadata: three primaries and white as pairs of rationals, least and most
# luminance, and whether either is there. AVContentLightMetadata: two numbers.
_DISPLAY = struct.Struct("20i2i")
_LIGHT = struct.Struct("2I")


@dataclass(frozen=True)
class HdrMetadata:
    """HDR10 metadata of a stream.

    Parameters
    ----------
    primaries : tuple of 3 points, or None
        Chromaticities of red, green and blue of the display that it was graded on.
    white : point
        Chromaticity of its white.
    luminance : (Fraction, Fraction)
        Its least and most luminance, in cd/m2.
    light : (int, int) or None
        Most light of any pixel, and of any frame's mean, in cd/m2.
    """

    primaries: tuple[Point, Point, Point] | None = None
    white: Point = (Fraction(0), Fraction(0))
    luminance: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))
    light: tuple[int, int] | None = None

    def added_to(self, settings: Mapping[str, str], codec: str) -> dict[str, str] | None:
        """Return an encoder's settings with this added; None where it has none for it."""
        names = _SETTINGS.get(codec)
        if names is None:
            return None
        option, display, light, xy, lum = names
        parts = [settings[option]] if option in settings else []
        if self.primaries is not None:
            red, green, blue = self.primaries
            points = zip("GBR", (green, blue, red), strict=True)
            text = "".join(f"{name}({_pair(point, xy)})" for name, point in points)
            least, most = self.luminance
            parts.append(
                f"{display}={text}WP({_pair(self.white, xy)})L({_pair((most, least), lum)})"
            )
        if self.light is not None:
            parts.append(f"{light}={self.light[0]},{self.light[1]}")
        return {**settings, option: ":".join(parts)}


# Encoder -> its option, the names in it, and the units of chromaticity and luminance.
_SETTINGS: dict[str, tuple[str, str, str, int, int]] = {
    "libx264": ("x264-params", "mastering-display", "cll", 50_000, 10_000),
    "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", 1, 1),
}


def _pair(point: Point, unit: int) -> str:
    if unit == 1:
        return ",".join(f"{float(one):.5g}" for one in point)
    return ",".join(str(round(one * unit)) for one in point)


def hdr_metadata(picture: av.VideoFrame) -> HdrMetadata | None:
    """Return the HDR10 metadata of a decoded picture; None where it has none."""
    display = light = None
    found: Any = picture.side_data
    for one in found:
        if one.type is Type.MASTERING_DISPLAY_METADATA:
            display = bytes(one)
        elif one.type is Type.CONTENT_LIGHT_LEVEL:
            light = _LIGHT.unpack_from(bytes(one))
    if display is None:
        return None if light is None else HdrMetadata(light=(light[0], light[1]))
    *numbers, has_primaries, _ = _DISPLAY.unpack_from(display)
    values = [
        Fraction(above, below) if below else Fraction(0)
        for above, below in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    points = [(values[index], values[index + 1]) for index in range(0, 8, 2)]
    return HdrMetadata(
        (points[0], points[1], points[2]) if has_primaries else None,
        points[3],
        (values[8], values[9]),
        None if light is None else (light[0], light[1]),
    )
