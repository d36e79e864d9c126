"""Widget of napari that restores an image layer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.bundle import Bundle, model_names
from ..bundle.manifest import TilingMode
from ..engine.intensity import IntensityRange
from ..errors import ArgumentError, EdgerestoreError, MissingExtraError
from ..extensions import install_command
from ..imaging.arrays import Image
from ..runtimes.registry import all_runtimes
from .array_planes import ArrayPlanes
from .layer_restoration import CancelledError, LayerRestoration, LayerSettings
from .regions import Region

try:
    from magicgui import widgets
except ImportError as error:  # named at once, not at the first click
    raise MissingExtraError(f"the napari plugin needs magicgui: {install_command('napari')}") from (
        error
    )

if TYPE_CHECKING:
    import napari

__all__ = ["RestoreWidget"]

_PREVIEW_MS = 200  # after the last turn of a slider, or of the view
_PREVIEW_PX = 1536  # of the middle of what is seen, at most
_PREVIEW = "preview (edgerestore)"


class RestoreWidget(widgets.Container[Any]):
    """Widget with model, device, strength and range; previews, applies and exports.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        from superqt.utils import QSignalDebouncer

        self._viewer, self._restoration = viewer, LayerRestoration()
        self._worker: Any = None
        self._cancelled, self._number = threading.Event(), 0
        self._layer = widgets.ComboBox(label="Layer", choices=self._layers, nullable=False)
        self._model = widgets.ComboBox(label="Model", choices=_models(), value="denoise-gray")
        self._device = widgets.ComboBox(label="Device", choices=_devices(), value="CPU")
        # Its readout is cut off by napari's style, so the label has the number.
        self._strength = widgets.FloatSlider(
            label="Strength 1.00",
            min=0,
            max=2,
            step=0.05,
            value=1.0,
            readout=False,
            tooltip="0 leaves it as it is",
        )
        self._range = widgets.LineEdit(
            label="Range",
            value="auto",
            tooltip="Values that the model sees as black to white:"
            " auto, full, LOW:HIGH or pLOW:pHIGH",
        )
        self._preview = widgets.CheckBox(text="Live preview of what is seen", value=False)
        self._apply = widgets.PushButton(text="Apply to layer")
        self._export = widgets.PushButton(text="Export as OME-Zarr...")
        self._cancel = widgets.PushButton(text="Cancel", enabled=False)
        self._progress = widgets.ProgressBar(label="", min=0, max=1, value=0)
        self._progress.visible = False
        self._status = widgets.Label(value="")
        super().__init__(
            widgets=[
                *(self._layer, self._model, self._device, self._strength, self._range),
                *(self._preview, self._apply, self._export, self._cancel),
                *(self._progress, self._status),
            ],
        )
        self.native.layout().addStretch()
        self._debounced = QSignalDebouncer(parent=self.native)
        self._debounced.setTimeout(_PREVIEW_MS)
        self._debounced.triggered.connect(self._start_preview)
        self._connect()

    def _connect(self) -> None:
        for one in (self._layer, self._model, self._device, self._strength, self._range):
            one.changed.connect(self._changed)
        self._strength.changed.connect(self._strength_changed)
        self._preview.changed.connect(self._preview_changed)
        self._apply.changed.connect(lambda: self.apply())
        self._export.changed.connect(lambda: self._ask_and_export())
        self._cancel.changed.connect(lambda: self.cancel())
        layers = self._viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.renamed):
            event.connect(self._layers_changed)
        self._viewer.camera.events.connect(self._changed)
        self._viewer.dims.events.current_step.connect(self._changed)
        self.native.destroyed.connect(self._left)
        self._layers_changed()

    # What is chosen.

    def _layers(self, _widget: object = None) -> list[Any]:
        from napari.layers import Image as ImageLayer

        shown = (one for one in self._viewer.layers if isinstance(one, ImageLayer))
        return [one for one in shown if one.name != _PREVIEW]

    def _layers_changed(self, _event: object = None) -> None:
        chosen = self._layer.value
        self._layer.reset_choices()
        there = self._layers()
        if chosen in there:
            self._layer.value = chosen
        for button in (self._apply, self._export):
            button.enabled = bool(there) and self._worker is None

    @property
    def settings(self) -> LayerSettings:
        """Settings as they are chosen.

        Raises
        ------
        ArgumentError
            When the range is none.
        """
        wanted = str(self._range.value).strip()
        IntensityRange.parse(wanted)
        return LayerSettings(
            self._model.value, self._device.value, float(self._strength.value), wanted
        )

    def _source(self) -> tuple[Any, ArrayPlanes]:
        layer = self._layer.value
        if layer is None:
            raise ArgumentError("there is no image layer; open an image")
        if layer.ndim > 2 and tuple(layer._slice_input.displayed) != (
            layer.ndim - 2,
            layer.ndim - 1,
        ):
            raise ArgumentError("the axes are turned; show the last two of the layer as a plane")
        data = layer.data[0] if layer.multiscale else layer.data
        model = Bundle.find(self._model.value).manifest
        if layer.rgb and model.input.channels == 1:
            raise ArgumentError(f"{layer.name} is in colour and {model.name} is of grey images")
        if not layer.rgb and model.input.channels == 3:
            raise ArgumentError(f"{layer.name} is grey and {model.name} is of colour images")
        pixel = {
            a: float(s) for a, s in zip("xyzct"[: layer.ndim], layer.scale[::-1], strict=False)
        }
        names = {"micrometer", "nanometer", "millimeter", "second"}
        units = {
            axis: str(unit)
            for axis, unit in zip("xyzct"[: layer.ndim], layer.units[::-1], strict=False)
            if str(unit) in names
        }
        return layer, ArrayPlanes(data, layer.name, color=layer.rgb, pixel=pixel, units=units)

    def _strength_changed(self, strength: float) -> None:
        self._strength.label = f"Strength {strength:.2f}"

    # The preview.

    def _preview_changed(self, wanted: bool) -> None:
        if wanted:
            self._debounced.throttle()
        else:
            self._number += 1
            self._remove_preview()

    def _changed(self, _event: object = None) -> None:
        if self._preview.value and self._worker is None:
            self._debounced.throttle()

    def _seen(self, layer: Any, source: ArrayPlanes) -> tuple[int, Region]:
        """Return the plane that is shown, and what of it is seen, at most its middle."""
        place = tuple(
            int(np.clip(round(at), 0, size - 1))
            for at, size in zip(
                layer.world_to_data(self._viewer.dims.point)[: len(source.stack)],
                source.stack,
                strict=True,
            )
        )
        plane = source.planes[0]
        corners = np.asarray(layer.corner_pixels)[:, len(source.stack) : len(source.stack) + 2]
        if layer.multiscale:
            steps = np.asarray(layer.downsample_factors[layer.data_level])[-2:]
            corners = corners * steps
        low = np.clip(corners[0], 0, (plane.height - 1, plane.width - 1)).astype(int)
        high = np.clip(corners[1] + 1, low + 1, (plane.height, plane.width)).astype(int)
        middle = (low + high) // 2
        low = np.maximum(low, middle - _PREVIEW_PX // 2)
        high = np.minimum(high, low + _PREVIEW_PX)
        top, left, height, width = (int(one) for one in (*low, *(high - low)))
        return source.places.index(place), Region(top, left, height, width)

    def _start_preview(self) -> None:
        if not self._preview.value or self._worker is not None:
            return
        try:
            layer, source = self._source()
            at, region = self._seen(layer, source)
            settings = self.settings
        except EdgerestoreError as error:
            self._tell(error)
            return
        self._number += 1
        plane = source.planes[at]
        work = partial(self._restoration.region, source, plane, region, settings)
        self._status.value = "Preview..."
        shown = partial(self._show_preview, self._number, layer, source.places[at], region)
        self._start(work, returned=shown, foreground=False)

    def _show_preview(
        self, number: int, layer: Any, place: tuple[int, ...], region: Region, image: Image
    ) -> None:
        if number != self._number or not self._preview.value:
            return
        up = image.shape[0] // region.height
        ends = len(layer.scale) - len(place)
        scale = np.asarray(layer.scale, float)
        translate = np.asarray(layer.translate, float) + scale * (*place, region.top, region.left)
        # The first pixel's middle lies where that of the smaller pixel does.
        finer = np.array([1.0] * len(place) + [up] * ends)
        translate += scale * (1 / finer - 1) / 2
        data = image[(None,) * len(place)]
        look = {
            "scale": scale / finer,
            "translate": translate,
            "contrast_limits": None if layer.rgb else layer.contrast_limits,
        }
        if _PREVIEW in self._viewer.layers:
            self._viewer.layers.remove(_PREVIEW)
        chosen = self._viewer.layers.selection.copy()
        colour = {} if layer.rgb else {"colormap": layer.colormap, "gamma": layer.gamma}
        self._viewer.add_image(
            data, name=_PREVIEW, rgb=layer.rgb, units=layer.units, **look, **colour
        )
        self._viewer.layers.selection = chosen
        self._status.value = f"Preview of {region.width} x {region.height} px"

    def _remove_preview(self) -> None:
        if _PREVIEW in self._viewer.layers:
            self._viewer.layers.remove(_PREVIEW)
        self._status.value = ""

    # All of the layer.

    def apply(self) -> Any:
        """Restore all of the layer into another one, in a thread.

        Returns
        -------
        GeneratorWorker or None
            None where nothing can be started, which is told.
        """
        try:
            layer, source = self._source()
            settings = self.settings
        except EdgerestoreError as error:
            self._tell(error)
            return None

        def work() -> Iterator[tuple[int, int] | Image]:
            yield from self._restoration.whole(source, settings, self._cancelled)

        made: list[Image] = []

        def take(step: tuple[int, int] | Image) -> None:
            if isinstance(step, tuple):
                self._show_progress(*step)
            else:
                made.append(step)

        def done(_result: object) -> None:
            self._show_restored(layer, settings, made[0])

        return self._start(work, returned=done, yielded=take)

    def export(self, path: Path) -> Any:
        """Restore all of the layer into an OME-Zarr store, in a thread; see `apply`."""
        try:
            _, source = self._source()
            settings = self.settings
        except EdgerestoreError as error:
            self._tell(error)
            return None

        def work() -> Iterator[tuple[int, int]]:
            steps: list[tuple[int, int]] = [(0, 1)]
            failure: list[BaseException] = []

            def fill() -> None:
                try:
                    self._restoration.store(
                        source, path, settings, self._cancelled, lambda *at: steps.append(at)
                    )
                except BaseException as error:
                    failure.append(error)

            thread = threading.Thread(target=fill, name="edgerestore-export")
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
                yield steps[-1]
            if failure:
                raise failure[0]

        def done(_result: object) -> None:
            self._status.value = f"{path.name} is written"

        return self._start(work, returned=done, yielded=lambda step: self._show_progress(*step))

    def _ask_and_export(self) -> None:
        from qtpy.QtWidgets import QFileDialog

        name, _ = QFileDialog.getSaveFileName(
            self.native, "Export as OME-Zarr", "restored.ome.zarr", "OME-Zarr (*.zarr)"
        )
        if name:
            path = Path(name)
            self.export(path if path.suffix == ".zarr" else path.with_name(f"{path.name}.ome.zarr"))

    def cancel(self) -> None:
        """Cancel what runs; it ends within a tile."""
        self._cancelled.set()

    def _show_restored(self, layer: Any, settings: LayerSettings, image: Image) -> None:
        up = (
            image.shape[layer.ndim - 2]
            // (layer.data[0] if layer.multiscale else layer.data).shape[layer.ndim - 2]
        )
        finer = np.array([1.0] * (layer.ndim - 2) + [up, up])
        scale = np.asarray(layer.scale, float)
        look = (
            {}
            if layer.rgb
            else {
                "contrast_limits": layer.contrast_limits,
                "colormap": layer.colormap,
                "gamma": layer.gamma,
            }
        )
        self._viewer.add_image(
            image,
            name=f"{layer.name} ({settings.model})",
            rgb=layer.rgb,
            scale=scale / finer,
            translate=np.asarray(layer.translate, float) + scale * (1 / finer - 1) / 2,
            units=layer.units,
            metadata={"edgerestore": settings._asdict()},
            **look,
        )
        self._status.value = "Done"

    # One piece of work at a time.

    def _start(self, work: Any, *, foreground: bool = True, **connect: Any) -> Any:
        from superqt.utils import create_worker

        if foreground:
            if self._worker is not None:
                return None
            self._cancelled.clear()
            self._number += 1
            self._remove_preview()
        worker = create_worker(
            work,
            _start_thread=False,
            _connect={**connect, "errored": self._tell},
        )
        if foreground:
            self._worker = worker
            self._busy(True)
            worker.finished.connect(self._finished)
        worker.start()
        return worker

    def _finished(self) -> None:
        self._worker = None
        self._busy(False)

    def _busy(self, busy: bool) -> None:
        self._progress.visible = self._cancel.enabled = busy
        self._progress.value = 0
        self._apply.enabled = self._export.enabled = not busy

    def _show_progress(self, done: int, total: int) -> None:
        self._progress.max, self._progress.value = total, done
        self._status.value = f"Region {done} of {total}"

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, CancelledError):
            self._status.value = "Cancelled"
            return
        self._status.value = str(error)
        if not isinstance(error, EdgerestoreError):
            raise error

    def _left(self, *_: object) -> None:
        self._cancelled.set()


def _models() -> list[str]:
    """Return the models that restore by region."""
    found = (Bundle.find(name).manifest for name in model_names())
    return [
        one.name
        for one in found
        if one.tiling.mode is TilingMode.EXACT and one.output.kind.traits.blended
    ]


def _devices() -> list[str]:
    """Return the devices that are there, the CPU first."""
    names = [device for runtime in all_runtimes() for device in runtime.devices()]
    return list(dict.fromkeys(["CPU", *names]))
