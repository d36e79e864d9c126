"""From a trained PyTorch or ONNX model to a verified bundle; needs the ``convert`` extra."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import ConversionResult, convert
    from .quantization import QuantizationOptions, QuantizationResult, quantize

__all__ = [
    "ConversionResult",
    "QuantizationOptions",
    "QuantizationResult",
    "convert",
    "quantize",
]

_HOMES = {
    "ConversionResult": "pipeline",
    "convert": "pipeline",
    "QuantizationOptions": "quantization",
    "QuantizationResult": "quantization",
    "quantize": "quantization",
}
_EXTRA = ("torch", "onnx", "onnxruntime", "onnxscript", "nncf")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import MissingExtraError
    from ..extensions import install_command

    try:
        home = import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _EXTRA:
            raise MissingExtraError(
                f"conversion needs {error.name}: {install_command('convert')}"
            ) from error
        raise
    return getattr(home, name)
