"""Networks for weights: known architectures, the user's own factories, spandrel's."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ...bundle.kinds import OutputKind
from ...errors import ArgumentError, CheckpointError, ConversionError, MissingExtraError
from ..architectures import REGISTRY, Architecture
from ..architectures.discriminators import find_discriminator
from .files import State
from .spandrel_models import import_spandrel, load_spandrel

__all__ = ["Network", "build_network", "build_own", "parse_arguments"]


def parse_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Read ``K=V`` pairs; values are Python literals, or text where they are none.

    Raises
    ------
    ArgumentError
        On a pair without a name or a ``=``.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"--arch-arg {pair}: expected NAME=VALUE, like width=32")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def build_own(reference: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import a network's factory and call it.

    Parameters
    ----------
    reference : str
        ``FILE.py:FACTORY`` or ``package.module:FACTORY``. The code runs: it is the user's
        own.
    arguments : mapping
        Passed to the factory by name.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ArgumentError
        When there is no such file, module or factory, or it refuses the arguments.
    ConversionError
        When the file or the factory fails, or the factory returns no module.
    """
    where, _, _ = reference.rpartition(":")
    with _importable_first(Path(where).parent if where.endswith(".py") else Path()):
        factory = _find(reference)
        try:
            network = factory(**arguments)
        except TypeError as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "none"
            raise ArgumentError(f"{reference}: arguments {given}: {error}") from error
        except Exception as error:
            raise ConversionError(f"{reference}: {_told(error, reference)}") from error
    if not isinstance(network, nn.Module):
        raise ConversionError(
            f"{reference}: returned {type(network).__name__}, expected a torch.nn.Module"
        )
    return network


@contextmanager
def _importable_first(folder: Path) -> Iterator[None]:
    """Import modules of a folder before others; afterwards, when the network runs, as the last.

    What the user's code does to the path stays.
    """
    place = str(folder.resolve())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
        if place not in sys.path:
            sys.path.append(place)


def _told(error: Exception, reference: str) -> str:
    """Return an error of the user's code in one line, with a hint on relative imports."""
    text = f"{type(error).__name__}: {error}"
    where, _, name = reference.rpartition(":")
    if not (where.endswith(".py") and "attempted relative import" in text):
        return text
    path = Path(where).resolve()
    return (
        f"{text}; name it as a part of its package: in {path.parent.parent},"
        f" --arch {path.parent.name}.{path.stem}:{name}"
    )


def _find(reference: str) -> Callable[..., Any]:
    where, _, name = reference.rpartition(":")
    by_file = where.endswith(".py")
    module = _import_file(Path(where), reference) if by_file else _import_module(where)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ArgumentError(f"--arch {reference}: {where} has no class or function {name!r}")
    return factory  # type: ignore[no-any-return]


