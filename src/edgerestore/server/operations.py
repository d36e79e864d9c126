"""Operations on a photo: a recipe is a list of steps, run from the untouched original."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..bundle.bundle import MANIFEST_NAME, Bundle, model_names
from ..bundle.kinds import OutputKind
from ..bundle.manifest import Manifest
from ..engine.adjustments import Adjuster, Adjustments
from ..engine.load import load
from ..engine.predictors.cutout import Background, Cutout, parse_background
from ..engine.restorer import Restorer
from ..errors import ArgumentError
from ..imaging.arrays import ChannelOrder, Depth, Image, rounded

__all__ = [
    "Cancelled",
    "CutoutStep",
    "Operation",
    "Recipe",
    "RestoreStep",
    "Step",
    "TonesStep",
    "Workbench",
    "find_operations",
    "shown",
]

logger = logging.getLogger(__name__)

_Stops = Annotated[float, Field(ge=-2, le=2)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Auto = Literal["auto"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RestoreStep(_Strict):
    """A model that makes a picture of a picture."""

    op: Literal["deblur", "denoise", "dejpeg", "retouch", "enlarge"]
    strength: Annotated[float, Field(ge=0, le=2)] = 1.0


class TonesStep(_Strict):
    """Brightness in stops, contrast and colour balance; each a number or ``auto``."""

    op: Literal["tones"]
    brightness: _Stops | _Auto = 0.0
    contrast: _Share | _Auto = 0.0
    balance: _Share | _Auto = 0.0


class CutoutStep(_Strict):
    """The foreground before ``none``, ``white``, ``black``, ``#rrggbb`` or ``picture:ID``."""

    op: Literal["cutout"]
    background: Annotated[
        str, Field(pattern=r"^(none|white|black|#[0-9a-fA-F]{6}|picture:[0-9a-f]{32})$")
    ] = "none"


Step = Annotated[RestoreStep | TonesStep | CutoutStep, Field(discriminator="op")]
Recipe = Annotated[list[Step], Field(max_length=12)]


class Operation(BaseModel):
    """An operation, and why it is disabled where no bundle does it."""

    name: str
    enabled: bool
    reason: str = ""
    model: str = ""


class Cancelled(Exception):  # noqa: N818 - no error
    """The job was cancelled."""


def _image_task(task: str) -> Callable[[Manifest], bool]:
    return lambda one: (
        one.output.kind is OutputKind.IMAGE and one.output.upscale == 1 and one.task == task
    )


_FITS: dict[str, Callable[[Manifest], bool]] = {
    "deblur": _image_task("deblur"),
    "denoise": _image_task("denoise"),
    "dejpeg": _image_task("dejpeg"),
    "retouch": _image_task("retouch"),
    "enlarge": lambda one: one.output.kind is OutputKind.IMAGE and one.output.upscale > 1,
    "cutout": lambda one: one.output.kind is OutputKind.MASK,
}


def find_operations(models: Path | None) -> dict[str, Bundle | None]:
    """Return the bundle of each operation that needs one; None where there is none.

    Parameters
    ----------
    models : Path or None
        Folder of bundles, which come before those of the package.

    Raises
    ------
    ArgumentError
        When the folder is not there.
    BundleError
        When a bundle in it is damaged.
    """
    bundles = []
    if models is not None:
        if not models.is_dir():
            raise ArgumentError(f"--models {models}: no such folder; check the path")
        bundles = [Bundle.find(one.parent) for one in sorted(models.glob(f"*/{MANIFEST_NAME}"))]
    shipped = [Bundle.find(name) for name in model_names()]
    found: dict[str, Bundle | None] = {}
    for name, fits in _FITS.items():
        # Colour comes first: a photo seldom is grey. Then the model of the operation's own name.
        ours = [one for one in shipped if one.manifest.input.channels == 3]
        ours.sort(key=lambda one: one.manifest.name != name)
        found[name] = next((one for one in bundles + ours if fits(one.manifest)), None)
    return found


