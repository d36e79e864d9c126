"""Results of a search: its trials, the best of them, and the front of gain against cost."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from .space import Settings

__all__ = ["SearchResults", "TrialResult", "TrialStatus"]


class TrialStatus(StrEnum):
    """Status of a trial; a started one was interrupted, and is continued before any other."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    STARTED = "started"


class TrialResult(Struct, frozen=True, kw_only=True):
    """Trial of a search.

    Parameters
    ----------
    number : int
        From 0; the folder of its training run.
    status : TrialStatus
    gain_db : float or None
        On the validation splits, at the last validation.
    gmac : float
        Multiply-adds per 1280x720 frame, in billions.
    step : int
        Of the last validation.
    seconds : float
    settings : Settings
    own : bool
        The recipe's own settings, as far as the space holds them.
    reason : str
        Why it failed.
    """

    number: int
    status: TrialStatus
    gain_db: float | None
    gmac: float
    step: int
    seconds: float
    settings: Settings
    own: bool = False
    reason: str = ""


class SearchResults(Struct, frozen=True, kw_only=True):
    """All trials of a search so far.

    Parameters
    ----------
    plan : dict
        What makes the search this one: recipe, space, budget, sampler, seed, datasets.
    datasets : tuple of str
        Folders, in the order of shares.
    trials : tuple of TrialResult
    importances : dict of str to float
        Share of each setting in what sets the better trials apart; empty for too few trials.
    """

    plan: dict[str, Any]
    datasets: tuple[str, ...]
    trials: tuple[TrialResult, ...]
    importances: dict[str, float]

    @property
    def finished(self) -> list[TrialResult]:
        """Trials that are not to be continued."""
        return [one for one in self.trials if one.status is not TrialStatus.STARTED]

    @property
    def complete(self) -> list[TrialResult]:
        """Trials that were trained to their last step."""
        return [one for one in self.trials if one.status is TrialStatus.COMPLETE]

    @property
    def seconds(self) -> float:
        """Time that the trials took together."""
        return sum(one.seconds for one in self.trials)

    @property
    def best(self) -> TrialResult | None:
        """Complete trial with the largest gain; the cheaper one of equals."""
        return max(self.complete, key=lambda one: (one.gain_db, -one.gmac), default=None)

    @property
    def front(self) -> list[TrialResult]:
        """Complete trials that none beats in both gain and cost, by cost."""
        front: list[TrialResult] = []
        for one in sorted(self.complete, key=lambda one: (one.gmac, -(one.gain_db or 0))):
            if not front or (one.gain_db or 0) > (front[-1].gain_db or 0):
                front.append(one)
        return front
