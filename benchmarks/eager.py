"""The default network in PyTorch, eager: what the engine replaces."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from edgerestore.bundle.bundle import Bundle
from edgerestore.convert.architectures.edge_unet import EdgeUNet

__all__ = ["layouts", "network", "restore"]

Picture = NDArray[np.uint8]


def network(bundle: Bundle) -> tuple[EdgeUNet, bool]:
    """Return the bundle's network, and whether its weights could be read from its ONNX file.

    Without them they are random: a network takes the same time whatever its weights are.
    """
    path = bundle.folder / "model.onnx"
    state = _weights(path.read_bytes()) if path.is_file() else {}
    wanted = set(EdgeUNet().state_dict())
    # Exporters put the path of the module in front.
    state = {
        name[name.find(key) :]: v for name, v in state.items() for key in wanted if key in name
    }
    if not wanted <= set(state):
        torch.manual_seed(7)
        return EdgeUNet().eval(), False
    made = EdgeUNet(**EdgeUNet.arguments_from(state))
    made.load_state_dict({name: state[name] for name in wanted})
    return made.eval(), True


def layouts(made: EdgeUNet) -> tuple[EdgeUNet, EdgeUNet]:
    """Return the network with its weights in both memory layouts; machines differ in taste."""
    return made, copy.deepcopy(made).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def restore(made: EdgeUNet, picture: Picture) -> Picture:
    """Restore u8 ``[H, W, C]`` the way a script would: bytes in, bytes out."""
    with torch.inference_mode():
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float().div(255)
        restored = made(image).clamp(0, 1).mul(255).round().to(torch.uint8)
        return np.ascontiguousarray(restored[0].permute(1, 2, 0).numpy())


def _weights(content: bytes) -> dict[str, torch.Tensor]:
    import onnx

    graph = onnx.load_model_from_string(content).graph
    return {
        w.name: torch.from_numpy(onnx.numpy_helper.to_array(w).copy()) for w in graph.initializer
    }
