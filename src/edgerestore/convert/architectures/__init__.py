"""Architectures that conversion recognises by their weights: one file each.

A network's module follows one convention. ``forward`` returns the restored image. A module
that corrects its input also has ``residual(image)``, which returns what is to be *added* to
the image; then that is what is exported, so that the addition stays in float 32 whatever
the precision of the layers. ``arguments_from(state)`` reads the constructor's arguments off
the shapes of a state dict. ``ARCHITECTURE`` says by which names the weights are known.

To add an architecture, put its module in a file here and its name in the list below; another
package offers its ``ARCHITECTURE`` under an entry point of the group ``edgerestore.architectures``.
Weights match when all of ``required`` are among their names and every name matches ``allowed``;
naming the whole vocabulary keeps one network's weights from being taken for another's.
"""

from __future__ import annotations

from importlib import import_module

from .registry import Architecture, Registry

__all__ = ["GROUP", "REGISTRY", "Architecture", "Registry"]

GROUP = "edgerestore.architectures"
"""Entry points of architectures: each refers to an `Architecture` of the same name."""

_MODULES = (
    "edge_unet",
    "shuffle_unet",
    "dncnn",
    "imdn",
    "rfdn",
    "rlfn",
    "lut3d",
    "mprnet",
    "nafnet",
    "unet_generator",
    "resnet_generator",
    "global_generator",
    "srresnet",
    "srvgg",
    "rrdbnet",
    "safmn",
    "carn",
    "fsrcnn",
    "vdsr",
    "bsrn",
    "dmphn",
    "restormer",
    "swinir",
    "u2net",
    "cutout_unet",
    "sinet",
    "extremec3",
    "shift_regressor",
)

REGISTRY = Registry(
    (import_module(f".{name}", __name__).ARCHITECTURE for name in _MODULES), group=GROUP
)
"""Known architectures: those of the package, then those of entry points."""
