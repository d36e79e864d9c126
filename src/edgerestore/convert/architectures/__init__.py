"""The networks that conversion knows by their weights: one row each, one file each.

A network's module follows one convention. ``forward`` returns the restored image. A module
that corrects its input also has ``residual(image)``, which returns what is to be *added* to
the image; then that is what is exported, so that the addition stays in float 32 whatever
the precision of the layers. ``arguments_from(state)`` reads the constructor's arguments off
the shapes of a state dict.

To add a network: put its module in a file here and a row in `_ROWS`. A row matches when
all of ``required`` are among the names and every name matches ``allowed``; naming the whole
vocabulary is what keeps one network's weights from being taken for another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["REGISTRY", "Architecture", "Registry"]


@dataclass(frozen=True)
class Architecture:
    """A network that is recognised by the names of its weights.

    Parameters
    ----------
    name : str
        What ``--arch`` takes.
    task : str
        What the network is for, unless the user says otherwise.
    factory : str
        ``module:Class`` inside this package, imported when it is needed.
    required : tuple of str
        Names that are always there.
    allowed : str
        Regular expression that every name matches in full.
    value_range : float
        What white is to the network: 1 or 255.
    color : str
        ``rgb`` or ``bgr``; networks of one channel are grey whatever this says.
    window_px : int or None
        Side of the window of networks that see the whole picture: 1.5 times the training
        crop. None takes the default.
    """

    name: str
    task: str
    factory: str
    required: tuple[str, ...]
    allowed: str
    value_range: float = 1.0
    color: str = "rgb"
    window_px: int | None = None

    def fits(self, names: Iterable[str]) -> bool:
        """Return whether these are the weights of this network."""
        names = frozenset(names)
        pattern = re.compile(self.allowed)
        return names.issuperset(self.required) and all(map(pattern.fullmatch, names))

    def overlap(self, names: Iterable[str]) -> float:
        """Return the share of ``names`` that this network could have."""
        names = frozenset(names)
        pattern = re.compile(self.allowed)
        return sum(map(bool, map(pattern.fullmatch, names))) / max(1, len(names))

    def arguments_from(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Read the constructor's arguments off the shapes of the weights."""
        arguments: dict[str, Any] = self._class().arguments_from(state)
        return arguments

    def build(self, **arguments: Any) -> nn.Module:
        """Make the network, with weights of no meaning yet."""
        network: nn.Module = self._class()(**arguments)
        return network

    def _class(self) -> Any:
        module, _, name = self.factory.partition(":")
        return getattr(import_module(f".{module}", __name__), name)


class Registry:
    """The known networks, by name and by their weights."""

    def __init__(self, rows: Iterable[Architecture]) -> None:
        self._rows = {row.name: row for row in rows}

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self._rows.values())

    def __getitem__(self, name: str) -> Architecture:
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    @property
    def names(self) -> list[str]:
        """The names, in the order of the rows."""
        return list(self._rows)

    def detect(self, names: Iterable[str]) -> Architecture | None:
        """Return the network whose weights have these names, or None."""
        names = frozenset(names)
        return next((row for row in self if row.fits(names)), None)

    def nearest(self, names: Iterable[str], count: int = 3) -> list[tuple[str, float]]:
        """Return the networks whose names overlap most, with the share, best first."""
        names = frozenset(names)
        scored = [(row.name, row.overlap(names)) for row in self]
        return sorted(scored, key=lambda pair: -pair[1])[:count]


_ROWS = (
    Architecture(
        name="edge_unet",
        task="deblur",
        factory="edge_unet:EdgeUNet",
        required=("down_half.weight", "up_quarter.0.weight", "head.weight"),
        allowed=(
            r"(down_(half|quarter|eighth)|(encode|decode)_(half|quarter|eighth)\.\d+"
            r"|up_(quarter|half)\.0|head)\.(weight|bias)"
        ),
    ),
    Architecture(
        name="dncnn",
        task="denoise",
        factory="dncnn:DnCNN",
        required=("model.0.weight", "model.2.weight", "model.4.weight"),
        # Activations stand at the odd places, so weights are only ever at the even ones.
        allowed=r"model\.\d*[02468]\.(weight|bias)",
    ),
    Architecture(
        name="imdn",
        task="super-resolve",
        factory="imdn:IMDN",
        required=("model.0.weight", "model.1.sub.0.conv1x1.weight", "model.2.weight"),
        allowed=(r"model\.([02]|1\.sub\.\d+(\.(conv[123]\.0|conv4|conv1x1))?)\.(weight|bias)"),
    ),
    Architecture(
        name="rfdn",
        task="super-resolve",
        factory="rfdn:RFDN",
        required=("fea_conv.weight", "B1.c1_d.weight", "B4.esa.conv3_.weight", "c.0.weight"),
        allowed=(
            r"(fea_conv|LR_conv|upsampler\.0|c\.0"
            r"|B[1-4]\.(c[123]_[dr]|c[45]|esa\.conv(1|2|3|3_|4|_f|_max)))\.(weight|bias)"
        ),
        value_range=255.0,
        window_px=96,
    ),
    Architecture(
        name="rlfn",
        task="super-resolve",
        factory="rlfn:RLFN",
        required=("fea_conv.weight", "B1.c1_r.weight", "B4.esa.conv3.weight", "LR_conv.weight"),
        allowed=(
            r"(fea_conv|LR_conv|upsampler\.0"
            r"|B[1-4]\.(c[123]_r|c5|esa\.conv(1|2|3|4|_f)))\.(weight|bias)"
        ),
        value_range=255.0,
        window_px=96,
    ),
)

REGISTRY = Registry(_ROWS)
"""The networks that ship with the package."""
