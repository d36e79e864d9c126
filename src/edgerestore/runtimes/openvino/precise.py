"""Operations that are computed in f32 whatever precision the rest of a graph runs in.

OpenVINO has a mark for that, ``precise``, which its Python API can read from an IR but not
set. So graphs are marked as text.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import openvino as ov
from openvino import opset1, utils

from .graph import shared_core

__all__ = ["keep_in_f32", "kept_in_f32", "runs_in_half", "with_older_pads"]

_MARK = '<attribute name="precise" version="0" />'


def keep_in_f32(ir: Path, names: str) -> None:
    """Mark layers of an IR file.

    Parameters
    ----------
    ir : Path
        The ``.xml``; rewritten where there is something to mark.
    names : str
        Regular expression that a layer's name matches in full.
    """

    def marked(layer: re.Match[str]) -> str:
        head, body = layer["head"], layer["body"]
        if "<rt_info>" in body:
            return head + body.replace("<rt_info>", f"<rt_info>{_MARK}", 1)
        return f"{head}<rt_info>{_MARK}</rt_info>{body}"

    layers = re.compile(
        rf'(?P<head><layer id="\d+" name="(?:{names})"[^>]*>)(?P<body>(?s:.*?)</layer>)'
    )
    text = ir.read_text(encoding="utf-8")
    found = layers.sub(marked, text)
    if found != text:
        ir.write_text(found, encoding="utf-8")


def runs_in_half(node: ov.Node) -> bool:
    """Return whether other runtimes compute a node in halves: of the network, and not marked."""
    marks = node.get_rt_info()
    marked = any(str(key).startswith("DisablePrecisionConversion") for key in marks)
    return node.get_friendly_name().startswith("core/") and not marked


def kept_in_f32(model: ov.Model, names: str) -> ov.Model:
    """Return a graph with marked operations, by way of a file.

    Parameters
    ----------
    model : openvino.Model
        A small one: it is written out and read back.
    names : str
        As `keep_in_f32` takes them.
    """
    with tempfile.TemporaryDirectory(prefix="edgerestore-") as folder:
        path = Path(folder) / "graph.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        keep_in_f32(path, names)
        # From memory, so that nothing of the graph hangs on the file.
        weights = path.with_suffix(".bin").read_bytes()
        return shared_core().read_model(path.read_bytes(), weights)


def with_older_pads(model: ov.Model, names: str) -> None:
    """Spell pads as OpenVINO's compiler would, which drops the mark when it does.

    Parameters
    ----------
    model : openvino.Model
        Changed in place.
    names : str
        As `keep_in_f32` takes them.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Pad" and re.fullmatch(names, node.get_friendly_name()):
            older = opset1.pad(*node.input_values()[:3], node.get_attributes()["pad_mode"])
            older.set_friendly_name(node.get_friendly_name())
            utils.replace_node(node, older)
