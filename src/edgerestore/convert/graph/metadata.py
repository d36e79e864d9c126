"""Facts that travel inside the graphs: ONNX ``metadata_props`` and the IR's ``rt_info``.

``model_info`` holds the keys that OpenVINO's own tools read; ``edgerestore`` holds ours.
``model_info/scale`` is never written: to other tools it divides the input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino
    from onnx import ModelProto

    from ...bundle.manifest import InputPort, Manifest, OutputPort

__all__ = ["facts_for_graphs", "write_onnx_facts", "write_rt_info"]


def facts_for_graphs(manifest: Manifest) -> dict[str, str]:
    """Return the facts by ``section/key``, all as text."""
    ours = {
        "name": manifest.name,
        "task": manifest.task,
        "licence": manifest.licence,
        "inputs": _listed(manifest.inputs),
        "outputs": _listed(manifest.outputs),
        "color": manifest.input.color,
        "multiple_of": manifest.input.multiple_of,
        "minimum_px": manifest.input.minimum_px,
        "output_kind": manifest.output.kind,
        "upscale": manifest.output.upscale,
        "strength": manifest.strength,
        "tiling": manifest.tiling.mode,
        "halo_px": manifest.tiling.halo_px,
        "window_px": manifest.tiling.window_px,
        "ramp_px": manifest.tiling.ramp_px,
    }
    theirs = {
        # The image goes in as it is: range, colour order and padding are inside the graph.
        "model_type": manifest.output.kind.traits.model_type,
        "layout": " ".join(f"{port.name}:NCHW" for port in manifest.inputs),
        "input_dtype": "f32",
        "reverse_input_channels": "NO",
        "embedded_processing": "YES",
    }
    facts = {f"model_info/{name}": value for name, value in theirs.items()}
    facts |= {f"edgerestore/{name}": str(v) for name, v in ours.items() if v is not None}
    return facts


def _listed(ports: Iterable[InputPort | OutputPort]) -> str:
    return " ".join(f"{port.name}:{port.kind}:{port.channels}" for port in ports)


def write_onnx_facts(model: ModelProto, facts: dict[str, str]) -> None:
    """Store the facts in an ONNX model, in a fixed order."""
    del model.metadata_props[:]
    for name in sorted(facts):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, facts[name]


def write_rt_info(model: openvino.Model, facts: dict[str, str]) -> None:
    """Store the facts in an OpenVINO model."""
    for name in sorted(facts):
        model.set_rt_info(facts[name], name.split("/"))
