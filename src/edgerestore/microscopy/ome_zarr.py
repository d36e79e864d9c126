"""Metadata of OME-Zarr images, 0.4 and 0.5: read, and written for what is restored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import MissingExtraError, SourceError, first_line
from ..extensions import install_command
from .planes import VolumeImage

__all__ = [
    "OmeVersion",
    "ZarrImage",
    "image_attributes",
    "is_zarr",
    "not_valid",
    "read_images",
    "zarr_format_of",
]

OmeVersion = Literal["0.4", "0.5"]
_AXES = "tczyx"
_KINDS = {"t": "time", "c": "channel"}
_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


@dataclass(frozen=True)
class ZarrImage:
    """Image of a store, as its metadata states it.

    Parameters
    ----------
    path : str
        Of its group in the store; empty for the store's own.
    version : str
    attributes : mapping
        Of the group, all of them.
    axes : str
        A part of ``tczyx``, in this order.
    units : mapping of str to str
    datasets : tuple of (str, tuple of float)
        Path of each level and its scale, the largest first.
    """

    path: str
    version: OmeVersion
    attributes: Mapping[str, Any]
    axes: str
    units: Mapping[str, str]
    datasets: tuple[tuple[str, tuple[float, ...]], ...]

    @property
    def ome(self) -> Mapping[str, Any]:
        """The part of the attributes that is OME-Zarr's."""
        return _ome_part(self.attributes)

    @property
    def channels(self) -> list[Mapping[str, Any]]:
        """Channels of the omero block; empty where there is none."""
        omero = self.ome.get("omero")
        found = omero.get("channels") if isinstance(omero, dict) else None
        return [one for one in found or [] if isinstance(one, dict)]


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def zarr_format_of(version: OmeVersion) -> Literal[2, 3]:
    """Return the Zarr format of a version of OME-Zarr."""
    return 2 if version == "0.4" else 3


