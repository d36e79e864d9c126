"""Crop positions: proposed by content, split into calibration and held-out, chosen by class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..imaging.arrays import luma

__all__ = ["CONTENT", "Place", "Split", "choose", "propose", "split"]

Image = NDArray[np.float32]

CONTENT = ("saturated", "dark", "bright", "flat", "textured", "mixed")
"""Classes of content; a crop is of the first that fits."""

_MOST_PER_AXIS = 8
_ENOUGH_FILES = 4
_HELD_SHARE = 0.25
_DRAWS = 16

_WHITE = 252 / 255
_VIVID = 0.5  # between the largest and the smallest channel
_SATURATED_SHARE = 0.2
_DARK, _BRIGHT = 0.2, 0.65
_FLAT, _TEXTURED = 0.012, 0.06  # mean of the luma's steps, across and down


@dataclass(frozen=True)
class Place:
    """Position of a crop.

    Parameters
    ----------
    file, frame : int
        Index of the file, and of the picture in it.
    x, y : int
        Left and top, in pixels of the model's input.
    content : str
        One of `CONTENT`.
    """

    file: int
    frame: int
    x: int
    y: int
    content: str

    @property
    def picture(self) -> tuple[int, int]:
        """The picture it is in."""
        return self.file, self.frame


@dataclass(frozen=True)
class Split:
    """Positions to calibrate on and held-out ones; no pixel is in both.

    Parameters
    ----------
    calibration, held_out : tuple of Place
    how : str
        What separates the held-out places.
    """

    calibration: tuple[Place, ...]
    held_out: tuple[Place, ...]
    how: str


def propose(
    image: Image, crop_px: int, scale: int, rng: np.random.Generator
) -> list[tuple[int, int, str]]:
    """Propose positions all over a picture, with the content of each.

    Parameters
    ----------
    image : ndarray, f32, shape (H, W, C)
        In [0, 1]; both sides hold a crop.
    crop_px : int
        Side of a crop, in pixels of the model's input.
    scale : int
        Pixels of `image` along each of the input's.
    rng : numpy.random.Generator

    Returns
    -------
    list of (int, int, str)
        Left, top, content. At most 8 x 8 places, no two sharing more than half of their
        pixels; where the picture has room for more than one, its corners are among them.
    """
    height, width = (side // scale for side in image.shape[:2])
    grey = image.mean(axis=2) if image.shape[2] == 1 else luma(image)
    vivid = image.max(axis=2) >= _WHITE
    if image.shape[2] > 1:
        vivid |= image.max(axis=2) - image.min(axis=2) >= _VIVID
    steps = np.zeros_like(grey)
    steps[:, 1:] += np.abs(np.diff(grey, axis=1))
    steps[1:] += np.abs(np.diff(grey, axis=0))
    places = []
    columns = _spread(width - crop_px, crop_px, rng)
    for y in _spread(height - crop_px, crop_px, rng):
        for x in columns:
            rows = slice(y * scale, (y + crop_px) * scale)
            window = rows, slice(x * scale, (x + crop_px) * scale)
            content = _content(grey[window], vivid[window], steps[window])
            places.append((x, y, content))
    return places


def split(places: Sequence[Place], crop_px: int, rng: np.random.Generator) -> Split:
    """Hold about a quarter of the places out.

    From four files on, whole files are held out: a video's frames look alike, and so do
    parts of a photograph. Else a strip at one side of each picture is, the same strip of
    all frames of a video. Where pictures are too small for that, whole pictures are. Of
    several ways, seeded, the one is taken that leaves the most classes of content to
    calibrate on, then the most held out.

    Returns
    -------
    Split
        Without held-out places where there is one place in all.
    """
    files = _grouped(places, lambda place: place.file)
    if len(files) >= _ENOUGH_FILES:
        return _by_groups(files, rng, "other files")
    calibration: list[Place] = []
    held_out: list[Place] = []
    for inside in files:
        kept, out = _best(_strips(inside, crop_px, rng) or [(inside, [])])
        calibration += kept
        held_out += out
    if held_out:
        return Split(tuple(calibration), tuple(held_out), "other parts of the same pictures")
    if len(files) > 1:
        return _by_groups(files, rng, "other files")
    frames = _grouped(places, lambda place: place.frame)
    if len(frames) > 1:
        # The last ones, not any: what lies between two frames looks like both.
        first_out = len(frames) - _quarter(len(frames))
        kept, out = _flat(frames[:first_out]), _flat(frames[first_out:])
        return Split(tuple(kept), tuple(out), "later frames of the same video")
    return Split(tuple(calibration), (), "nothing")


_Way = tuple[list[Place], list[Place]]  # to calibrate on, to hold out


def _strips(inside: Sequence[Place], crop_px: int, rng: np.random.Generator) -> list[_Way]:
    """Return the ways to hold out a strip at one side, in any order; none where it is small."""
    ways: list[_Way] = []
    for axis in ("x", "y"):
        at = np.array([getattr(place, axis) for place in inside])
        extent = int(at.max()) + crop_px
        strip = max(crop_px, int(extent * _HELD_SHARE))
        if extent < 2 * crop_px:
            continue
        for out, kept in (
            (at + crop_px <= strip, at >= strip),
            (at >= extent - strip, at + crop_px <= extent - strip),
        ):
            ways.append((_where(inside, kept), _where(inside, out)))
    return [ways[index] for index in rng.permutation(len(ways))]


def _by_groups(groups: Sequence[Sequence[Place]], rng: np.random.Generator, how: str) -> Split:
    ways: list[_Way] = []
    for _ in range(_DRAWS):
        out = set(rng.permutation(len(groups))[: _quarter(len(groups))].tolist())
        kept = [group for index, group in enumerate(groups) if index not in out]
        ways.append((_flat(kept), _flat([groups[index] for index in sorted(out)])))
    calibration, held_out = _best(ways)
    return Split(tuple(calibration), tuple(held_out), how)


def _best(ways: Sequence[_Way]) -> _Way:
    """Return the way with most classes of content on the first side, then on the second."""
    return max(ways, key=lambda way: tuple(len({place.content for place in side}) for side in way))


def _quarter(count: int) -> int:
    return max(1, round(count * _HELD_SHARE))


def _where(places: Sequence[Place], mask: NDArray[np.bool_]) -> list[Place]:
    return [place for place, wanted in zip(places, mask, strict=True) if wanted]


def _flat(groups: Iterable[Iterable[Place]]) -> list[Place]:
    return [place for group in groups for place in group]


def _grouped(places: Iterable[Place], key: Callable[[Place], int]) -> list[list[Place]]:
    groups: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        groups[key(place)].append(place)
    return [groups[index] for index in sorted(groups)]


def choose(
    places: Sequence[Place], count: int, crop_px: int, rng: np.random.Generator
) -> list[Place]:
    """Choose places so that every class of content is there, spread over the pictures.

    The first half takes the classes in turn, the rarest first; the rest is drawn from
    all. Each comes from the picture that has given least, and overlaps no other while
    that can be had.

    Returns
    -------
    list of Place
        At most `count`, each once.
    """
    shuffled = [places[index] for index in rng.permutation(len(places))]
    frequency = Counter(place.content for place in shuffled)
    classes = sorted(frequency, key=lambda kind: (frequency[kind], CONTENT.index(kind)))
    by_class = {kind: _Pool(p for p in shuffled if p.content == kind) for kind in classes}
    pool = _Pool(shuffled)
    taken: list[Place] = []
    in_turn = max(len(classes), (count + 1) // 2)
    while len(taken) < min(count, len(shuffled)):
        turn = by_class[classes[len(taken) % len(classes)]] if len(taken) < in_turn else pool
        place = turn.next(taken, crop_px) or pool.next(taken, crop_px)
        if place is None:
            break
        taken.append(place)
    return taken


class _Pool:
    """Places by picture, in the order given."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._pictures: dict[tuple[int, int], list[Place]] = defaultdict(list)
        for place in places:
            self._pictures[place.picture].append(place)

    def next(self, taken: Sequence[Place], crop_px: int) -> Place | None:
        """Return a place that is not taken, None where all are."""
        given = Counter(place.picture for place in taken)
        for picture in sorted(self._pictures, key=lambda picture: given[picture]):
            here = [place for place in taken if place.picture == picture]
            free = [place for place in self._pictures[picture] if place not in here]
            if free:
                # The first of those that overlap nothing, or else simply the first.
                return min(free, key=lambda place: any(_overlap(place, o, crop_px) for o in here))
        return None


