"""A stream's controls without a stream, for those who turn them."""

from __future__ import annotations

from typing import Any

from edgerestore.engine.strength import check_scalar
from edgerestore.errors import BusyError


class FakeControls:
    """Keeps what it is told; `calls` lists it in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.switching = False
        self._strength = 1.0
        self._paused = False

    @property
    def strength(self) -> float:
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = check_scalar(strength)
        self.calls.append(("strength", self._strength))

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self) -> None:
        self._paused = True
        self.calls.append(("pause",))

    def resume(self) -> None:
        self._paused = False
        self.calls.append(("resume",))

    def stop(self) -> None:
        self.calls.append(("stop",))

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        if self.switching:
            raise BusyError("another switch is under way; wait for it")
        self.calls.append(("switch", model, precision))

    def cancel_switch(self) -> None:
        self.calls.append(("cancel switch",))

    def status(self) -> dict[str, Any]:
        state = "PAUSED" if self._paused else "RUNNING"
        return {"state": state, "strength": self._strength, "model": "deblur", "fps": 25.0}
