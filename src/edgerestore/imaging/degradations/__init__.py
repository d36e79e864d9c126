"""Image degradations: a registry of them, and the seeded faults that training draws.

Every function takes a NumPy generator, so that a seed names a degraded picture exactly.
Images are f32 ``[H, W, C]`` in [0, 1] unless a docstring says otherwise; borders reflect.
"""

from __future__ import annotations

from .compression import h264, jpeg
from .kernels import box_kernel, convolved, defocus_kernel, gaussian_kernel, motion_kernel
from .model import PROTOCOL, Blur, DegradationModel, degrade
from .motion import Layer, LayeredMotion
from .noise import SensorNoise, gaussian_noise, poisson_gaussian
from .registry import Amount, Degradation, DegradationKind, degradation_kinds
from .scaling import Scaling, ScalingMix, downscaled
from .tones import ToneFaults

__all__ = [
    "PROTOCOL",
    "Amount",
    "Blur",
    "Degradation",
    "DegradationKind",
    "DegradationModel",
    "Layer",
    "LayeredMotion",
    "Scaling",
    "ScalingMix",
    "SensorNoise",
    "ToneFaults",
    "box_kernel",
    "convolved",
    "defocus_kernel",
    "degradation_kinds",
    "degrade",
    "downscaled",
    "gaussian_kernel",
    "gaussian_noise",
    "h264",
    "jpeg",
    "motion_kernel",
    "poisson_gaussian",
]
