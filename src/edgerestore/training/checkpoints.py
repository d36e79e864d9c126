"""Checkpoints of a training run: written whole or not at all, and refused by another run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, SinkError, first_line

__all__ = ["load_checkpoint", "save_beside"]


def save_beside(state: Mapping[str, Any], path: Path) -> None:
    """Write a PyTorch file beside its place, and move it there when it is whole.

    Raises
    ------
    SinkError
        When it cannot be written; an earlier file is left as it was.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        kept = "; the one before is kept" if path.exists() else ""
        raise SinkError(f"{path}: cannot be written: {first_line(error)}{kept}") from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint of `edgerestore train`; None where there is no file.

    Raises
    ------
    CheckpointError
        When it is damaged or none.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises whatever the damage leads to
        raise CheckpointError(f"{path}: is damaged; remove it to start anew") from error
    if not isinstance(state, dict) or not {"recipe", "step", "schedule"} <= state.keys():
        raise CheckpointError(
            f"{path}: is no checkpoint of edgerestore train; use another folder for -o"
        )
    return state