class Workbench:
    """The models of the operations, each loaded when it is first used.

    Parameters
    ----------
    models : Path or None
    device, precision : str
        As `load` takes them.
    """

    def __init__(self, models: Path | None, device: str, precision: str) -> None:
        self._bundles = find_operations(models)
        self._device, self._precision = device, precision
        self._open: dict[str, Restorer] = {}
        self._lock = threading.Lock()  # one picture at a time: two cores are one job's

    @property
    def operations(self) -> list[Operation]:
        """All operations, in the order in which a page shows them."""
        listed = [Operation(name="tones", enabled=True)]
        for name, bundle in self._bundles.items():
            if bundle is None:
                reason = f"no model for {name} is installed: add a bundle to the models folder"
                listed.append(Operation(name=name, enabled=False, reason=reason))
            else:
                listed.append(Operation(name=name, enabled=True, model=bundle.manifest.name))
        return listed

    def check(self, recipe: list[Any]) -> None:
        """Refuse a recipe with an operation that has no model.

        Raises
        ------
        ArgumentError
        """
        for step in recipe:
            if step.op != "tones" and self._bundles[step.op] is None:
                raise ArgumentError(f"{step.op}: no model for it is installed here")

    def run(
        self,
        original: Image,
        recipe: list[Any],
        background: Callable[[str], Image],
        on_progress: Callable[[float], None],
    ) -> Image:
        """Run a recipe on an original.

        Parameters
        ----------
        original : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), C in 3, 4, RGB
        recipe : list of steps
        background : callable
            Returns the picture of an id.
        on_progress : callable
            Given the share that is done, in [0, 1]; what it raises ends the run.

        Returns
        -------
        ndarray
            Of the original's dtype.

        Raises
        ------
        EdgerestoreError
        """
        image = original
        with self._lock:
            for at, step in enumerate(recipe):
                on_progress(at / len(recipe))

                def tiles(done: int, of: int, at: int = at) -> None:
                    on_progress((at + done / max(of, 1)) / len(recipe))

                if step.op == "tones":
                    image = _toned(image, step)
                elif step.op == "cutout":
                    image = self._cut_out(image, step.background, background)
                else:
                    image = self._restorer(step.op)(image, step.strength, on_progress=tiles)
        return image

    def close(self) -> None:
        """Free the device."""
        with self._lock:
            for one in self._open.values():
                one.close()
            self._open.clear()

    def _restorer(self, name: str) -> Restorer:
        if name not in self._open:
            bundle = self._bundles[name]
            if bundle is None:
                raise ArgumentError(f"{name}: no model for it is installed here")
            self._open[name] = load(bundle.folder, device=self._device, precision=self._precision)
        return self._open[name]

    def _cut_out(self, image: Image, text: str, background: Callable[[str], Image]) -> Image:
        # The mask alone is kept loaded; another background needs no other model.
        if "cutout" not in self._open:
            self._open["cutout"] = Cutout(self._restorer_once("cutout"), mask_only=True)
        colours = _three_channels(image)
        mask = self._open["cutout"](colours).astype(np.float32) / Depth(image.dtype.name).peak
        if image.ndim == 3 and image.shape[2] == 4:
            mask = mask * (image[..., 3].astype(np.float32) / Depth(image.dtype.name).peak)
        depth = Depth(image.dtype.name)
        if text == "none":
            alpha = rounded(mask, depth)
            return np.concatenate([colours, alpha[..., None]], axis=2)
        if text.startswith("picture:"):
            behind = Background(picture=_three_channels(background(text.partition(":")[2])))
        else:
            named = parse_background(text)
            assert named is not None  # noqa: S101 - only "none" is
            behind = named
        levels = colours.astype(np.float32) / depth.peak
        weight = mask[..., None]
        return rounded(levels * weight + behind.behind(*mask.shape) * (1 - weight), depth)

    def _restorer_once(self, name: str) -> Restorer:
        restorer = self._restorer(name)
        del self._open[name]
        return restorer


def _three_channels(image: Image) -> Image:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]


def _toned(image: Image, step: TonesStep) -> Image:
    """Apply tones as the runtimes do: one gain and one offset a channel, one rounding."""
    tones = Adjustments(step.brightness, step.contrast, step.balance)
    tone = Adjuster(tones).tone(image, ChannelOrder.RGB, steady=False)
    if tone is None:
        return image
    depth = Depth(image.dtype.name)
    colours = _three_channels(image).astype(np.float32) / depth.peak
    gain, offset = np.array(tone.gain, np.float32), np.array(tone.offset, np.float32)
    made = rounded(np.clip(colours * gain + offset, 0, 1), depth)
    if image.ndim == 3 and image.shape[2] == 4:
        return np.concatenate([made, image[..., 3:]], axis=2)
    return made


def shown(image: Image, longest_px: int = 1600) -> Image:
    """Return a picture for a page: 8 bits, RGB or RGBA, no side longer than a bound."""
    scale = min(1.0, longest_px / max(image.shape[:2]))
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    if image.dtype != np.uint8:
        peak = Depth(image.dtype.name).peak
        image = rounded(image.astype(np.float32) / peak, Depth.U8)
    return image
