"""Trained models on disk: recognition of the file by its content, and reading of its weights.

Nothing here executes what a file brings along. Pickles go through PyTorch's weights-only reader,
and one that needs code is refused.
"""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, first_line
from ..architectures import REGISTRY
from ..architectures.discriminators import find_discriminator

__all__ = [
    "SAVE_THE_WEIGHTS",
    "SourceKind",
    "State",
    "load_folder",
    "load_state",
    "recognise",
    "unwrap",
]


_logger = logging.getLogger(__name__)

State = dict[str, Tensor]
"""Weights by name, as ``torch.nn.Module.load_state_dict`` takes them."""

SAVE_THE_WEIGHTS = "save the weights alone: torch.save(network.state_dict(), 'weights.pth')"

# Averaged weights (EMA: an exponential moving average) are what a model is published with, so
# they come before the raw ones: as an entry of a checkpoint, or as a prefix of its weights.
_AVERAGED = re.compile(r"(.*_)?ema(_.*)?|average", re.IGNORECASE)
# Entries that hold the weights in checkpoints of the common trainers, best first.
_ENTRIES = (
    "params",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "net_g",
    "netG",
    "netG_state_dict",
    "generator",
    "generator_state_dict",
    "gen",
    "gen_state_dict",
    "g_state",
    "g_state_dict",
    "G",
    "G_state_dict",
    "weights",
)
_DEEPEST = 4


def unwrap(content: object, where: Path | str = "checkpoint") -> State:
    """Unwrap a checkpoint: find the state dict inside what a trainer saved.

    Parameters
    ----------
    content : object
        A state dict, or mappings around one (``state_dict``, ``params_ema``, ``model``, ...).
    where : Path or str
        Named in errors.

    Raises
    ------
    CheckpointError
        When there are no weights, or several sets and no way to tell which.
    """
    found = _find(content, where, 0)
    if marks := sorted(_quantized_names(content, 0)):
        more = f" and {len(marks) - 2} more" if len(marks) > 2 else ""
        raise CheckpointError(
            f"{where}: is quantized already ({', '.join(marks[:2])}{more}); convert the float"
            " checkpoint, edgerestore quantizes it"
        )
    if not found:
        raise CheckpointError(f"{where}: holds no weights; {SAVE_THE_WEIGHTS}")
    return _without_training_prefixes(_averaged(found, where))


def _averaged(state: State, where: Path | str) -> State:
    """Return the averaged ones of weights that a checkpoint holds twice, under two prefixes."""
    groups: dict[str, State] = {}
    for name, value in state.items():
        head, _, rest = name.partition(".")
        groups.setdefault(head, {})[rest] = value
    for head, average in groups.items():
        if not _AVERAGED.fullmatch(head):
            continue
        for other, raw in groups.items():
            # Some trainers leave the dots out of the names of buffers.
            values = {name.replace(".", ""): value for name, value in average.items()}
            names = {name: name.replace(".", "") for name in raw}
            if other != head and len(raw) > 1 and values.keys() >= set(names.values()):
                _logger.info("%s: the averaged weights are taken: %s, not %s", where, head, other)
                return {name: values[squashed] for name, squashed in names.items()}
    return state


def _find(content: object, where: Path | str, depth: int) -> State:
    # An optimizer keeps tensors too, two levels down and named by number.
    if not isinstance(content, Mapping) or depth > _DEEPEST or "param_groups" in content:
        return {}
    averages = [name for name in content if _AVERAGED.fullmatch(str(name))]
    for entry in (*averages, *_ENTRIES):
        inner = _find(content.get(entry), where, depth + 1)
        if inner:
            if entry in averages:
                _logger.info("%s: the averaged weights are taken: %s", where, entry)
            return inner
    nested = {
        str(name): inner
        for name, value in content.items()
        if "optim" not in str(name) and (inner := _find(value, where, depth + 1))
    }
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if len(own) > 1 or not nested:
        return own
    if len(nested) > 1:
        if (known := _only_known(nested)) is not None:
            return known
        names = [f"{name}.{key}" for name, state in nested.items() for key in state]
        if whole := REGISTRY.whole_of(names, Path(where).stem):
            raise CheckpointError(
                f"{where}: is a part of {whole.name};"
                " name the folder that holds the other parts too"
            )
        raise CheckpointError(
            f"{where}: holds several sets of weights ({', '.join(sorted(nested)[:6])});"
            " save the one to convert alone"
        )
    return next(iter(nested.values()))


def _only_known(sets: Mapping[str, State]) -> State | None:
    """Choose the set of a known network, or the only one that is no discriminator."""
    clean = {name: _without_training_prefixes(state) for name, state in sets.items()}
    known = [name for name, state in clean.items() if REGISTRY.fitting(state)]
    others = [name for name, state in clean.items() if find_discriminator(state) is None]
    for left in (known, others):
        if len(left) == 1:
            return clean[left[0]]
    return None


