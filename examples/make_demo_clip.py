"""Make the demo clip: camera pans over public-domain photographs, shaken by a hand.

Each frame is what a camera would have caught while its shutter was open: the photograph
sampled along the camera's path during the exposure, averaged in linear light, with a
sensor's noise on top. The path is a slow pan plus the tremor of a hand (around 9 Hz, and
slower sway). The sound is made of a few soft tones.

    python examples/make_demo_clip.py examples/demo_clip.mp4

The pictures are the same every time (one seed); the encoder's bytes may differ a little.

Needs scikit-image, whose photographs it uses: astronaut (NASA), coffee (Rachel Michetti),
chelsea (Stefan van der Walt), rocket (SpaceX), each in the public domain or CC0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

WIDTH, HEIGHT = 480, 270
RATE = 25
SECONDS_PER_SHOT = 1.0
EXPOSURE = 0.9  # of the time between two frames
SAMPLES = 24  # positions averaged for one frame
NOISE = 1.2  # grey levels, standard deviation
SAMPLE_RATE = 44_100
CRF = "19"
SEED = 7

Floats = NDArray[np.float32]


def photographs() -> list[tuple[NDArray[np.uint8], float]]:
    """Return each photograph with how many of its pixels one pixel of the clip covers."""
    return [
        (data.astronaut(), 0.95),
        (data.coffee(), 1.1),
        (data.chelsea(), 0.85),
        (data.rocket(), 1.15),
    ]


class Tremor:
    """A hand's shake: sway of the arms, tremor of the muscles, and its overtone."""

    TONES_HZ_PX = ((1.1, 5.0), (2.3, 2.6), (5.2, 2.4), (8.8, 2.6), (11.3, 1.0))

    def __init__(self, rng: np.random.Generator) -> None:
        shape = (len(self.TONES_HZ_PX), 2)
        self._sizes = rng.uniform(0.6, 1.2, shape)
        self._phases = rng.uniform(0, 2 * np.pi, shape)
        self._beats = rng.uniform(0, 2 * np.pi, shape)

    def at(self, times: Floats) -> Floats:
        """Return the shake at the given times in seconds, pixels of the clip, shape (n, 2)."""
        shake = np.zeros((len(times), 2))
        now = times[:, None]
        for index, (frequency_hz, size_px) in enumerate(self.TONES_HZ_PX):
            beat = 1 + 0.5 * np.sin(2 * np.pi * 0.7 * now + self._beats[index])
            wave = np.sin(2 * np.pi * frequency_hz * now + self._phases[index])
            shake += size_px * self._sizes[index] * beat * wave
        return shake.astype(np.float32)


def shot(
    photograph: NDArray[np.uint8], scale: float, rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a pan over one photograph."""
    linear = (photograph[..., :3].astype(np.float32) / 255) ** 2.2
    height, width = linear.shape[:2]
    room = np.array([width - WIDTH * scale, height - HEIGHT * scale], np.float32)
    start = room * rng.uniform(0.1, 0.9, 2).astype(np.float32)
    tremor = Tremor(rng)
    for index in range(round(SECONDS_PER_SHOT * RATE)):
        times = np.linspace(index, index + EXPOSURE, SAMPLES, dtype=np.float32) / RATE
        drift = (room / 2 - start) * (times / SECONDS_PER_SHOT)[:, None]
        light = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for x, y in start + drift + tremor.at(times) * scale:
            light += cv2.warpAffine(
                linear,
                np.array([[scale, 0, x], [0, scale, y]], np.float32),
                (WIDTH, HEIGHT),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REFLECT,
            )
        image = 255 * (light / SAMPLES) ** (1 / 2.2)
        image += rng.normal(0, NOISE, image.shape)
        yield np.clip(np.rint(image), 0, 255).astype(np.uint8)


def sound(seconds: float) -> Floats:
    """Return soft tones, stereo, shape (2, samples)."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    mix = np.zeros((2, len(times)))
    for beat, pitch_hz in enumerate((220.0, 277.2, 329.6, 440.0, 370.0, 329.6, 277.2, 220.0)):
        since = times - beat * seconds / 8
        envelope = np.where(since > 0, np.exp(-2.5 * since) * (1 - np.exp(-60 * since)), 0)
        tone = np.sin(2 * np.pi * pitch_hz * since) + 0.3 * np.sin(4 * np.pi * pitch_hz * since)
        left = 0.5 + 0.3 * np.sin(beat)
        mix += 0.12 * np.stack([left * envelope * tone, (1 - left) * envelope * tone])
    return mix.astype(np.float32)


def main(output: Path) -> None:
    """Write the clip."""
    rng = np.random.default_rng(SEED)
    shots = photographs()
    tones = sound(len(shots) * SECONDS_PER_SHOT)
    with av.open(str(output), "w", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = "edgerestore demo: a shaken camera"
        video = container.add_stream(
            "libx264", rate=RATE, options={"crf": CRF, "preset": "slow", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        audio = container.add_stream("aac", rate=SAMPLE_RATE)
        audio.bit_rate = 96_000
        done = 0
        index = 0
        for photograph, scale in shots:
            for image in shot(photograph, scale, rng):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, RATE)
                container.mux(video.encode(frame))
                index += 1
                while done < min(tones.shape[1], index * SAMPLE_RATE // RATE):
                    chunk = np.ascontiguousarray(tones[:, done : done + 1024])
                    piece = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="stereo")
                    piece.sample_rate, piece.pts = SAMPLE_RATE, done
                    done += chunk.shape[1]
                    container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    print(f"{output}: {index} frames, {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "examples/demo_clip.mp4"))