def _ome_part(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of attributes that is OME-Zarr's: since 0.5 it has a key of its own."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _attributes(folder: Path, where: Path) -> dict[str, Any]:
    try:
        if (folder / "zarr.json").is_file():
            found = json.loads((folder / "zarr.json").read_bytes()).get("attributes", {})
        elif (folder / ".zattrs").is_file():
            found = json.loads((folder / ".zattrs").read_bytes())
        else:
            found = {}
    except (OSError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{where}: its metadata cannot be read ({first_line(error, 100)}); check the store"
        ) from error
    if not isinstance(found, dict):
        raise SourceError(f"{where}: its metadata is no mapping; check the store")
    return found


def read_images(root: Path) -> list[ZarrImage]:
    """Return the images of a store.

    Raises
    ------
    SourceError
        When it is no OME-Zarr, of another version, a plate, or its metadata is wrong.
    """
    attributes = _attributes(root, root)
    ome = _ome_part(attributes)
    if "multiscales" in ome:
        return [_image(root, "", attributes)]
    if "plate" in ome or "well" in ome:
        raise SourceError(
            f"{root}: is a plate of many images; name one of them, such as {root.name}/A/1/0"
        )
    if "bioformats2raw.layout" in ome:
        names = sorted(
            (one.name for one in root.iterdir() if one.name.isdigit() and one.is_dir()), key=int
        )
        if names:
            return [_image(root, name, _attributes(root / name, root / name)) for name in names]
    if (root / ".zarray").is_file() or _is_array(root):
        raise SourceError(f"{root}: is an array without OME-Zarr's metadata; name its group")
    raise SourceError(f"{root}: holds no multiscales, so it is no OME-Zarr; check the path")


def _is_array(root: Path) -> bool:
    return (root / "zarr.json").is_file() and b'"array"' in (root / "zarr.json").read_bytes()


def _image(root: Path, path: str, attributes: dict[str, Any]) -> ZarrImage:
    where = root / path
    ome = _ome_part(attributes)
    try:
        scales = ome["multiscales"]
        first = scales[0]
        version = str(ome.get("version") or first.get("version") or "0.4")
        if version not in ("0.4", "0.5"):
            raise SourceError(f"{where}: is OME-Zarr {version}; convert it to 0.4 or 0.5 first")
        if len(scales) > 1:
            raise SourceError(
                f"{where}: holds {len(scales)} multiscales, which one is not said; split it first"
            )
        axes = [str(one["name"]) for one in first["axes"]]
        units = {one["name"]: one["unit"] for one in first["axes"] if "unit" in one}
        datasets = tuple((str(one["path"]), _scale(one, first)) for one in first["datasets"])
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        said = f"{type(error).__name__} {first_line(error, 80)}"
        raise SourceError(f"{where}: its multiscales are wrong ({said}); correct them") from error
    named = "".join(axes)
    in_order = [axis for axis in _AXES if axis in axes] == axes
    if not in_order or not named.endswith("yx") or len(set(axes)) != len(axes):
        raise SourceError(
            f"{where}: has the axes {', '.join(axes)}; those of t, c, z, y, x that it has must come"
            " in this order"
        )
    if not datasets:
        raise SourceError(f"{where}: its multiscales name no array")
    version_: OmeVersion = "0.4" if version == "0.4" else "0.5"
    return ZarrImage(path, version_, attributes, named, units, datasets)


def _scale(dataset: Mapping[str, Any], scales: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the scale of a level, times that of all levels."""
    total = np.ones(())
    for one in [
        *(dataset.get("coordinateTransformations") or ()),
        *(scales.get("coordinateTransformations") or ()),
    ]:
        if one["type"] == "scale":
            total = total * np.asarray(one["scale"], float)
    if not (np.isfinite(total).all() and (total > 0).all()):
        raise ValueError(f"scale {total.tolist()}")
    return tuple(np.atleast_1d(total).tolist())


def image_attributes(
    image: VolumeImage,
    version: OmeVersion,
    levels: Sequence[str],
    *,
    given: ZarrImage | None = None,
    upscale: int = 1,
    colors: Sequence[str | None] = (),
    window: Mapping[str, float] | None = None,
    note: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the attributes of a restored image's group.

    Parameters
    ----------
    image : VolumeImage
    version : str
    levels : sequence of str
        Paths of its arrays, the largest first.
    given : ZarrImage, optional
        What it is made of: all that its attributes hold stays, the levels aside.
    upscale : int
    colors : sequence of str or None
        Of the channels, as ``RRGGBB``.
    window : mapping of str to float, optional
        Range of values that a viewer shows: min, max, start, end.
    note : mapping, optional
        On how it was made.
    """
    axes = f"{image.axes}yx"
    multiscale: dict[str, Any] = {
        "axes": [_axis(axis, image.units.get(axis)) for axis in axes],
        "datasets": _datasets(image, axes, levels, upscale),
        "name": image.name,
    }
    ome: dict[str, Any] = {}
    others: dict[str, Any] = {}
    if given is not None:
        ome = {key: value for key, value in given.ome.items() if key != "multiscales"}
        if given.ome is given.attributes:  # 0.4: what is not OME-Zarr's stands beside it
            known = ("omero", "labels", "image-label", "bioformats2raw.layout", "_creator")
            others = {key: value for key, value in ome.items() if key not in known}
            ome = {key: value for key, value in ome.items() if key in known}
        else:
            others = {key: value for key, value in given.attributes.items() if key != "ome"}
        before = given.ome["multiscales"][0]
        multiscale = {**before, **multiscale}
        multiscale["axes"] = before["axes"]
        if "name" not in before:
            del multiscale["name"]
        _keep_coordinates(multiscale, before, upscale)
    elif image.channels or window is not None:
        ome["omero"] = {"channels": _channels(image, colors, window or {})}
    if len(levels) > 1:
        multiscale |= {"type": "mean", "metadata": {"method": "mean of whole pixels"}}
    if version == "0.4":
        multiscale["version"] = "0.4"
        attributes = {**others, **ome, "multiscales": [multiscale]}
        attributes.pop("version", None)
    else:
        multiscale.pop("version", None)
        attributes = {**others, "ome": {**ome, "version": "0.5", "multiscales": [multiscale]}}
    if note is not None:
        attributes["edgerestore"] = dict(note)
    return attributes


def not_valid(attributes: Mapping[str, Any]) -> str:
    """Return what yaozarrs finds wrong with a group's attributes; nothing where it is content.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        import yaozarrs
    except ImportError as error:
        raise MissingExtraError(
            f"OME-Zarr is checked by yaozarrs: {install_command('microscopy')}"
        ) from error
    try:
        yaozarrs.validate_ome_object(dict(attributes))
    except ValueError as error:
        lines = str(error).splitlines()
        return " ".join(one.strip() for one in lines[1:3]) or first_line(error)
    return ""


def _axis(name: str, unit: str | None) -> dict[str, str]:
    axis = {"name": name, "type": _KINDS.get(name, "space")}
    return {**axis, "unit": unit} if unit else axis


def _datasets(
    image: VolumeImage, axes: str, levels: Sequence[str], upscale: int
) -> list[dict[str, Any]]:
    factor = dict.fromkeys(axes, 1)
    made = []
    for at, path in enumerate(levels):
        if at:
            factor = {a: f * image.steps[at - 1].get(a, 1) for a, f in factor.items()}
        base = {
            axis: image.pixel.get(axis, 1.0) / (upscale if axis in "yx" else 1) for axis in axes
        }
        forms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [base[axis] * factor[axis] for axis in axes]}
        ]
        if at:  # the mean of some pixels lies in their middle
            moved = [base[axis] * (factor[axis] - 1) / 2 for axis in axes]
            forms.append({"type": "translation", "translation": moved})
        made.append({"path": path, "coordinateTransformations": forms})
    return made


def _keep_coordinates(multiscale: dict[str, Any], before: Mapping[str, Any], upscale: int) -> None:
    """Keep the coordinates of levels that were there; an enlarged pixel is that much smaller."""
    spatial = [str(one["name"]) in "yx" for one in before["axes"]]
    for made, was in zip(multiscale["datasets"], before["datasets"], strict=False):
        forms = json.loads(json.dumps(was["coordinateTransformations"]))
        for form in forms:
            if form["type"] == "scale" and upscale > 1:
                form["scale"] = [
                    value / upscale if flat else value
                    for value, flat in zip(form["scale"], spatial, strict=True)
                ]
        made["coordinateTransformations"] = forms


def _channels(
    image: VolumeImage, colors: Sequence[str | None], window: Mapping[str, float]
) -> list[dict[str, Any]]:
    count = dict(zip(image.axes, image.sizes, strict=True)).get("c", 1)
    names = image.channels or [f"channel {at}" for at in range(count)]
    given = [*colors, *[None] * count]
    return [
        {
            "label": names[at] if at < len(names) else f"channel {at}",
            "color": given[at] or "FFFFFF",
            "active": True,
            "coefficient": 1,
            "family": "linear",
            "inverted": False,
            "window": dict(window),
        }
        for at in range(count)
    ]
