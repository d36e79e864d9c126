"""Recipe of the default model ``deblur``: motion blur, defocus and light noise, an edge U-Net."""

from __future__ import annotations

from ...convert.architectures.edge_unet import EdgeUNet
from ...imaging.degradations import DegradationModel
from . import Recipe, Schedule

__all__ = ["RECIPE"]

RECIPE = Recipe(
    network=EdgeUNet,  # 206 thousand parameters; nothing but one convolution at full resolution
    degradation=DegradationModel(jpeg_share=0.15),  # else as the test protocol
    schedule=Schedule(),
    added=("astronaut", "coffee", "rocket", "camera"),
    validation=("chelsea",),
)
