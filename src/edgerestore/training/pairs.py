"""Training pairs: what the input and the target of each task are, and the mix they are drawn from.

A `Pairs` holds numbers alone, so that a manifest can say what a dataset was made by. It draws
pictures of 8 bits; the crop it takes is larger than the pair by a margin, so that blur sees real
pixels at the pair's border.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import Depth, luma, rounded
from ..imaging.degradations import (
    DegradationModel,
    Layer,
    LayeredMotion,
    ScalingMix,
    SensorNoise,
    ToneFaults,
    box_kernel,
    convolved,
    degrade,
    downscaled,
    gaussian_noise,
    h264,
    jpeg,
    poisson_gaussian,
)
from ..imaging.degradations.motion import soft_polygon
from .composites import Composites, placed
from .pictures import Photograph, Pictures

__all__ = [
    "BoxBlurPairs",
    "CutoutPairs",
    "DejpegPairs",
    "DenoisePairs",
    "GreyDenoisePairs",
    "MildBlurPairs",
    "MotionPairs",
    "Pairs",
    "RetouchPairs",
    "UpscalePairs",
]

Image = NDArray[np.float32]
Drawn = tuple[Photograph, Photograph]
Range = tuple[float, float]
_Pixels = TypeVar("_Pixels", Image, Photograph)

_JPEG_GRID_PX = 8


@dataclass(frozen=True, kw_only=True)
class Pairs(ABC):
    """Distribution of pairs of an input and its target.

    Parameters
    ----------
    side_px : int
        Side of the inputs; a target's is `upscale` times as long.
    """

    side_px: int = 256

    channels: ClassVar[int] = 3
    """Channels of inputs: 3 for RGB, 1 for grey."""
    target_channels: ClassVar[int] = 3
    """Channels of targets: 4 for RGBA, 1 for grey or masks."""
    needs_objects: ClassVar[bool] = False
    """Whether cut-out objects must be given."""

    @property
    def upscale(self) -> int:
        """How many times larger than the inputs targets are."""
        return 1

    @property
    def margin_px(self) -> int:
        """Real pixels that a draw takes beyond each side of a target."""
        return 0

    @property
    def least_px(self) -> int:
        """Shortest side that a photograph may have."""
        return self.side_px * self.upscale + 2 * self.margin_px

    @abstractmethod
    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a pair.

        Parameters
        ----------
        pictures : Pictures
            No photograph's side is shorter than `least_px`.
        rng : numpy.random.Generator
            The only source of chance: a seed names a pair.

        Returns
        -------
        input : ndarray, u8, shape (side_px, side_px, channels)
        target : ndarray, u8, shape (side_px * upscale, side_px * upscale, target_channels)
        """

    def held_out(self) -> Pairs:
        """Return the pairs of the validation and test splits."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return the mix as plain data, for a manifest."""
        return {
            "kind": type(self).__name__,
            "upscale": self.upscale,
            "channels": self.channels,
            "target_channels": self.target_channels,
            **_plain(asdict(self)),
        }

    def _inner(self, image: _Pixels) -> _Pixels:
        """Return a picture without its margin."""
        margin = self.margin_px
        return image[margin:-margin, margin:-margin] if margin else image


