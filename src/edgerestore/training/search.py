"""Search of a recipe's settings by Optuna: under a budget of multiply-adds, pruned, resumable."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import optuna
import torch
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError
from torch import nn

from ..bundle.locks import lock_if_free
from ..convert.graph.cost import count_network_gmac
from ..errors import ArgumentError, CheckpointError, SinkError, TrainingError, first_line
from .dataset import Dataset, SplitName
from .learner import TrainingPrecision
from .log import read_log
from .recipes import Recipe, Schedule
from .search_results import SearchResults, TrialResult, TrialStatus
from .space import Settings, Shape
from .trainer import Row, Trainer

__all__ = ["Search", "SearchSampler"]

Distribution = FloatDistribution | IntDistribution

_VALIDATIONS = 8  # of a trial
_PRUNED_FROM = 0.25  # share of a trial's steps
_LEAST_BUDGET_SHARE = 0.125
_JUDGED = 4  # complete trials before importances say anything
_STATUS = {
    TrialState.COMPLETE: TrialStatus.COMPLETE,
    TrialState.PRUNED: TrialStatus.PRUNED,
    TrialState.FAIL: TrialStatus.FAILED,
}


class SearchSampler(StrEnum):
    """Way to draw settings: Parzen estimators (TPE), or an adapted covariance (CMA-ES)."""

    TPE = "tpe"
    CMA = "cma"


class Search:
    """Search of a recipe's settings in a folder.

    Parameters
    ----------
    recipe : Recipe
        With a space.
    datasets : sequence of Dataset
        Their test splits are not looked at.
    folder : Path
        Gets ``search.db``, which is resumed, and in ``trials`` a training run each.
    schedule : dict
        Fields of the recipe's schedule that all trials have other values of.
    sampler : SearchSampler
    steps : int or None
        Of each trial; by default the space's.
    budget_gmac : float or None
        Most multiply-adds per 1280x720 frame, in billions.
    seed : int
        Of the sampler; a trial is trained by the schedule's.
    device : torch.device
    precision : TrainingPrecision
    notice : callable
        Called with lines about the trials.

    Raises
    ------
    ArgumentError
        When the recipe has no space or makes masks, the budget is below its least network, or the
        folder holds another search.
    CheckpointError
        When ``search.db`` cannot be used.
    SinkError
        When another process searches in the folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        datasets: Sequence[Dataset],
        folder: Path,
        *,
        schedule: Mapping[str, Any],
        sampler: SearchSampler,
        steps: int | None,
        budget_gmac: float | None,
        seed: int,
        device: torch.device,
        precision: TrainingPrecision,
        notice: Callable[[str], None],
    ) -> None:
        if recipe.space is None:
            raise ArgumentError(f"recipe {recipe.name}: has no space; docs/training.md says how")
        self._given = Settings(dict(schedule))
        self.recipe, self.space, self.folder = self._given.applied_to(recipe), recipe.space, folder
        self.steps = steps or recipe.space.steps
        self._datasets = [_without_test(dataset) for dataset in datasets]
        self._splits = [dataset.split(SplitName.TRAIN) for dataset in datasets]
        if any(one.targets.shape[3] != one.inputs.shape[3] for one in self._splits):
            raise ArgumentError(
                f"recipe {recipe.name}: is judged by its masks, and a search compares gains in dB"
            )
        self._sampler, self._seed, self._budget_gmac = sampler, seed, budget_gmac
        self._device, self._precision, self._notice = device, precision, notice
        self._distributions = self._drawn(self._least_gmac())
        self._database = folder / "search.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "search.lock").touch()
        except OSError as error:
            raise ArgumentError(f"-o {folder}: {first_line(error)}; name a folder") from error
        lock = lock_if_free(folder / "search.lock")
        if lock is None:
            raise SinkError(f"{folder}: another search is at work there; use another folder for -o")
        self._lock = lock
        try:
            with _storage_errors(self._database):
                self._storage = self._connected()
                self._study = self._opened()
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let another process search in the folder."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        os.close(self._lock)

    def run(
        self,
        trials: int,
        seconds: float,
        report: Callable[[SearchResults, TrialResult], None],
        tick: Callable[[int, int, str], None],
    ) -> SearchResults:
        """Make trials until there are enough, or the time is over.

        Parameters
        ----------
        trials : int
            Those of earlier runs included.
        seconds : float
            A trial in training then stops at its next validation; the next run continues it.
        report : callable
            Called with all results and the latest one after each trial.
        tick : callable
            Called after each step with the steps done, their number, and a label.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT or SIGTERM, once the trial's checkpoint is written.
        """
        until = time.monotonic() + seconds
        with _storage_errors(self._database):
            found = self.results()
            while (done := len(found.finished)) < trials and time.monotonic() < until:

                def step(made: int, loss: float, done: int = done) -> None:
                    label = f"trial {done + 1}/{trials}, loss {loss:.5f}"
                    tick(done * self.steps + made, trials * self.steps, label)

                trial = self._next_trial(done)
                self._advance(trial, until, step)
                found = self.results()
                if len(found.finished) > done:
                    report(found, found.trials[trial.number])
            return found

    def results(self) -> SearchResults:
        """Return what the trials have come to so far."""
        trials = self._study.get_trials(deepcopy=False)
        results = SearchResults(
            plan=self._plan(),
            datasets=tuple(str(dataset.folder) for dataset in self._datasets),
            trials=tuple(_result(trial) for trial in trials if "gmac" in trial.user_attrs),
            importances={},
        )
        if len(results.complete) < _JUDGED:
            return results
        importances = optuna.importance.get_param_importances(self._study)
        return msgspec.structs.replace(results, importances=importances)

    def _next_trial(self, done: int) -> Trial:
        """Return the trial that was interrupted, else a fresh one.

        An interrupted trial keeps its number, and the sampler is seeded by it: a search that was
        interrupted ends as if it had not been.
        """
        study, seed = self._study, self._seed * 1_000_003 + done
        study.sampler = (
            optuna.samplers.TPESampler(seed=seed)
            if self._sampler is SearchSampler.TPE
            else optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        )
        started = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trial = Trial(study, started[0]._trial_id) if started else study.ask()
        for name, distribution in self._distributions.items():
            _draw(trial, name, distribution)
        if "gmac" not in trial.user_attrs:
            settings = self._settings(trial.params)
            trial.set_user_attr("settings", msgspec.to_builtins(settings))
            trial.set_user_attr("gmac", self._cost(settings.network))
        return trial

    def _advance(self, trial: Trial, until: float, step: Callable[[int, float], None]) -> None:
        """Train a trial, or what is left of it, and tell the study."""
        began, before_s = time.monotonic(), trial.user_attrs.get("seconds", 0.0)
        folder = self.folder / "trials" / f"{trial.number:04}"
        gain_db, state = None, TrialState.FAIL
        try:
            gain_db, state = self._trained(trial, folder, until, step), TrialState.COMPLETE
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except (TrainingError, torch.OutOfMemoryError) as error:
            trial.set_user_attr("reason", first_line(error))
        except _TimeOverError:
            return
        finally:
            trial.set_user_attr("seconds", before_s + time.monotonic() - began)
        self._study.tell(trial, gain_db, state)
        if state is not TrialState.FAIL:
            (folder / "checkpoint.pt").unlink(missing_ok=True)

    def _trained(
        self, trial: Trial, folder: Path, until: float, step: Callable[[int, float], None]
    ) -> float:
        """Return the validation gain of a trial after its last step, in dB."""
        settings = msgspec.convert(trial.user_attrs["settings"], Settings)
        recipe = settings.applied_to(self.recipe)
        recipe = replace(recipe, schedule=_shortened(recipe.schedule, self.steps))
        torch.manual_seed(recipe.schedule.seed)
        trainer = Trainer(
            recipe,
            recipe.network(),
            self._datasets,
            folder,
            device=self._device,
            precision=self._precision,
            notice=lambda line: self._notice(f"trial {trial.number}: {line}"),
        )

        def validated(row: Row) -> None:
            trial.report(row.scores.figures["gain_db"], row.step)
            if row.step < self.steps and trial.should_prune():
                raise optuna.TrialPruned
            if row.step < self.steps and time.monotonic() >= until:
                raise _TimeOverError

        trainer.run(validated, step)
        # From the log: a trial that was killed after its last step has no validation to make.
        return read_log(folder / "log.csv")[-1]["gain_db"]

    def _settings(self, drawn: dict[str, Any]) -> Settings:
        """Return settings by the values of Optuna's parameters."""
        drawn = {name: _rounded(value) for name, value in drawn.items()}
        schedule: dict[str, Any] = dict(self._given.schedule)
        if self.space.learning_rate:
            schedule["learning_rate"] = drawn["learning_rate"]
        if len(self._datasets) > 1:
            weights = [drawn[f"data_{at}"] for at in range(len(self._datasets))]
            schedule["shares"] = tuple(_rounded(weight / sum(weights)) for weight in weights)
        shape: Shape = {
            name: tuple(drawn[f"{name}_{level}"] for level in range(len(levels)))
            for name, levels in self.space.shape_bounds.items()
        }
        if self._budget_gmac and shape:
            shape = self.space.shrunk(shape, drawn["budget_share"] * self._budget_gmac, self._cost)
        losses = {name: drawn[f"loss_{name}"] for name in self.space.losses}
        return Settings(schedule, losses, dict(shape))

    def _drawn(self, least_gmac: float) -> dict[str, Distribution]:
        """Return what Optuna draws from, by name."""
        space, found = self.space, dict[str, Distribution]()
        weights = {"learning_rate": space.learning_rate} if space.learning_rate else {}
        weights |= {f"loss_{name}": bounds for name, bounds in space.losses.items()}
        if len(self._datasets) > 1:
            weights |= {f"data_{at}": space.shares for at in range(len(self._datasets))}
        if self._budget_gmac and space.network:
            # Each trial has a budget of its own, so that there is a front to see.
            least = max(_LEAST_BUDGET_SHARE, least_gmac / self._budget_gmac)
            weights["budget_share"] = (least, 1.0)
        found |= {name: FloatDistribution(*bounds, log=True) for name, bounds in weights.items()}
        for name, levels in space.shape_bounds.items():
            step = space.width_step if name == "widths" else 1
            for level, bounds in enumerate(levels):
                found[f"{name}_{level}"] = IntDistribution(*bounds, step=step)
        return found

    def _own(self) -> dict[str, Any]:
        """Return the recipe's own values of what is drawn, as far as they are within bounds."""
        schedule, objective = self.recipe.schedule, self.recipe.objective
        own: dict[str, Any] = {"learning_rate": schedule.learning_rate, "budget_share": 1.0}
        own |= {f"loss_{name}": one for name, one in getattr(objective, "losses", {}).items()}
        shares = schedule.shares or [len(split) for split in self._splits]
        own |= {f"data_{at}": share / max(shares) for at, share in enumerate(shares)}
        network: Any = self.recipe.network()
        same = type(network) is type(self._network(self.space.least_shape))
        if same and hasattr(network, "arguments_from"):
            arguments: dict[str, Any] = network.arguments_from(network.state_dict())
            for name in self.space.shape_bounds.keys() & arguments.keys():
                own |= {f"{name}_{level}": number for level, number in enumerate(arguments[name])}
        return {
            name: own[name]
            for name, drawn in self._distributions.items()
            if name in own
            and drawn.low <= own[name] <= drawn.high
            and (drawn.step is None or (own[name] - drawn.low) % drawn.step == 0)
        }

    def _cost(self, shape: Shape) -> float:
        """Return the GMAC per 1280x720 frame of the network of a shape."""
        return count_network_gmac(self._network(shape), self._splits[0].inputs.shape[3])

    def _network(self, shape: Shape) -> nn.Module:
        return Settings(network=dict(shape)).applied_to(self.recipe).network()

    def _least_gmac(self) -> float:
        name, budget = self.recipe.name, self._budget_gmac
        try:
            least = self._cost(self.space.least_shape)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"recipe {name}: the network of its space cannot be made: {first_line(error)}"
            ) from error
        if budget is not None and budget < least:
            raise ArgumentError(
                f"--budget-gmac {budget:g}: the least network of recipe {name} needs {least:g};"
                " allow more, or lower the bounds of its space"
            )
        return least

    def _plan(self) -> dict[str, Any]:
        """Return what must not change between two runs, as JSON has it."""
        plan = {
            "recipe": self.recipe.name,
            "space": self.space,
            "budget_gmac": self._budget_gmac,
            "steps": self.steps,
            "sampler": self._sampler,
            "seed": self._seed,
            "schedule": self.recipe.schedule,
            "datasets": [dataset.digest for dataset in self._datasets],
        }
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan, enc_hook=_named))
        return found

    def _connected(self) -> optuna.storages.RDBStorage:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        url = URL.create("sqlite", database=str(self._database)).render_as_string()
        try:
            return optuna.storages.RDBStorage(url)
        except RuntimeError as error:  # of another version
            raise CheckpointError(
                f"{self._database}: {first_line(error)} Use another folder for -o"
            ) from error

    def _opened(self) -> optuna.Study:
        """Return the folder's study; a fresh one begins with the recipe's own settings."""
        study = optuna.create_study(
            storage=self._storage,
            study_name="search",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=int(_PRUNED_FROM * self.steps)),
            load_if_exists=True,
        )
        plan, before = self._plan(), study.user_attrs.get("plan")
        if before is None:
            study.enqueue_trial(self._own(), user_attrs={"own": True}, skip_if_exists=True)
            study.set_user_attr("plan", plan)
        elif before != plan:
            told = [
                f"{name} {before.get(name)}, now {now}"
                if isinstance(now, (str, int, float))
                else f"other {name}"
                for name, now in plan.items()
                if before.get(name) != now
            ]
            raise ArgumentError(
                f"{self._database}: is of another search ({'; '.join(told)}); use that one, or"
                " another folder for -o"
            )
        return study


