"""What the keys of the preview window do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ...engine.strength import MAXIMUM
from ..protocols.controls import Controls

__all__ = ["HELP", "KEYS", "Action", "View", "act"]

_STRENGTH_STEP = 0.05
_SPLIT_STEP = 0.02


class Action(StrEnum):
    """What a key asks for."""

    QUIT = "quit"
    PAUSE = "pause or go on"
    STRONGER = "more strength"
    WEAKER = "less strength"
    UNTOUCHED = "strength 0 %"
    FULL = "strength 100 %"
    SPLIT = "original beside restored, on and off"
    SPLIT_LEFT = "move the line to the left"
    SPLIT_RIGHT = "move the line to the right"
    FULL_SCREEN = "full screen, on and off"
    HELP = "this help, on and off"


# OpenCV's numbers: characters, and the keysyms of X11 for the others.
KEYS: dict[int, Action] = {
    ord("q"): Action.QUIT,
    27: Action.QUIT,
    ord(" "): Action.PAUSE,
    65362: Action.STRONGER,
    ord("+"): Action.STRONGER,
    ord("="): Action.STRONGER,
    65451: Action.STRONGER,
    65364: Action.WEAKER,
    ord("-"): Action.WEAKER,
    65453: Action.WEAKER,
    ord("0"): Action.UNTOUCHED,
    ord("1"): Action.FULL,
    ord("s"): Action.SPLIT,
    65361: Action.SPLIT_LEFT,
    65363: Action.SPLIT_RIGHT,
    ord("f"): Action.FULL_SCREEN,
    ord("h"): Action.HELP,
    65470: Action.HELP,
}
"""Key code -> action; letters are looked up in lower case."""

HELP: tuple[tuple[str, Action], ...] = (
    ("q, Esc", Action.QUIT),
    ("space", Action.PAUSE),
    ("up, +", Action.STRONGER),
    ("down, -", Action.WEAKER),
    ("0", Action.UNTOUCHED),
    ("1", Action.FULL),
    ("s", Action.SPLIT),
    ("left, mouse", Action.SPLIT_LEFT),
    ("right, mouse", Action.SPLIT_RIGHT),
    ("f", Action.FULL_SCREEN),
    ("h, F1", Action.HELP),
)
"""How the keys are called, for the help."""


@dataclass(frozen=True)
class View:
    """How the window shows what it is given.

    Parameters
    ----------
    split : float
        Where the line stands, as a fraction of the width.
    split_shown, help_shown, full_screen : bool
    quit : bool
        The window is to be closed.
    """

    split: float = 0.5
    split_shown: bool = True
    help_shown: bool = False
    full_screen: bool = False
    quit: bool = False

    def split_at(self, split: float) -> View:
        """Return the view with the line somewhere else, within the picture."""
        return replace(self, split=min(max(split, 0.0), 1.0))


def act(key: int, view: View, controls: Controls | None) -> View:
    """Do what a key asks for.

    Parameters
    ----------
    key : int
        A code of `cv2.waitKeyEx`; -1 and unknown ones do nothing.
    view : View
    controls : Controls or None
        Where strength and pausing go; without them these keys do nothing.

    Returns
    -------
    View
        How to show it from now on.
    """
    code = key + 32 if ord("A") <= key <= ord("Z") else key
    action = KEYS.get(code)
    if action is None:
        return view
    if controls is not None:
        _control(action, controls)
    return _changed(action, view)


def _changed(action: Action, view: View) -> View:
    match action:
        case Action.QUIT:
            return replace(view, quit=True)
        case Action.SPLIT:
            return replace(view, split_shown=not view.split_shown)
        case Action.SPLIT_LEFT:
            return view.split_at(view.split - _SPLIT_STEP)
        case Action.SPLIT_RIGHT:
            return view.split_at(view.split + _SPLIT_STEP)
        case Action.FULL_SCREEN:
            return replace(view, full_screen=not view.full_screen)
        case Action.HELP:
            return replace(view, help_shown=not view.help_shown)
        case _:
            return view


def _control(action: Action, controls: Controls) -> None:
    match action:
        case Action.QUIT:
            controls.stop()
        case Action.PAUSE:
            (controls.resume if controls.paused else controls.pause)()
        case Action.STRONGER:
            _strengthen(controls, _STRENGTH_STEP)
        case Action.WEAKER:
            _strengthen(controls, -_STRENGTH_STEP)
        case Action.UNTOUCHED:
            controls.strength = 0.0
        case Action.FULL:
            controls.strength = 1.0


def _strengthen(controls: Controls, step: float) -> None:
    wanted = min(max(controls.strength + step, 0.0), MAXIMUM)
    controls.strength = round(wanted, 4)  # 0.15, and not what adding 0.05 three times leaves