@dataclass(frozen=True, kw_only=True)
class MotionPairs(Pairs):
    """Pairs for deblurring: layered motion, milder uniform blur, and clean pictures untouched.

    The validation and test splits hold layered motion alone.

    Parameters
    ----------
    motion : LayeredMotion
    layers : (int, int)
        Inclusive range of the number of foreground layers.
    object_share : float
        Probability that a layer is one of the objects, where there are some; else it is a soft
        polygon of another photograph.
    mild : DegradationModel
    mild_share, clean_share : float
        Probabilities; what is left is layered motion.
    soft_share : float
        Probability that layered motion is softened further, as a lens does.
    soft_sigma_px : (float, float)
    noise : SensorNoise
        After layered motion.
    jpeg_share, h264_share : float
        Probabilities of compression after that, as a photograph or as a frame of a video.
    jpeg_quality, h264_crf : (int, int)
        Inclusive.
    """

    motion: LayeredMotion = field(default_factory=LayeredMotion)
    layers: tuple[int, int] = (0, 3)
    object_share: float = 0.5
    mild: DegradationModel = field(default_factory=lambda: DegradationModel(jpeg_share=0.15))
    mild_share: float = 0.25
    clean_share: float = 0.05
    soft_share: float = 0.2
    soft_sigma_px: Range = (0.4, 1.2)
    noise: SensorNoise = field(default_factory=SensorNoise)
    jpeg_share: float = 0.25
    jpeg_quality: tuple[int, int] = (70, 97)
    h264_share: float = 0.08
    h264_crf: tuple[int, int] = (16, 28)

    @property
    def margin_px(self) -> int:
        """As far as nearly every path reaches from the middle of the exposure."""
        return 44

    def held_out(self) -> MotionPairs:
        """Return layered motion alone."""
        return replace(self, mild_share=0.0, clean_share=0.0)

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a blurred picture, and the frame in the middle of its exposure."""
        kind = rng.random()
        clean = _varied(pictures.crop(rng, self.least_px), rng)
        truth = rounded(self._inner(clean), Depth.U8)
        if kind < self.mild_share:
            return self._inner(degrade(clean, self.mild, rng)[0]), truth
        if kind < self.mild_share + self.clean_share:
            return truth, truth
        scene = [self._layer(pictures, rng) for _ in range(_integer(self.layers, rng))]
        exposed, sharp = self.motion.expose(clean, scene, rng, margin_px=self.margin_px)
        if rng.random() < self.soft_share:
            exposed = np.asarray(
                cv2.GaussianBlur(exposed, (0, 0), rng.uniform(*self.soft_sigma_px)), np.float32
            )
        given = rounded(self.noise.apply(exposed, rng), Depth.U8)
        compressed = rng.random()
        if compressed < self.jpeg_share:
            given = jpeg(given, _integer(self.jpeg_quality, rng))
        elif compressed < self.jpeg_share + self.h264_share:
            given = h264(given, _integer(self.h264_crf, rng))
        return given, rounded(sharp, Depth.U8)

    def _layer(self, pictures: Pictures, rng: np.random.Generator) -> Layer:
        side = self.least_px
        if pictures.objects and rng.random() < self.object_share:
            image, alpha = placed(
                pictures.object(rng),
                (side, side),
                rng,
                longest_px=side * rng.uniform(0.15, 0.7),
                centre=rng.uniform(0, side, 2),
            )
            return Layer(image, alpha)
        image = _varied(pictures.crop(rng, side), rng)
        return Layer(image, soft_polygon(rng, (side, side)))


@dataclass(frozen=True, kw_only=True)
class MildBlurPairs(Pairs):
    """Pairs for deblurring: uniform blur of a few pixels, and clean pictures untouched.

    The validation and test splits hold no clean pictures.

    Parameters
    ----------
    blur : DegradationModel
    clean_share : float
        Probability of a pair of two clean pictures.
    """

    side_px: int = 160
    blur: DegradationModel = field(default_factory=lambda: DegradationModel(jpeg_share=0.15))
    clean_share: float = 0.03

    @property
    def margin_px(self) -> int:
        """Half of the longest blur, and the turns of its path."""
        return 12

    def held_out(self) -> MildBlurPairs:
        """Return blurred pictures alone."""
        return replace(self, clean_share=0.0)

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a blurred picture, and the sharp one."""
        clean = _varied(pictures.crop(rng, self.least_px), rng)
        truth = rounded(self._inner(clean), Depth.U8)
        if rng.random() < self.clean_share:
            return truth, truth
        return self._inner(degrade(clean, self.blur, rng)[0]), truth