class _TimeOverError(Exception):
    """The time of a run is over while a trial is trained."""


def _result(trial: FrozenTrial) -> TrialResult:
    attributes = trial.user_attrs
    return TrialResult(
        number=trial.number,
        status=_STATUS.get(trial.state, TrialStatus.STARTED),
        gain_db=trial.intermediate_values.get(trial.last_step or 0),
        gmac=attributes["gmac"],
        step=trial.last_step or 0,
        seconds=attributes.get("seconds", 0.0),
        settings=msgspec.convert(attributes["settings"], Settings),
        own=attributes.get("own", False),
        reason=attributes.get("reason", ""),
    )


def _shortened(schedule: Schedule, steps: int) -> Schedule:
    """Return a schedule of so many steps, with a warm-up and an average that fit in."""
    return replace(
        schedule,
        steps=steps,
        every=math.ceil(steps / _VALIDATIONS),
        warmup_steps=min(schedule.warmup_steps, steps // 10),
        average_decay=min(schedule.average_decay, max(0.0, 1 - 10 / steps)),
    )


def _without_test(dataset: Dataset) -> Dataset:
    arrays = {
        name: one for name, one in dataset.manifest.arrays.items() if name is not SplitName.TEST
    }
    return replace(dataset, manifest=msgspec.structs.replace(dataset.manifest, arrays=arrays))


def _draw(trial: Trial, name: str, drawn: Distribution) -> None:
    if isinstance(drawn, IntDistribution):
        trial.suggest_int(name, drawn.low, drawn.high, step=drawn.step)
    else:
        trial.suggest_float(name, drawn.low, drawn.high, log=drawn.log)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _named(value: object) -> str:
    return getattr(value, "__qualname__", type(value).__name__)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the storage into ours."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        raise CheckpointError(
            f"{path}: {first_line(cause)}; free the disk, restore the file, or use another folder"
            " for -o"
        ) from error
