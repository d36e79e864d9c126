"""The networks that conversion knows by their weights: one file each.

A network's module follows one convention. ``forward`` returns the restored image. A module
that corrects its input also has ``residual(image)``, which returns what is to be *added* to
the image; then that is what is exported, so that the addition stays in float 32 whatever
the precision of the layers. ``arguments_from(state)`` reads the constructor's arguments off
the shapes of a state dict. ``ARCHITECTURE`` says by which names the weights are known.

To add a network: put its module in a file here and name it in the list below. A network
matches when all of ``required`` are among the names and every name matches ``allowed``;
naming the whole vocabulary is what keeps one network's weights from being taken for
another's.
"""

from __future__ import annotations

from ..architectures import (
    dncnn,
    edge_unet,
    extremec3,
    global_generator,
    imdn,
    lut3d,
    mprnet,
    nafnet,
    resnet_generator,
    rfdn,
    rlfn,
    shift_regressor,
    sinet,
    srresnet,
    u2net,
    unet_generator,
)
from .registry import Architecture, Registry

__all__ = ["REGISTRY", "Architecture", "Registry"]

_MODULES = (
    edge_unet,
    dncnn,
    imdn,
    rfdn,
    rlfn,
    lut3d,
    mprnet,
    nafnet,
    unet_generator,
    resnet_generator,
    global_generator,
    srresnet,
    u2net,
    sinet,
    extremec3,
    shift_regressor,
)

REGISTRY = Registry(module.ARCHITECTURE for module in _MODULES)
"""The networks that ship with the package."""
