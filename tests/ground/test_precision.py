"""The one vocabulary of precisions."""

import json

import pytest

from edgerestore.bundle.precision import STORED_VARIANTS, Precision


@pytest.mark.parametrize(
    ("typed", "stored", "hint", "half"),
    [
        ("fp32", "fp32", "f32", False),
        ("bf16", "fp16", "bf16", True),
        ("tf32", "fp32", "tf32", False),
        ("fp16", "fp16", "f16", True),
        ("int8", "int8", "int8", False),
    ],
)
def test_each_precision_has_its_variant_and_its_hint(typed, stored, hint, half):
    precision = Precision(typed)
    assert (precision.stored, precision.hint, precision.is_half) == (stored, hint, half)
    assert precision.stored in STORED_VARIANTS


def test_precisions_are_strings():
    assert json.dumps([*Precision]) == '["fp32", "tf32", "bf16", "fp16", "int8"]'
    assert f"{Precision.BF16}" == "bf16"
