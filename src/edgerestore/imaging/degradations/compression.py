"""Lossy compression of pictures."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["h264", "jpeg"]


def jpeg(image: NDArray[np.uint8], quality: int, *, rgb: bool = True) -> NDArray[np.uint8]:
    """Return a picture after a JPEG round trip, its chroma at half the resolution.

    Parameters
    ----------
    image : ndarray, u8, shape (H, W, C), C in 1, 3
    quality : int
        1 to 100.
    rgb : bool
        The channels are RGB; else BGR, OpenCV's order.
    """
    given = np.ascontiguousarray(image[..., ::-1] if rgb else image)
    _, packed = cv2.imencode(".jpg", given, [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8).reshape(image.shape)
    return np.ascontiguousarray(back[..., ::-1]) if rgb else back


def h264(image: NDArray[np.uint8], crf: int) -> NDArray[np.uint8]:
    """Return a picture after H.264, as a key frame of a video with chroma at half the resolution.

    Parameters
    ----------
    image : ndarray, u8, shape (H, W, 3)
        RGB.
    crf : int
        Constant rate factor, 0 to 51; larger is coarser.
    """
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = even.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    encoder.options = {"crf": str(crf), "preset": "veryfast"}
    frame = av.VideoFrame.from_ndarray(np.asarray(even, np.uint8), "rgb24")
    packets = [*encoder.encode(frame.reformat(format="yuv420p")), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    (decoded,) = [*frames, *decoder.decode(None)]
    return np.ascontiguousarray(decoded.to_ndarray(format="rgb24")[:height, :width])