def _quantized_names(content: object, depth: int) -> Iterator[str]:
    """Yield the names by which PyTorch's own quantization shows: packed weights, zero points."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    for key, value in content.items():
        name = str(key)
        stem, _, last = name.rpartition(".")
        beside = f"{stem}.scale" if stem else "scale"
        if (
            last == "_packed_params"
            or (last == "zero_point" and beside in content)
            or (isinstance(value, Tensor) and value.is_quantized)
        ):
            yield name
        yield from _quantized_names(value, depth + 1)


def _without_training_prefixes(state: Mapping[str, Any]) -> State:
    # AveragedModel counts its updates beside the weights.
    weights = {name: value for name, value in state.items() if name != "n_averaged"}
    for prefix in ("module.", "_orig_mod.", "module."):
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


class SourceKind(StrEnum):
    """The kinds of file that conversion starts from."""

    STATE_DICT = "state dict"
    SAFETENSORS = "safetensors"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "exported program"
    ONNX = "ONNX"
    FOLDER = "folder of state dicts"


_UNKNOWN = "is no PyTorch checkpoint, safetensors, TorchScript, .pt2 or ONNX file"
# What downloads leave behind in place of a model, by how it begins.
_NO_MODELS = {
    b"version https://": "is a pointer of Git LFS and not the file; fetch that with git lfs pull",
    **dict.fromkeys(
        (b"<!doctype html", b"<html"),
        "is a web page that was saved in place of the file; use the link of the file itself",
    ),
}


def recognise(path: Path) -> SourceKind:
    """Recognise the kind of a file by its content; the suffix decides nothing.

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
            head = file.read(32)
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
    begins = head.lstrip().lower()
    found = [what for mark, what in _NO_MODELS.items() if begins.startswith(mark)]
    raise CheckpointError(f"{path}: {found[0] if found else _UNKNOWN}")


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
    """Read the weights of a state dict file, unwrapped.

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
    load = _load_safetensors if kind is SourceKind.SAFETENSORS else _load_pickle
    return _checked(unwrap(load(path), path), path)


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
    return _checked(state, path)


# A tensor that is larger than its storage (of stride 0) is no weight, if it is large at all.
_LARGEST_VIEW = 1 << 26


def _checked(state: State, where: Path | str) -> State:
    """Return weights as they are, if all of them are numbers that are there.

    Raises
    ------
    CheckpointError
        For a tensor without numbers (of the meta device), one that is sparse, one that claims
        more bytes than are stored, and one that holds NaN or infinity.
    """
    for name, value in state.items():
        if value.is_meta:
            problem = "has a shape and no numbers (saved from the meta device)"
        elif value.layout is not torch.strided:
            problem = f"is {str(value.layout).removeprefix('torch.')}; save it dense"
        elif (claimed := value.numel() * value.element_size()) > max(
            _LARGEST_VIEW, value.untyped_storage().nbytes()
        ):
            problem = f"claims {claimed / 1e9:.3g} GB, which are not stored"
        elif value.is_floating_point() and not value.isfinite().all():
            problem = "holds NaN or infinity; the training it comes from had failed"
        else:
            continue
        raise CheckpointError(f"{where}: {name} {problem}")
    return state


def _holds_state(file: Path) -> bool:
    try:
        return recognise(file) in (SourceKind.STATE_DICT, SourceKind.SAFETENSORS)
    except CheckpointError:
        return False


def _flattened(content: object, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping) and depth <= _DEEPEST:
        for name, value in content.items():
            yield from _flattened(value, f"{prefix}.{name}", depth + 1)


def _load_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: Mapping[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error
    return tensors


# What a zip archive says of itself comes on top of what it stores.
_ARCHIVE_BYTES = 1 << 24


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that grows when it is read: PyTorch compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        grown = sum(one.file_size for one in archive.infolist())
    if grown > path.stat().st_size + _ARCHIVE_BYTES:
        raise CheckpointError(
            f"{path}: is compressed and would grow to {grown / 1e9:.3g} GB; PyTorch compresses"
            " nothing, so this is no file of its"
        )


def _load_pickle(path: Path) -> object:
    if zipfile.is_zipfile(path):
        _refuse_bomb(path)
    try:
        # Lightning keeps the arguments of a run beside its weights.
        allowed = torch.serialization.safe_globals([argparse.Namespace])
        with warnings.catch_warnings(), allowed:
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
    except Exception as error:  # a damaged pickle fails in any way there is
        raise CheckpointError(f"{path}: is damaged: {first_line(error)}") from error
