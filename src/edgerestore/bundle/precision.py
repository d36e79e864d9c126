"""Inference precisions: what users type, the stored variant that serves each, OpenVINO's hint."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["STORED_VARIANTS", "Precision"]

STORED_VARIANTS = ("fp32", "fp16", "int8")
"""Variants that a bundle may hold: ONNX in f32, IR with f16 weights, IR quantized to INT8."""


class Precision(StrEnum):
    """The numbers that a model is computed in, as ``--precision`` and `load` take it.

    Members are strings: they compare, sort, format and serialise as ``fp32``, ``bf16``,
    ``fp16``, ``int8`` and ``tf32``, f32 whose products are rounded to ten bits of mantissa on
    tensor cores: never what ``fp32`` means.
    """

    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"

    @property
    def stored(self) -> str:
        """The stored variant of a bundle that serves it, one of `STORED_VARIANTS`."""
        return {"bf16": "fp16", "tf32": "fp32"}.get(self.value, self.value)

    @property
    def hint(self) -> str:
        """Its name in OpenVINO and in what conversion records: ``f32``, ``bf16``, ``f16``.

        ``int8`` has no hint: it is recorded under its own name, and its float operations run
        at the hint of a float precision.
        """
        return {"fp32": "f32", "fp16": "f16"}.get(self.value, self.value)

    @property
    def is_half(self) -> bool:
        """Whether it is a 16-bit float."""
        return self in (Precision.BF16, Precision.FP16)
