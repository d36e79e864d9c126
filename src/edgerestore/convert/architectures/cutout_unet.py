"""Cut-out network of the project: `ShuffleUNet` on a thumbnail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .registry import Architecture
from .shuffle_unet import ShuffleUNet
from .thumbnail import CutOut

__all__ = ["ARCHITECTURE", "CutoutUNet"]

_BODY = "body."


class CutoutUNet(CutOut):
    """U-Net of residual blocks at 1/4, 1/8, ... of a thumbnail, which it sees whole.

    U²-Net's first and last stages work at the thumbnail's own resolution; half of its time goes
    there even where they have few features. Here full resolution is one pixel shuffle.

    Parameters
    ----------
    widths, encode_depths, decode_depths : sequence of int
        As of `ShuffleUNet`.
    """

    side_px = 320
    mean = (0.0, 0.0, 0.0)
    deviation = (1.0, 1.0, 1.0)

    def __init__(
        self,
        widths: Sequence[int] = (24, 32, 40, 48, 56),
        encode_depths: Sequence[int] = (1, 1, 1, 2, 3),
        decode_depths: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.body = ShuffleUNet(3, 1, 4, widths, encode_depths, decode_depths)

    def predict(self, thumbnail: Tensor) -> Tensor:
        """Return the mask, f32 ``[N, 1, 320, 320]`` in [0, 1], of a thumbnail."""
        return self.body.residual(thumbnail).sigmoid()

    @staticmethod
    def arguments_from(state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off a state dict."""
        body = {name.removeprefix(_BODY): value for name, value in state.items()}
        read = ShuffleUNet.arguments_from(body)
        return {name: read[name] for name in ("widths", "encode_depths", "decode_depths")}


ARCHITECTURE = Architecture(
    name="cutout_unet",
    task="cut-out",
    network=CutoutUNet,
    required=("body.factor", "body.stem.weight", "body.downs.0.weight", "body.head.weight"),
    allowed=(
        r"body\.(factor|(stem|head|(downs|ups)\.\d+|(encoders|decoders)\.\d+\.\d+\.(first|second))"
        r"\.(weight|bias))"
    ),
    whole=True,
)
