"""Rows of known architectures, and the registry that finds the one that weights belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...bundle.kinds import OutputKind
from ...errors import ArgumentError
from ...extensions import extension, extension_names

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Architecture", "Registry"]


@dataclass(frozen=True)
class Architecture:
    """Row of an architecture, which is recognised by the names of its weights.

    Parameters
    ----------
    name : str
        What ``--arch`` takes.
    task : str
        Task in the manifest, unless the user states another.
    network : type
        The module's class, with ``arguments_from``.
    required : tuple of str
        Names that are always there.
    allowed : str
        Regular expression that every name matches in full.
    black, value_range : float
        What black and white are to the network: 0 and 1, 0 and 255, or -1 and 1.
    color : str
        ``rgb`` or ``bgr``; networks of one channel are always grey.
    window_px : int or None
        Side of the window of networks that see the whole picture: 1.5 times the training
        crop. None takes the default.
    whole : bool
        The network runs on a thumbnail of the whole picture, never on a part of it.
    half_precision : bool
        Whether a variant in 16-bit floats is written.
    pair_px : int or None
        Side of the tile pairs of a shift estimator, which returns (dx, dy) in pixels and no
        image; None for every other network.
    multiple_of : int
        What the image's sides are multiples of, where the graph does not show it.
    output_kind : OutputKind or None
        None is an image where as many channels come out as go in, else a mask.
    refusal : callable or None
        Given weights of these names, returns which network that cannot be converted they are of;
        None where they are this network's.
    untraced : mapping of str to sequence
        Constructor arguments that leave no trace in the weights, with the values that others than
        the published network have: they are tried on pictures.
    general : bool
        Such networks are trained for many tasks, of which ``task`` is the usual one.
    """

    name: str
    task: str
    network: Callable[..., nn.Module]
    required: tuple[str, ...]
    allowed: str
    black: float = 0.0
    value_range: float = 1.0
    color: str = "rgb"
    window_px: int | None = None
    whole: bool = False
    half_precision: bool = True
    pair_px: int | None = None
    multiple_of: int = 1
    output_kind: OutputKind | None = None
    refusal: Callable[[Mapping[str, Tensor]], str | None] | None = None
    untraced: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)
    general: bool = False

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
        read = self.network.arguments_from  # type: ignore[attr-defined]
        arguments: dict[str, Any] = read(state)
        return arguments

    def build(self, **arguments: Any) -> nn.Module:
        """Make the network, with weights of no meaning yet."""
        return self.network(**arguments)


class Registry:
    """Architectures by name and by their weights.

    Parameters
    ----------
    rows : iterable of Architecture
    group : str
        Entry points that add rows; they are loaded when the registry is first used. Empty for
        none.
    """

    def __init__(self, rows: Iterable[Architecture], *, group: str = "") -> None:
        self._own = {row.name: row for row in rows}
        self._group = group

    @cached_property
    def _rows(self) -> dict[str, Architecture]:
        if not self._group:
            return self._own
        rows = dict(self._own)
        for name in sorted(extension_names(self._group) - rows.keys()):
            row = extension(self._group, name)
            if not isinstance(row, Architecture):
                raise ArgumentError(
                    f"{self._group} {name}: is {type(row).__name__}, expected an Architecture;"
                    " repair or uninstall its package"
                )
            rows[row.name] = row
        return rows

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

    def fitting(self, names: Iterable[str]) -> list[Architecture]:
        """Return the networks whose weights have these names: one, unless something is odd."""
        names = frozenset(names)
        return [row for row in self if row.fits(names)]

    def whole_of(self, names: Iterable[str], stem: str) -> Architecture | None:
        """Return the network that a file of this stem, with these weights, is one part of."""
        prefixed = [f"{stem}.{name}" for name in names]
        for row in self:
            pattern = re.compile(row.allowed)
            if prefixed and all(map(pattern.fullmatch, prefixed)):
                return row
        return None

    def nearest(self, names: Iterable[str], count: int = 3) -> list[tuple[str, float]]:
        """Return the networks whose names overlap most, with the share, best first."""
        names = frozenset(names)
        scored = [(row.name, row.overlap(names)) for row in self]
        return sorted(scored, key=lambda pair: -pair[1])[:count]
