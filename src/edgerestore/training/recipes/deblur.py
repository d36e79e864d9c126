"""Recipe of the default model ``deblur``: motion blur, defocus and light noise, an edge U-Net."""

from __future__ import annotations

from ...convert.architectures.edge_unet import EdgeUNet
from ...imaging.degradations import DegradationModel
from . import Recipe, Schedule

__all__ = ["RECIPE"]

RECIPE = Recipe(
    network=EdgeUNet,  # 206 thousand parameters; nothing but one convolution at full resolution
    degradation=DegradationModel(
        motion_share=0.45,
        defocus_share=0.35,  # the rest is gaussian
        motion_length_px=(2.0, 10.0),
        defocus_radius_px=(0.6, 2.8),
        gaussian_sigma_px=(0.4, 2.0),
        noise_sigma=2 / 255,
        jpeg_share=0.15,
        jpeg_quality=(85, 98),
    ),
    schedule=Schedule(
        steps=24_000,
        batch=16,
        crop_px=128,
        learning_rate=2e-3,
        warmup_steps=500,
        average_decay=0.999,
        seed=1,
    ),
    added=("astronaut", "coffee", "rocket", "camera"),
    validation=("chelsea",),
)