@dataclass(frozen=True, kw_only=True)
class BoxBlurPairs(Pairs):
    """Pairs for taking out the blur of a square, as the pix2pix deblurring GAN was trained.

    Parameters
    ----------
    blur_px : (float, float)
        Range of the square's side.
    """

    blur_px: Range = (14.0, 14.0)

    @property
    def margin_px(self) -> int:
        """The kernel's reach."""
        return math.ceil(self.blur_px[1] / 2)

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a blurred picture, and the sharp one."""
        clean = _varied(pictures.crop(rng, self.least_px), rng)
        blurred = convolved(clean, box_kernel(rng.uniform(*self.blur_px)))
        return rounded(self._inner(blurred), Depth.U8), rounded(self._inner(clean), Depth.U8)


@dataclass(frozen=True, kw_only=True)
class DenoisePairs(Pairs):
    """Pairs for blind denoising in colour: normal noise, a sensor's noise, and none.

    Parameters
    ----------
    sigma : (float, float)
        Range of the normal noise, in units of 255.
    sensor_share : float
        Probability of a sensor's noise instead, in linear light.
    photons : (float, float)
        Range of the count of a white pixel; its logarithm is uniform.
    read : (float, float)
        Range of the noise of reading, in photons.
    clean_share : float
        Probability of no noise.
    sensor_gain : (float, float)
        Range of the exposure where the noise is a sensor's.
    """

    side_px: int = 128
    sigma: Range = (0.0, 50.0)
    sensor_share: float = 0.25
    photons: Range = (20.0, 2000.0)
    read: Range = (0.0, 4.0)
    clean_share: float = 0.05
    sensor_gain: Range = (0.7, 1.15)

    linear: ClassVar[bool] = False
    """The pictures are linear light already."""

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a noisy picture, and the clean one."""
        kind = rng.random()
        sensor = self.clean_share <= kind < self.clean_share + self.sensor_share
        crop = pictures.crop(rng, self.side_px)
        clean = _varied(crop, rng, self.sensor_gain) if sensor else _varied(crop, rng)
        if self.channels == 1:
            clean = luma(clean)[..., None]
        truth = rounded(clean, Depth.U8)
        if kind < self.clean_share:
            return truth, truth
        if sensor:
            photons = np.exp(rng.uniform(*np.log(self.photons)))
            noisy = poisson_gaussian(
                clean, photons, rng.uniform(*self.read), rng, linear=self.linear
            )
        else:
            noisy = gaussian_noise(clean, rng.uniform(*self.sigma) / 255, rng)
        return rounded(noisy, Depth.U8), truth


