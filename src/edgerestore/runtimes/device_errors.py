"""Errors of devices, told apart by what the libraries say of them."""

from __future__ import annotations

import re

from ..errors import DeviceLostError, InferenceError, OutOfDeviceMemoryError

__all__ = ["device_error_kind"]

# Texts of CUDA, cuDNN, OpenCL, Level Zero, PyTorch, ONNX Runtime and OpenVINO.
_MEMORY = re.compile(
    r"out of memory|out_of_(device|host)_memory|CL_MEM_OBJECT_ALLOCATION_FAILURE"
    r"|CL_OUT_OF_(HOST_MEMORY|RESOURCES)|bad_alloc|failed to allocate|not enough memory"
    r"|exceeded max size of memory|DefaultCPUAllocator: can't allocate|ALLOC_FAILED",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"device[_ ]lost|unspecified launch failure|illegal memory access|device-side assert"
    r"|launch timed out|uncorrectable ECC|fallen off the bus|CL_DEVICE_NOT_AVAILABLE"
    r"|device not ready|cudaErrorDevicesUnavailable|CL_INVALID_COMMAND_QUEUE",
    re.IGNORECASE,
)


def device_error_kind(
    error: BaseException, otherwise: type[InferenceError] = InferenceError
) -> type[InferenceError]:
    """Return our class for an error of an inference library."""
    text = str(error)
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return OutOfDeviceMemoryError
    return DeviceLostError if _LOST.search(text) else otherwise
