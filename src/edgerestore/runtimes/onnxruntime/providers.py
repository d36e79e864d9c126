"""Providers of ONNX Runtime: which can be loaded, found out without importing the library.

`get_available_providers` lists CUDA and TensorRT wherever the library was built for them, on
machines that have neither; what decides is which files are there.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PROVIDERS", "install_fault", "provider_state", "quiet_stdout"]

PROVIDERS = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TENSORRT": "TensorrtExecutionProvider",
}
"""ONNX Runtime's name of the provider of each kind of device."""

_NEEDED = {"CUDA": ("cudart", "cudnn"), "TENSORRT": ("nvinfer", "cudart")}
_WHEELS = {"onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"}


def install_fault() -> str | None:
    """Return what is wrong with the installed library and how to repair it; None where it is whole.

    Wheels of several builds share a folder: the last one installed overwrites the others, and
    removing one breaks the rest.
    """
    builds = [name for name in sorted(_WHEELS) if _installed(name)]
    if len(builds) > 1:
        return (
            f"{' and '.join(builds)} break each other: pip uninstall -y {' '.join(builds)}"
            f" && pip install {'onnxruntime-gpu' if 'onnxruntime-gpu' in builds else builds[0]}"
        )
    folder = _folder()
    if folder is None:
        if builds:
            return f"{builds[0]} is half removed: pip install --force-reinstall {builds[0]}"
        return "is not installed: pip install 'edgerestore[onnx]'"
    if not list((folder / "capi").glob("onnxruntime_pybind11_state*")):
        build = builds[0] if builds else "onnxruntime"
        return (
            f"capi/onnxruntime_pybind11_state.so is missing: pip install --force-reinstall {build}"
        )
    if find_spec("onnx") is None:
        return "needs onnx: pip install 'edgerestore[onnx]'"
    return None


def provider_state(kind: str) -> str | None:
    """Return why a provider cannot be loaded; None where it can.

    Parameters
    ----------
    kind : str
        ``CUDA`` or ``TENSORRT``.
    """
    folder = _folder()
    library = f"libonnxruntime_providers_{kind.lower()}.so"
    if folder is None or not (folder / "capi" / library).is_file():
        return f"{library} is missing: pip install 'edgerestore[cuda]' in place of onnxruntime"
    for name in _NEEDED[kind]:
        if not _library(name):
            wheels = {"nvinfer": "tensorrt", "cudnn": "nvidia-cudnn-cu12"}
            wheel = wheels.get(name, "nvidia-cuda-runtime-cu12")
            return f"lib{name}.so is missing: pip install {wheel}"
    return None


_opened: set[str] = set()


@contextmanager
def quiet_stdout(kind: str) -> Iterator[None]:
    """Send what a provider writes to standard output as it loads to standard error.

    Standard output may carry frames, so this is done for the first session of a kind alone,
    before it has restored any.
    """
    if kind == "CPU" or kind in _opened:
        yield
        return
    _opened.add(kind)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _folder() -> Path | None:
    spec = find_spec("onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder if (folder / "__init__.py").is_file() else None


def _library(name: str) -> bool:
    """Return whether a shared library is on the loader's path or in NVIDIA's wheels."""
    if ctypes.util.find_library(name):
        return True
    spec = find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return any(next(Path(one).glob(f"*/lib/lib{name}*.so*"), None) for one in folders)
