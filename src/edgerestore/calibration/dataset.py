"""Calibration dataset: seeded crops to calibrate INT8 on, and held-out crops to measure it on."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, SourceError
from ..imaging.arrays import Planes, luma
from ..imaging.degradations import Degradation
from ..imaging.scenes import drawn_scene
from .coverage import Coverage
from .crops import CONTENT, Place, choose, propose, split
from .kinds import DRAWN, InputKind, input_kinds, kinds_for_lack
from .pictures import Pair, PairReader, PictureFile, find_files, find_targets
from .results import DatasetInfo, counted_reasons

__all__ = ["CalibrationData", "Crop", "load_calibration"]

logger = logging.getLogger(__name__)

_VERSION = 2  # of the sampling: another one gives other crops from the same seed
_ENOUGH_FILES = 96  # of a larger collection a seeded choice is read
# A stream of random numbers for each purpose, so that one more draw here changes none there.
_FILES, _PLACES, _SPLIT, _CALIBRATION, _HELD_OUT, _DEGRADATION, _TURNS, _DRAWN = range(8)
_FEWEST_DRAWN = 4


@dataclass(frozen=True, eq=False)
class Crop:
    """Crop of a picture.

    Parameters
    ----------
    image : ndarray, f32, shape (1, C, h, w)
        Input of the model, in [0, 1].
    truth : ndarray, f32, shape (1, C, h * upscale, w * upscale), or None
        Ground truth, in [0, 1].
    origin : str
        ``01.png at 120,64``: file, and left and top in pixels of the model's input;
        ``clip.mp4 frame 12 at 0,64`` in a video.
    content : str
        ``saturated``, ``dark``, ``bright``, ``flat``, ``textured`` or ``mixed``: the
        first that holds.
    kind : str
        Name of the kind of input.
    """

    image: Planes
    truth: Planes | None
    origin: str
    content: str
    kind: str


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Crops to calibrate on, held-out crops of every kind of input, and where they are from.

    Parameters
    ----------
    calibration, held_out : tuple of Crop
    info : DatasetInfo
    added : tuple of InputKind
        Kinds for content that the pictures lack, after the ones that were asked for.
    """

    calibration: tuple[Crop, ...]
    held_out: tuple[Crop, ...]
    info: DatasetInfo
    added: tuple[InputKind, ...] = ()