@dataclass(frozen=True, kw_only=True)
class GreyDenoisePairs(DenoisePairs):
    """Pairs for blind denoising in grey; those with a sensor's noise are linear, as a microscope's.

    Dark ones are among these: an instrument rarely uses its range.
    """

    sensor_share: float = 0.35
    sensor_gain: Range = (0.2, 1.15)

    channels: ClassVar[int] = 1
    target_channels: ClassVar[int] = 1
    linear: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class UpscalePairs(Pairs):
    """Pairs for enlarging: down-scaled pictures, some of them aliased, some through JPEG.

    Parameters
    ----------
    scale : int
    scaling : ScalingMix
    jpeg_share : float
        Probability of JPEG after down-scaling.
    jpeg_quality : (int, int)
        Inclusive.
    """

    side_px: int = 64
    scale: int = 4
    scaling: ScalingMix = field(default_factory=ScalingMix)
    jpeg_share: float = 0.2
    jpeg_quality: tuple[int, int] = (75, 97)

    @property
    def upscale(self) -> int:
        """The scale."""
        return self.scale

    @property
    def margin_px(self) -> int:
        """Four pixels of an input."""
        return 4 * self.scale

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a small picture, and the large one."""
        clean = _varied(pictures.crop(rng, self.least_px), rng)
        small = downscaled(clean, self.scale, self.scaling.draw(rng))[4:-4, 4:-4]
        given = rounded(np.ascontiguousarray(small), Depth.U8)
        if rng.random() < self.jpeg_share:
            given = jpeg(given, _integer(self.jpeg_quality, rng))
        return given, rounded(self._inner(clean), Depth.U8)


@dataclass(frozen=True, kw_only=True)
class DejpegPairs(Pairs):
    """Pairs for taking out the artefacts of JPEG, at every phase of its grid.

    Parameters
    ----------
    quality, light_quality : (int, int)
        Inclusive ranges.
    light_share, clean_share : float
        Probabilities of the light range and of no JPEG.
    """

    side_px: int = 128
    quality: tuple[int, int] = (10, 60)
    light_quality: tuple[int, int] = (60, 95)
    light_share: float = 0.2
    clean_share: float = 0.05

    @property
    def margin_px(self) -> int:
        """A block of JPEG's grid, whose phase is drawn within it."""
        return _JPEG_GRID_PX

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a picture through JPEG, and the clean one."""
        clean = rounded(_varied(pictures.crop(rng, self.least_px), rng), Depth.U8)
        top, left = (int(one) for one in rng.integers(_JPEG_GRID_PX, size=2))
        seen = slice(top, top + self.side_px), slice(left, left + self.side_px)
        kind = rng.random()
        if kind < self.clean_share:
            return clean[seen], clean[seen]
        light = kind < self.clean_share + self.light_share
        quality = _integer(self.light_quality if light else self.quality, rng)
        return jpeg(clean, quality)[seen], clean[seen]


@dataclass(frozen=True, kw_only=True)
class RetouchPairs(Pairs):
    """Pairs for retouching: bad exposure, contrast, gamma and colour casts, and good pictures.

    Parameters
    ----------
    faults : ToneFaults
    clean_share : float
        Probability of a good picture, to be left as it is.
    """

    faults: ToneFaults = field(default_factory=ToneFaults)
    clean_share: float = 0.15

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a spoilt picture, and the good one: most of a photograph, made smaller."""
        truth = pictures.view(rng, self.side_px)
        if rng.random() < self.clean_share:
            return truth, truth
        return rounded(self.faults.apply(_unit(truth), rng), Depth.U8), truth


@dataclass(frozen=True, kw_only=True)
class CutoutPairs(Pairs):
    """Pairs for cutting out: objects composited over photographs and plain grounds, and their RGBA.

    Parameters
    ----------
    composites : Composites
    noise : SensorNoise
    jpeg_share : float
    jpeg_quality : (int, int)
        Inclusive.
    """

    side_px: int = 320
    composites: Composites = field(default_factory=Composites)
    noise: SensorNoise = field(default_factory=SensorNoise)
    jpeg_share: float = 0.5
    jpeg_quality: tuple[int, int] = (60, 97)

    target_channels: ClassVar[int] = 4
    needs_objects: ClassVar[bool] = True

    def draw(self, pictures: Pictures, rng: np.random.Generator) -> Drawn:
        """Draw a composite, and its foreground in RGBA."""
        image, foreground, alpha = self.composites.draw(pictures, self.side_px, rng)
        given = rounded(self.noise.apply(image, rng), Depth.U8)
        if rng.random() < self.jpeg_share:
            given = jpeg(given, _integer(self.jpeg_quality, rng))
        return given, rounded(np.dstack([foreground, alpha]), Depth.U8)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _integer(limits: tuple[int, int], rng: np.random.Generator) -> int:
    """Draw a whole number from an inclusive range."""
    return int(rng.integers(*limits, endpoint=True))


def _unit(image: Photograph) -> Image:
    return image.astype(np.float32) / np.float32(255)


def _varied(crop: Photograph, rng: np.random.Generator, gain: Range = (0.7, 1.15)) -> Image:
    """Vary exposure and white balance, which these degradations do not depend on."""
    balance = rng.uniform(*gain) * np.asarray(rng.uniform(0.95, 1.05, crop.shape[2]))
    return np.asarray(np.minimum(_unit(crop) * balance.astype(np.float32), 1), np.float32)
