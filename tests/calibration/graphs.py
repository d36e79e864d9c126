"""Graphs for fine-tuning: small networks with a face, and single operations between its ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import openvino
import torch
from openvino import opset13 as ops
from torch import nn

from edgerestore.convert.architectures.dncnn import DnCNN
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.architectures.imdn import IMDN
from edgerestore.convert.architectures.rfdn import RFDN
from edgerestore.convert.architectures.rlfn import RLFN
from edgerestore.convert.graph.signature import Signature


def one_block(network: nn.Module) -> nn.Module:
    """Leave one of four equal blocks: exporting takes time by the node."""
    for name in ("B2", "B3", "B4"):
        setattr(network, name, nn.Identity())
    return network


def uneven() -> nn.Module:
    """Return convolutions whose channels are up to 64 times as loud as others."""
    layers = [nn.Conv2d(3, 16, 3, padding=1), *(nn.Conv2d(16, 16, 3, padding=1) for _ in "ab")]
    for before, after in itertools.pairwise(layers):
        loudness = torch.logspace(-6, 0, 16, base=2.0)
        with torch.no_grad():
            before.weight *= loudness[:, None, None, None]
            before.bias = nn.Parameter(loudness / 8)
            after.weight /= loudness[None, :, None, None]
    within = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(*within, nn.Conv2d(16, 3, 3, padding=1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Signature]] = {
    "imdn": (lambda: IMDN(3, 8, 2, 2), Signature(3, 3, upscale=2)),
    "rfdn": (lambda: one_block(RFDN(3, 8, 4, 2)), Signature(3, 3, upscale=2)),
    "rlfn": (lambda: one_block(RLFN(3, 6, 8, 4, 2)), Signature(3, 3, value_range=255.0, upscale=2)),
    "edge_unet": (lambda: EdgeUNet(3, (4, 6, 8), (1, 1, 1)), Signature(3, 3, "bgr", 1.0, 8, 8)),
    "uneven": (uneven, Signature(3, 3)),
    "dncnn": (lambda: DnCNN(1, 8, 4), Signature(1, 1, residual=True)),
}


def constant(*shape: int, seed: int = 5) -> openvino.Node:
    return ops.constant(np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32))


def numbers(*values: int) -> openvino.Node:
    return ops.constant(np.array(values, np.int64))


def faced(make: Callable[[openvino.Node], openvino.Node]) -> openvino.Model:
    """Return a graph with a face's inputs and output around an operation."""
    image = ops.parameter([1, 4, -1, -1], np.float32, "image")
    strength = ops.parameter([1, 1, 1, 1], np.float32, "strength")
    image.output(0).set_names({"image"})
    strength.output(0).set_names({"strength"})
    result = ops.result(ops.multiply(make(image), strength))
    result.output(0).set_names({"restored"})
    return openvino.Model([result], [image, strength], "faced")