def load_calibration(
    paths: Sequence[Path],
    *,
    channels: int,
    degradation: Degradation,
    crop_px: int,
    count: int = 24,
    held_out: int = 8,
    seed: int = 0,
    targets: Path | None = None,
    kinds: Sequence[InputKind] | None = None,
    calibrated: Collection[str] | None = None,
) -> CalibrationData:
    """Cut crops out of pictures, the same ones from the same seed and files.

    A file that is skipped is logged, and so is content that the pictures lack: then brightened
    pictures and drawn scenes come as kinds of their own, where all kinds are calibrated on.

    Parameters
    ----------
    paths : sequence of Path
        Pictures, videos, and folders of them (not the folders inside). Of more than 96
        files a seeded choice is read.
    channels : int
        Of the model: 1 or 3.
    degradation : Degradation
        Applied to the pictures, which are clean then; with ``none`` they are used as they are,
        without ground truth. Its `upscale` is the model's.
    crop_px : int
        Side of the crops that the model gets.
    count, held_out : int
        Places to calibrate on and held-out places; fewer where the pictures hold fewer,
        at least one of each.
    seed : int
    targets : Path or None
        A folder with the truth of each picture: a file of the same stem, ``degradation.upscale``
        times the size. The degradation is not applied then.
    kinds : sequence of InputKind or None
        Kinds of input to hold out, each at every held-out place; the task's own first. None for
        that alone.
    calibrated : collection of str or None
        Names of the kinds to calibrate on, None for all. Every place is calibrated on once in the
        first of them, and once in one of the others, which take turns.

    Returns
    -------
    CalibrationData
        Both sides come from different files where there are four or more, else from
        different parts of the pictures, and share no pixel. Held-out crops are ordered by kind.

    Raises
    ------
    ArgumentError
        For an argument out of range, a path without pictures, or when not one crop of
        each side can be had; the message counts why pictures were of no use.
    """
    if channels not in (1, 3):
        raise ArgumentError(f"pictures have 1 or 3 channels, and the model takes {channels}")
    for name, value, least in (
        ("crop_px", crop_px, 1),
        ("count", count, 1),
        ("held_out", held_out, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ArgumentError(f"{name} is {value}, and has to be {least} or more")
    where = _spelled(paths)
    files = find_files(paths)
    known = None if targets is None else find_targets(targets)
    reader = PairReader(channels, degradation, crop_px, known)
    enough = max(_ENOUGH_FILES, 2 * (count + held_out))
    places, skipped, coverage = _look(reader, files, enough, seed)
    if not places:
        raise ArgumentError(f"{where}: no picture can be used: {counted_reasons(skipped)}")
    parts = split(places, crop_px, _chance(seed, _SPLIT))
    if not parts.held_out:
        raise ArgumentError(
            f"{where}: has no room for two crops of {crop_px}x{crop_px} apart, one to calibrate on"
            " and one to judge by; add pictures"
        )
    chosen = (
        choose(parts.calibration, count, crop_px, _chance(seed, _CALIBRATION)),
        choose(parts.held_out, held_out, crop_px, _chance(seed, _HELD_OUT)),
    )
    if kinds is None:
        kinds = input_kinds(degradation, pairs=known is not None)[:1]
    lacking = coverage.lacking(channels) if len(kinds) > 1 else ()
    added: tuple[InputKind, ...] = ()
    if lacking:
        added = kinds_for_lack(kinds[0], reader.scale, coverage.gain)
        logger.warning(
            "%s: holds no %s content; %s mixed in, and pictures of such content would serve better",
            *(where, ", ".join(lacking)),
            " and ".join(f"{kind.name} ({kind.summary})" for kind in added),
        )
    if calibrated is not None and set(calibrated) >= {kind.name for kind in kinds}:
        calibrated = None  # all of them, and so what is added
    of_files = [*kinds, *(kind for kind in added if kind.name != DRAWN)]
    mixed = [kind for kind in of_files if calibrated is None or kind.name in calibrated]
    learning = _in_turn(chosen[0], mixed, _chance(seed, _TURNS))
    judging = [(place, kind) for kind in of_files for place in chosen[1]]
    crops = _cut(reader, files, [*learning, *judging], seed)
    first, second = crops[: len(learning)], crops[len(learning) :]
    for kind in added[-1:]:  # the drawn one
        half = max(_FEWEST_DRAWN, len(chosen[0]) // 2) if calibrated is None else 0
        scenes = _draw(reader, kind, half + max(_FEWEST_DRAWN, len(chosen[1])), seed)
        first, second = [*first, *scenes[:half]], [*second, *scenes[half:]]
        crops = [*first, *second]
    recipe = {
        "sampling": _VERSION,
        "seed": seed,
        "degradation": degradation.describe()
        if known is None
        else "in the pictures; their targets are known",
        "kinds": {kind.name: kind.summary for kind in (*kinds, *added)},
        "lacking": list(lacking),
        "crop_px": crop_px,
        "upscale": degradation.upscale,
        "channels": channels,
        "asked": {"calibration": count, "held_out": held_out},
        "files": len(files),
        "held_out_from": parts.how,
        "calibration": _summary(files, chosen[0])
        | {"kinds": dict(Counter(crop.kind for crop in first))},
        "held_out": _summary(files, chosen[1]),
    }
    info = DatasetInfo(
        digest=_digest(crops),
        recipe=recipe,
        calibration=len(first),
        held_out=len(chosen[1]),
        truth=reader.has_truth,
        skipped=skipped,
    )
    return CalibrationData(tuple(first), tuple(second), info, added)


_Wanted = tuple[Place, InputKind]


def _in_turn(
    places: Sequence[Place], kinds: Sequence[InputKind], rng: np.random.Generator
) -> list[_Wanted]:
    """Return every place in the first kind, then in one of the others."""
    wanted = [(place, kinds[0]) for place in places]
    if len(kinds) > 1:
        # Shuffled: places are ordered by content, which also takes turns.
        shuffled = [places[index] for index in rng.permutation(len(places))]
        wanted += zip(shuffled, itertools.cycle(kinds[1:]), strict=False)
    return wanted


def _spelled(paths: Sequence[Path]) -> str:
    if not paths:
        raise ArgumentError("--calibrate names no picture, video or folder; name one")
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"--calibrate {paths[0]}{more}"


def _chance(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, *stream])


def _look(
    reader: PairReader, files: Sequence[PictureFile], enough: int, seed: int
) -> tuple[list[Place], dict[str, str], Coverage]:
    """Propose places in the pictures; return them, why files were skipped, and what is covered."""
    order = range(len(files))
    if len(files) > enough:
        order = _chance(seed, _FILES).permutation(len(files)).tolist()
    places: list[Place] = []
    skipped: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    used, coverage = 0, Coverage()
    for index in order:
        try:
            found, coverage = _look_at(reader, files[index], index, seed, seen, coverage)
        except SourceError as error:
            skipped[files[index].name] = str(error)
            logger.info("%s: %s (skipped)", files[index].name, error)
            continue
        places += found
        used += 1
        if used == enough:
            break
    return places, skipped, coverage


def _look_at(
    reader: PairReader,
    file: PictureFile,
    index: int,
    seed: int,
    seen: dict[bytes, str],
    coverage: Coverage,
) -> tuple[list[Place], Coverage]:
    places: list[Place] = []
    copy_of = ""
    for frame, pair in enumerate(reader.read(file)):
        # A copy could be on both sides of the line between calibrating and judging.
        key = hashlib.sha256(np.ascontiguousarray(pair.finest).data).digest()
        copy_of = seen.setdefault(key, pair.name)
        if copy_of != pair.name:
            continue
        coverage = coverage.with_picture(pair.finest)
        rng = _chance(seed, _PLACES, index, frame)
        found = propose(pair.finest, reader.crop_px, reader.scale, rng)
        places += [Place(index, frame, *one) for one in found]
    if not places:
        raise SourceError(f"the same as another ({copy_of})")
    return places, coverage


def _draw(reader: PairReader, kind: InputKind, count: int, seed: int) -> list[Crop]:
    """Return crops of drawn scenes, one of each."""
    crops = []
    for index in range(count):
        rng = _chance(seed, _DRAWN, index)
        scene = drawn_scene(int(rng.integers(1 << 31)), reader.crop_px * reader.scale)
        scene = luma(scene)[..., None] if reader.channels == 1 else scene
        pair = Pair(f"drawn scene {index}", np.ascontiguousarray(scene), None)
        image, truth = reader.cut(pair, kind, 0, 0, rng)
        crops.append(Crop(image, truth, f"{pair.name} at 0,0", "mixed", kind.name))
    return crops


def _cut(
    reader: PairReader, files: Sequence[PictureFile], wanted: Sequence[_Wanted], seed: int
) -> list[Crop]:
    by_file: dict[int, list[_Wanted]] = defaultdict(list)
    for place, kind in wanted:
        by_file[place.file].append((place, kind))
    crops: dict[tuple[Place, str], Crop] = {}
    for index, inside in by_file.items():
        for frame, pair in enumerate(reader.read(files[index])):
            for place, kind in inside:
                if place.frame == frame:
                    # One stream for all kinds of a place: the same blur, the same noise.
                    rng = _chance(seed, _DEGRADATION, index, frame, place.x, place.y)
                    image, truth = reader.cut(pair, kind, place.x, place.y, rng)
                    origin = f"{pair.name} at {place.x},{place.y}"
                    made = Crop(image, truth, origin, place.content, kind.name)
                    crops[place, kind.name] = made
    return [crops[place, kind.name] for place, kind in wanted]


def _summary(files: Sequence[PictureFile], places: Sequence[Place]) -> dict[str, Any]:
    content = Counter(place.content for place in places)
    return {
        "files": sorted({files[place.file].name for place in places}),
        "content": {kind: content[kind] for kind in CONTENT if content[kind]},
    }


def _digest(crops: Sequence[Crop]) -> str:
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(crop.image.tobytes())
        if crop.truth is not None:
            digest.update(crop.truth.tobytes())
    return digest.hexdigest()
