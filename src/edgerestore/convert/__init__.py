"""From a trained PyTorch or ONNX model to a verified bundle; needs the ``convert`` extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import ConversionResult, convert

__all__ = ["ConversionResult", "convert"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..errors import MissingExtraError

    try:
        from . import pipeline
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("torch", "onnx", "onnxruntime", "onnxscript"):
            raise MissingExtraError(
                f"conversion needs {error.name}: pip install 'edgerestore[convert]'"
            ) from error
        raise
    return getattr(pipeline, name)
