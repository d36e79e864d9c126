"""Trained models on disk: what kind of file it is, told by its content, and its weights.

Nothing here executes what a file brings along. Pickles go through PyTorch's weights-only
reader, and one that needs code is refused.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError, first_line
from .unwrapping import SAVE_THE_WEIGHTS, State, unwrap

__all__ = ["SourceKind", "State", "load_folder", "load_state", "recognise", "unwrap"]


class SourceKind(StrEnum):
    """The kinds of file that conversion starts from."""

    STATE_DICT = "state dict"
    SAFETENSORS = "safetensors"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "exported program"
    ONNX = "ONNX"
    FOLDER = "folder of state dicts"


def recognise(path: Path) -> SourceKind:
    """Tell what a file is from its content; the suffix decides nothing.

    Parameters
    ----------
    path : Path

    Returns
    -------
    SourceKind

    Raises
    ------
    CheckpointError
        When the file is missing, empty, damaged, or none of the kinds.
    """
    if path.is_dir():
        return SourceKind.FOLDER
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if size == 0:
        raise CheckpointError(f"{path}: is empty (0 bytes)")
    if head.startswith(b"PK\x03\x04"):
        return _recognise_zip(path)
    if head[8:9] == b"{":
        if 8 + int.from_bytes(head[:8], "little") > size:
            raise CheckpointError(f"{path}: is truncated, copy or download it again")
        return SourceKind.SAFETENSORS
    if head[:1] == b"\x80":  # the PROTO opcode every pickle of version 2 and later opens with
        return SourceKind.STATE_DICT
    if head[:1] == b"\x08":  # protobuf field 1, a varint: the IR version of an ONNX model
        return SourceKind.ONNX
    raise CheckpointError(
        f"{path}: is no PyTorch checkpoint, safetensors, TorchScript, .pt2 or ONNX file"
    )


def _recognise_zip(path: Path) -> SourceKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: is truncated, copy or download it again") from error
    if "models/model.json" in names or "archive_format" in names:
        return SourceKind.EXPORTED
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return SourceKind.TORCHSCRIPT
    if "data.pkl" in names:
        return SourceKind.STATE_DICT
    raise CheckpointError(f"{path}: is a zip archive but no PyTorch file")


def load_state(path: Path, kind: SourceKind | None = None) -> State:
    """Read the weights of a state dict file, free of its trainer's wrapping.

    Parameters
    ----------
    path : Path
    kind : SourceKind or None
        ``STATE_DICT`` or ``SAFETENSORS``; None recognises it.

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the dtypes of the file, named as the file names them except for the
        prefixes that training wrappers add (``module.``, ``_orig_mod.``).

    Raises
    ------
    CheckpointError
        When the file is damaged, needs code to load, or holds no weights.
    """
    kind = kind or recognise(path)
    if kind is SourceKind.SAFETENSORS:
        return unwrap(_load_safetensors(path), path)
    return unwrap(_load_pickle(path), path)


def load_folder(path: Path) -> State:
    """Read a network whose parts were saved as files of their own.

    Parameters
    ----------
    path : Path
        A folder; what is no state dict in it is passed over.

    Returns
    -------
    dict of str to Tensor
        All weights, each with its file's name before its own: ``classifier.model.1.weight``.

    Raises
    ------
    CheckpointError
        When there is no state dict, or one is damaged.
    """
    parts = sorted(file for file in path.iterdir() if file.is_file() and _holds_state(file))
    if not parts:
        raise CheckpointError(f"{path}: holds no state dict")
    state: State = {}
    for part in parts:
        safe = recognise(part) is SourceKind.SAFETENSORS
        content = _load_safetensors(part) if safe else _load_pickle(part)
        state |= dict(_flattened(content, part.stem))
    return state


def _holds_state(file: Path) -> bool:
    try:
        return recognise(file) in (SourceKind.STATE_DICT, SourceKind.SAFETENSORS)
    except CheckpointError:
        return False


def _flattened(content: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flattened(value, f"{prefix}.{name}")


def _load_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: Mapping[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error
    return tensors


def _load_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The weights-only reader has one exception for "needs code" and for "damaged".
        if "nsupported" not in str(error):
            raise CheckpointError(f"{path}: is damaged; {SAVE_THE_WEIGHTS}") from error
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(
            f"{path}: holds pickled code{f' ({needed.group(1)})' if needed else ''},"
            f" which is never executed; {SAVE_THE_WEIGHTS}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error
