"""A bundle's graph with its pixels, as the other runtimes translate it."""

from __future__ import annotations

import openvino

from ...bundle.bundle import Bundle
from ...bundle.precision import Precision
from ..protocol import QueueSpec
from .graph import shared_core, translated
from .pixels import attach_pixels

__all__ = ["FinishedGraphs"]


class FinishedGraphs:
    """Graphs of one bundle at one precision, each with the pixels of a queue.

    Parameters
    ----------
    bundle : Bundle
    precision : Precision

    Raises
    ------
    BundleError
        When the bundle lacks the variant, or its files were changed.
    InferenceError
        When the graph cannot be read.
    """

    def __init__(self, bundle: Bundle, precision: Precision) -> None:
        self._manifest = bundle.manifest
        graph = bundle.variant_files(precision.stored)[0]
        with translated(f"reading {graph}"):
            self._model = shared_core().read_model(graph)

    def finished(self, spec: QueueSpec) -> openvino.Model:
        """Return the graph of a queue: the inputs and the output of `attach_pixels`.

        Raises
        ------
        InferenceError
            When the graph does not take the shape.
        """
        doing = f"preparing {self._manifest.name} for {spec.width}x{spec.height}"
        with translated(doing):
            return attach_pixels(self._model.clone(), spec, self._manifest)
