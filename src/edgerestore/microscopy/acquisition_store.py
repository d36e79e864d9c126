"""OME-Zarr 0.5 of an acquisition: one image a position, planes in the order they come."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import gt
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SinkError, counted
from ..imaging.arrays import Image
from ..imaging.error_translation import translated
from ..streams.media.frames import Frame, Item
from .sharded_store import check_store, import_zarr, partial_store

__all__ = ["FRAMES_FILE", "AcquisitionStoreSink"]

_logger = logging.getLogger(__name__)

FRAMES_FILE = "frames.jsonl"
"""In the store: a JSON line for each frame, with its place and what was said of it."""

_STACK = ("t", "c", "z")  # every other axis of an acquisition makes images of their own
_CHUNK_PX = 1024


class AcquisitionStoreSink:
    """`Sink` that writes frames as planes (t, c, z) of OME-Zarr images, one for each position.

    Where a frame belongs is in its metadata (``index``, an acquisition's); those that say nothing
    follow each other in time. Axes grow with what comes. Planes whose frame never came are zeros;
    they are counted, told, and listed in the attributes.

    Parameters
    ----------
    path : Path
        Of the store, ``NAME.zarr``; it has that name once it is finished.
    overwrite : bool

    Raises
    ------
    SinkError
        When the name is taken; from `write`, when a frame is of another size or dtype than the
        first of its image, or the disk refuses.
    MissingExtraError
        Without zarr.
    """

    skips = wants_original = False

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        import_zarr()
        self._final, self._path, self._overwrite = path, partial_store(path), overwrite
        check_store(path, overwrite=overwrite, resume=True)
        if self._path.exists() and not overwrite:
            raise SinkError(f"{self._path}: is there, from a run that was ended; remove it")
        self._images: dict[tuple[object, ...], _Planes] = {}
        with translated(SinkError, path):
            shutil.rmtree(self._path, ignore_errors=True)
            self._path.mkdir()
            self._frames = (self._path / FRAMES_FILE).open("w", encoding="utf-8")

    def write(self, item: Item) -> None:
        """Write a frame's plane, and its line."""
        if not isinstance(item, Frame):
            return
        facts = item.metadata or {}
        index = facts.get("index") or {}
        run = getattr(getattr(facts.get("mda_event"), "sequence", None), "uid", None)
        key = (str(run), *((axis, at) for axis, at in index.items() if axis not in _STACK))
        with translated(SinkError, self._final):
            if key not in self._images:
                self._images[key] = _Planes(self._path / str(len(self._images)), item)
            planes = self._images[key]
            place = planes.write(item.image, index, facts)
            line = {"image": planes.folder.name, "plane": place, **_plain(facts)}
            self._frames.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Describe the images, and give the store its name."""
        zarr = import_zarr()
        with translated(SinkError, self._final):
            self._frames.flush()
            os.fsync(self._frames.fileno())
            self._frames.close()
            layout = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}
            zarr.create_group(self._path, attributes=layout, zarr_format=3, overwrite=False)
            series = [planes.folder.name for planes in self._images.values()]
            zarr.create_group(
                self._path / "OME", attributes={"ome": {"version": "0.5", "series": series}}
            )
            missing = sum(planes.finish() for planes in self._images.values())
            check_store(self._final, overwrite=self._overwrite, resume=True)
            if self._final.exists():
                shutil.rmtree(self._final)
            self._path.rename(self._final)
        if missing:
            _logger.warning(
                "%s: %s of the acquisition did not come, and are zeros; its attributes list them",
                self._final,
                counted(missing, "plane"),
            )

    def abort(self) -> None:
        """Discard what was written."""
        self._frames.close()
        shutil.rmtree(self._path, ignore_errors=True)


@dataclass
class _Planes:
    """Planes of one image, of shape (t, c, z, H, W) or, in colour, (t, 3, z, H, W)."""

    folder: Path
    first: Frame
    channels: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        zarr = import_zarr()
        image, facts = self.first.image, self.first.metadata or {}
        self.shape, self.dtype = image.shape, image.dtype
        self.samples = image.shape[2] if image.ndim == 3 else 1
        sizes = _sizes(facts.get("mda_event"))
        first = [max(1, sizes.get(axis, 1)) for axis in _STACK]
        first[1] *= self.samples
        height, width = image.shape[:2]
        self._group = zarr.create_group(self.folder, zarr_format=3)
        self._array = self._group.create_array(
            "0",
            shape=(*first, height, width),
            chunks=(1, 1, 1, min(height, _CHUNK_PX), min(width, _CHUNK_PX)),
            dtype=image.dtype,
            dimension_names=[*_STACK, "y", "x"],
            fill_value=0,
        )
        self._step_um = _step_um(facts.get("mda_event"))
        self._written = np.zeros(first, bool)
        self._count, self._used = 0, tuple(first) if sizes else (0, 0, 0)
        self._low, self._high = float(image.min()), float(image.max())

    def write(self, image: Image, index: Mapping[str, int], facts: Mapping[str, Any]) -> list[int]:
        """Write a plane where its index says, or behind the last; return (t, c, z)."""
        if (image.shape, image.dtype) != (self.shape, self.dtype):
            raise SinkError(
                f"{self.folder}: a frame of shape {image.shape}, {image.dtype} comes after those"
                f" of {self.shape}, {self.dtype}; write it to a store of its own"
            )
        place = [int(index.get(axis, 0)) for axis in _STACK]
        if not index:
            place[0] = self._count
        t, c, z = place
        first = c * self.samples
        need = (t + 1, first + self.samples, z + 1)
        self._used = tuple(map(max, need, self._used))
        there = self._array.shape[:3]
        if any(map(gt, need, there)):
            # Times grow by doubling: each growth rewrites what describes the array.
            times = there[0] if t < there[0] else max(t + 1, 2 * there[0])
            grown = (times, *map(max, need[1:], there[1:]))
            self._array.resize((*grown, *self._array.shape[3:]))
            more = [(0, now - was) for now, was in zip(grown, self._written.shape, strict=True)]
            self._written = np.pad(self._written, more)
        if self._written[t, first, z]:
            raise SinkError(f"{self.folder}: the frame at {dict(index)} comes twice")
        planes = image[..., None] if image.ndim == 2 else image
        self._array[t, first : first + self.samples, z] = np.moveaxis(planes, -1, 0)
        self._written[t, first : first + self.samples, z] = True
        self.channels.setdefault(c, str(facts.get("channel") or f"channel {c}"))
        self._count += 1
        self._low = min(self._low, float(image.min()))
        self._high = max(self._high, float(image.max()))
        return place

    def _shown(self, label: str) -> dict[str, Any]:
        """Return how viewers show a channel: the format wants a window and a colour."""
        low, high = self._low, max(self._high, self._low + 1e-6)
        color = {"R": "FF0000", "G": "00FF00", "B": "0000FF"}.get(label[-1], "FFFFFF")
        return {
            "label": label,
            "color": color if self.samples > 1 else "FFFFFF",
            "active": True,
            "window": {"min": low, "start": low, "end": high, "max": high},
        }

    def finish(self) -> int:
        """Write the attributes; return how many planes did not come."""
        facts = self.first.metadata or {}
        pixel_um = float(facts.get("pixel_size_um") or 0.0)
        self._array.resize((*self._used, *self._array.shape[3:]))
        all_channels = self._used[1]
        written = self._written[tuple(slice(n) for n in self._used)][:, :: self.samples]
        missing = np.argwhere(~written).tolist()
        lateral = {"type": "space", **({"unit": "micrometer"} if pixel_um else {})}
        depth_unit = {"type": "space", **({"unit": "micrometer"} if self._step_um else {})}
        axes = [
            {"name": "t", "type": "time"},
            {"name": "c", "type": "channel"},
            {"name": "z", **depth_unit},
            {"name": "y", **lateral},
            {"name": "x", **lateral},
        ]
        scale = [1.0, 1.0, self._step_um or 1.0, pixel_um or 1.0, pixel_um or 1.0]
        names = [self.channels.get(c, f"channel {c}") for c in range(all_channels // self.samples)]
        samples = "RGBA" if self.samples > 1 else " "
        labels = [f"{name} {one}".strip() for name in names for one in samples[: self.samples]]
        self._group.attrs.update(
            {
                "ome": {
                    "version": "0.5",
                    "multiscales": [
                        {
                            "name": self.folder.name,
                            "axes": axes,
                            "datasets": [
                                {
                                    "path": "0",
                                    "coordinateTransformations": [
                                        {"type": "scale", "scale": scale}
                                    ],
                                }
                            ],
                        }
                    ],
                    "omero": {"channels": [self._shown(label) for label in labels]},
                },
                "edgerestore": {"missing": missing},
            }
        )
        return len(missing)


def _sizes(event: Any) -> dict[str, int]:
    """Return the sizes of an acquisition's axes, where it is planned."""
    sizes = getattr(getattr(event, "sequence", None), "sizes", None) or {}
    return {str(getattr(axis, "value", axis)): int(size) for axis, size in sizes.items()}


def _step_um(event: Any) -> float:
    """Return the distance of an acquisition's z planes; 0 where it is not planned."""
    plan = getattr(getattr(event, "sequence", None), "z_plan", None)
    step = getattr(plan, "step", None)
    return float(step() if callable(step) else step or 0.0)


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of a frame, as JSON holds it."""
    made: dict[str, Any] = {}
    for name, value in facts.items():
        if hasattr(value, "model_dump"):  # of pydantic, as useq's events
            value = value.model_dump(mode="json", exclude_unset=True, exclude={"sequence"})
        made[name] = json.loads(json.dumps(value, default=str))
    return made