def _import_file(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        raise ArgumentError(f"--arch {path}: no such file")
    spec = spec_from_file_location(f"edgerestore_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"--arch {path}: is no Python file")
    module = module_from_spec(spec)
    # Dataclasses and pickling look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConversionError(f"{path}: {_told(error, reference)}") from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"--arch {name}: {error}") from error
    except Exception as error:
        raise ConversionError(f"{name}: {type(error).__name__}: {error}") from error


_WRAPPERS = {"model", "net", "network", "net_g", "netG", "generator", "gen", "module", "G"}
_NAMED = 4  # weights named in an error before the number of further ones


@dataclass(frozen=True)
class Network:
    """Network with its weights, ready to export.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, f32, on the CPU.
    architecture : str
        The registry's name, the factory as the user named it, or what spandrel calls it.
    row : Architecture or None
        The registry's row.
    arguments : dict
        What the constructor was given.
    channels : int or None
        Of the image, where they are known; None finds them by running the network.
    """

    module: nn.Module
    architecture: str
    row: Architecture | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    channels: int | None = None

    @property
    def half_precision(self) -> bool:
        """Whether a variant in 16-bit floats may be written."""
        declaring = self.row or self.module
        # Users' networks may still declare it by its former name.
        return bool(getattr(declaring, "half_precision", getattr(declaring, "halves", True)))

    @property
    def pair_px(self) -> int | None:
        """Side of the tile pairs of a shift estimator; None for networks of images."""
        side = getattr(self.module, "pair_px", self.row.pair_px if self.row else None)
        return side if isinstance(side, int) else None

    @property
    def output_kind(self) -> OutputKind:
        """Kind of output that the network declares; networks of images and masks need not.

        Raises
        ------
        ConversionError
            When the module declares a kind that is not known.
        """
        if self.pair_px is not None:
            return OutputKind.SHIFT
        declared = getattr(self.row or self.module, "output_kind", None) or OutputKind.IMAGE
        if declared not in list(OutputKind):
            raise ConversionError(
                f"{self.architecture}: output_kind {declared!r} is not known;"
                f" use {', '.join(OutputKind)}"
            )
        return OutputKind(declared)


def build_network(
    state: State,
    where: Path,
    architecture: str | None,
    arguments: Mapping[str, Any],
    *,
    spandrel: Callable[[], Any] | None = None,
) -> Network:
    """Find or take the network that weights belong to, and load them.

    Parameters
    ----------
    state : dict of str to Tensor
    where : Path
        The checkpoint, named in errors.
    architecture : str or None
        A name of the registry, ``FILE.py:FACTORY``, ``pkg.mod:FACTORY``; None detects it.
    arguments : mapping
        Constructor arguments; they replace the ones read off the weights.
    spandrel : callable or None
        Returns the spandrel package, which is asked where no known network fits, or raises
        MissingExtraError; None imports it.

    Raises
    ------
    CheckpointError
        When no network fits, or the weights do not fit the one that was named.
    ArgumentError
        When the named network does not exist or refuses the arguments.
    """
    if architecture is not None and ":" in architecture:
        module = build_own(architecture, arguments)
        _load(module, list(_variants(state)), where, architecture)
        return Network(module.float().eval(), architecture, None, dict(arguments))
    found = _row(state, where, architecture)
    if found is None:
        return _through_spandrel(state, where, arguments, spandrel or import_spandrel)
    row, weights = found
    try:
        chosen = {**row.arguments_from(weights), **arguments}
        module = row.build(**chosen)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{where}: has not the shapes of {row.name}: {type(error).__name__}: {error}"
        ) from error
    except TypeError as error:
        raise ArgumentError(f"--arch-arg: {row.name}: {error}") from error
    _load(module, [weights], where, row.name)
    return Network(module.float().eval(), row.name, row, chosen)


def _row(state: State, where: Path, name: str | None) -> tuple[Architecture, State] | None:
    if name is not None:
        if name not in REGISTRY:
            raise ArgumentError(
                f"--arch {name}: is not known; use {', '.join(REGISTRY.names)},"
                " FILE.py:FACTORY or pkg.mod:FACTORY"
            )
        row = REGISTRY[name]
        fitting = [weights for weights in _variants(state) if row.fits(weights)]
        best = max(_variants(state), key=row.overlap)
        return row, fitting[0] if fitting else best
    for weights in _variants(state):
        found = REGISTRY.fitting(weights)
        if len(found) > 1:
            raise CheckpointError(
                f"{where}: fits {' and '.join(row.name for row in found)}; say which with --arch"
            )
        if found:
            if found[0].refusal is not None and (other := found[0].refusal(weights)):
                raise CheckpointError(
                    f"{where}: is {other}; export it to ONNX with the level built in"
                )
            return found[0], weights
    if family := next(filter(None, map(find_discriminator, _variants(state))), None):
        raise CheckpointError(
            f"{where}: is a discriminator ({family}), which only training needs;"
            " convert the generator"
        )
    if whole := REGISTRY.whole_of(state, where.stem):
        raise CheckpointError(
            f"{where}: is a part of {whole.name}; name the folder that holds the other parts too"
        )
    return None


def _through_spandrel(
    state: State, where: Path, arguments: Mapping[str, Any], package: Callable[[], Any]
) -> Network:
    """Build the network through spandrel, which is tried last."""
    try:
        found = load_spandrel(package(), _variants(state), where)
    except MissingExtraError as error:
        raise CheckpointError(f"{_unknown(state, where)}; {error}") from error
    if found is None:
        raise CheckpointError(f"{_unknown(state, where)}; spandrel does not know it either")
    if arguments:
        raise ArgumentError(
            f"--arch-arg: {found.architecture} is loaded by spandrel, which reads its arguments"
            " off the weights"
        )
    return Network(found.module, found.architecture, channels=found.channels)


def _unknown(state: State, where: Path) -> str:
    nearest = max(
        (REGISTRY.nearest(weights) for weights in _variants(state)), key=lambda n: n[0][1]
    )
    listed = ", ".join(f"{name} ({share:.0%} of the names)" for name, share in nearest)
    return (
        f"{where}: no known network has these weights ({_few(state)}); nearest: {listed};"
        " name your own with --arch FILE.py:FACTORY"
    )


def _variants(state: State) -> Iterator[State]:
    """Yield the weights as they are, then without prefixes that trainers and wrappers add.

    Each also under the names of a known network that has had others (`renamed` of its class).
    """
    yield from _under_all_names(state)
    for _ in range(3):
        groups: dict[str, State] = {}
        for name, value in state.items():
            head, dot, rest = name.partition(".")
            groups.setdefault(head if dot else name, {})[rest] = value
        # A wrapper may keep its losses beside the network, but an arbitrary part of a network
        # is not the network, however much it looks like another one.
        wrapped = [head for head in groups if head in _WRAPPERS or len(groups) == 1]
        if not wrapped:
            return
        state = max((groups[head] for head in wrapped), key=len)
        yield from _under_all_names(state)


def _under_all_names(state: State) -> Iterator[State]:
    yield state
    for row in REGISTRY:
        renamed = getattr(row.network, "renamed", None)
        if renamed is not None and row.fits(names := renamed(state)) and not row.fits(state):
            yield names


def _load(module: nn.Module, candidates: Sequence[State], where: Path, name: str) -> None:
    wanted = module.state_dict()

    def misfits(state: State) -> int:
        return len(wanted.keys() ^ state.keys())

    state = min(candidates, key=misfits)
    problems = []
    # PyTorch before 0.4.1 did not count batches; the count is filled in on loading.
    if missing := {
        key for key in wanted.keys() - state.keys() if not key.endswith(".num_batches_tracked")
    }:
        problems.append(f"{len(missing)} missing ({_few(missing)})")
    if unexpected := state.keys() - wanted.keys():
        problems.append(f"{len(unexpected)} unexpected ({_few(unexpected)})")
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({_few(shapes, ordered=True)})")
    if problems:
        raise CheckpointError(f"{where}: does not fit {name}: {'; '.join(problems)}")
    module.load_state_dict(dict(state), strict=True)


def _few(names: Iterable[str], *, ordered: bool = False) -> str:
    listed = list(names) if ordered else sorted(names)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")