def _overlap(one: Place, other: Place, crop_px: int) -> bool:
    return abs(one.x - other.x) < crop_px and abs(one.y - other.y) < crop_px


def _content(grey: Image, vivid: NDArray[np.bool_], steps: Image) -> str:
    mean, step = float(grey.mean()), float(steps.mean())
    fits = (
        float(vivid.mean()) >= _SATURATED_SHARE,
        mean < _DARK,
        mean > _BRIGHT,
        step < _FLAT,
        step > _TEXTURED,
        True,
    )
    return CONTENT[fits.index(True)]


def _spread(span: int, crop_px: int, rng: np.random.Generator) -> list[int]:
    """Return positions from 0 to `span`, both included, at least half a crop apart."""
    pitch = (crop_px + 1) // 2
    count = min(_MOST_PER_AXIS, span // pitch + 1)
    if count == 1:
        return [int(rng.integers(span + 1))]
    # Where there is room for more, three quarters of it keep them apart, the rest is chance.
    pitch = max(pitch, span * 3 // (4 * (count - 1)))
    slack = span - pitch * (count - 1)
    shifts = np.sort(rng.integers(0, slack + 1, count - 2))
    inner = [pitch * (index + 1) + int(shift) for index, shift in enumerate(shifts)]
    return [0, *inner, span]
