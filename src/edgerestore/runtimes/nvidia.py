"""NVIDIA's graphics cards, asked through the driver's management library (NVML) alone."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["GraphicsCard", "graphics_cards", "memory_used_bytes"]

_NAME_BYTES = 96


@dataclass(frozen=True)
class GraphicsCard:
    """One card.

    Parameters
    ----------
    index : int
        As in ``CUDA:1``.
    name : str
    memory_bytes : int
    compute_capability : str
        Such as ``8.9``.
    """

    index: int
    name: str
    memory_bytes: int
    compute_capability: str


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def graphics_cards() -> list[GraphicsCard]:
    """Return the cards that the driver has; none without a driver."""
    with _library() as nvml:
        if nvml is None:
            return []
        count = ctypes.c_uint()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        found = (_card(nvml, index) for index in range(count.value))
        return [card for card in found if card is not None]


def memory_used_bytes(index: int) -> int | None:
    """Return the memory of a card that is taken, by anybody; None where it cannot be read."""
    with _library() as nvml:
        handle = None if nvml is None else _handle(nvml, index)
        memory = None if handle is None else _memory(nvml, handle)
        return None if memory is None else int(memory.used)


@contextmanager
def _library() -> Iterator[Any]:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2():
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _handle(nvml: Any, index: int) -> ctypes.c_void_p | None:
    handle = ctypes.c_void_p()
    return None if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) else handle


def _memory(nvml: Any, handle: ctypes.c_void_p) -> _Memory | None:
    memory = _Memory()
    return None if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) else memory


def _card(nvml: Any, index: int) -> GraphicsCard | None:
    handle = _handle(nvml, index)
    if handle is None:
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    memory = _memory(nvml, handle)
    if memory is None or nvml.nvmlDeviceGetName(handle, name, _NAME_BYTES):
        return None
    if nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)):
        return None
    capability = f"{major.value}.{minor.value}"
    return GraphicsCard(index, name.value.decode(errors="replace"), int(memory.total), capability)
