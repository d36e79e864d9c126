"""Models that bring code: loaded, exported and run in a confined process of their own.

The process gets what is asked as Python objects. What it says is not trusted: it comes as plain
values of known types, and the graph as an ONNX file that is read as any other.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer
from typing import Annotated, Any

import msgspec
import numpy as np
import onnx
from msgspec import Meta, Struct

from ... import errors
from ...bundle.kinds import OutputKind
from ...errors import ArgumentError, ConversionError, EdgerestoreError, first_line
from ...imaging.arrays import Planes
from ..confinement import can_confine
from ..graph.onnx_graphs import read_onnx
from .files import SourceKind, recognise
from .loaded_model import Declared, LoadedModel, load_model

__all__ = ["brings_code", "confined_model", "serve"]

_PATIENCE_S = 600.0  # for the export, and for each run
_PARTING_S = 5.0
_ANSWER_BYTES = 1 << 30
_CORE = "core.onnx"
_START = (
    "import sys; from edgerestore.convert.confinement import confine; confine(sys.argv[2]);"
    "from edgerestore.convert.checkpoint.confined_model import serve;"
    "serve(int(sys.argv[1]), sys.argv[2])"
)


def brings_code(path: Path, architecture: str | None) -> bool:
    """Return whether a source is a program, or its network comes from a file or module."""
    own = architecture is not None and ":" in architecture
    return own or recognise(path) in (SourceKind.TORCHSCRIPT, SourceKind.EXPORTED)


class _Read(Struct, tag=True):
    """The program was read and its graph written."""

    channels: Annotated[int, Meta(ge=1, le=1 << 16)]
    core_residual: bool
    network_residual: bool
    range_stated: bool
    output_kind: OutputKind
    pair_px: Annotated[int, Meta(ge=1, le=1 << 16)] | None
    declared: Declared


class _Made(Struct, tag=True):
    """Outcome of the network, f32."""

    shape: tuple[int, ...]
    values: bytes


class _Failed(Struct, tag=True):
    """An error: its class's name, where it is one of ours, and its message."""

    kind: str
    message: str


@contextmanager
def confined_model(
    path: Path,
    architecture: str | None,
    arguments: Mapping[str, Any],
    residual: bool | None,
    color: str | None,
    network_output: int | None = None,
) -> Iterator[LoadedModel]:
    """Give a model whose code runs in a confined process, until the block ends; see `load_model`.

    Raises
    ------
    ConversionError
        Where this kernel cannot confine; when the program takes too long, or ends.
    """
    where = path if architecture is None else architecture
    if not can_confine():
        raise ConversionError(
            f"{where}: is a program, and this system cannot confine it (that takes Linux 6.2 with"
            " Landlock): convert from safetensors, or add --trust to run it as it is"
        )
    kind = recognise(path)
    with (
        tempfile.TemporaryDirectory(prefix="edgerestore-", ignore_cleanup_errors=True) as folder,
        closing(_Process(folder, str(where))) as process,
    ):
        found = process.ask((path, architecture, arguments, residual, color, network_output))
        if not isinstance(found, _Read):
            raise ConversionError(f"{where}: {_STRANGE}")
        yield LoadedModel(
            kind,
            read_onnx(Path(folder) / _CORE),
            process.run,
            found.channels,
            architecture or str(kind),
            dict(arguments),
            found.core_residual,
            found.network_residual,
            range_stated=found.range_stated,
            declared=found.declared,
            output_kind=found.output_kind,
            pair_px=found.pair_px,
        )


_STRANGE = "its process gave an answer that is none"


class _Process:
    """Confined process that has one program, and answers one question at a time."""

    def __init__(self, folder: str, where: str) -> None:
        self._where, self._late, self._killed = where, False, False
        places = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this package's own code
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), folder],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": places, "TMPDIR": folder},
            )
        self._connection = Connection(os.dup(self._socket.fileno()))

    def ask(self, question: object) -> _Read | _Made:
        """Put a question and wait for the answer.

        Raises
        ------
        EdgerestoreError
            The process's own, or a `ConversionError` where it gives no answer in time.
        """
        timer = Timer(_PATIENCE_S, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            self._connection.send(question)
            text = self._connection.recv_bytes(_ANSWER_BYTES)
            answer = msgspec.msgpack.decode(text, type=_Read | _Made | _Failed)
        except msgspec.MsgspecError as error:
            raise ConversionError(f"{self._where}: {_STRANGE}: {first_line(error)}") from error
        except (EOFError, OSError) as error:
            raise ConversionError(f"{self._where}: {self._end()}") from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ArgumentError(
                f"{self._where}: arguments cannot be given to a confined process"
                f" ({first_line(error)}); --trust runs it in this one"
            ) from error
        finally:
            timer.cancel()
        if isinstance(answer, _Failed):
            kind = {name: getattr(errors, name) for name in errors.__all__}.get(answer.kind)
            if isinstance(kind, type) and issubclass(kind, EdgerestoreError):
                raise kind(answer.message)
            raise ConversionError(f"{self._where}: {answer.message}")
        return answer

    def run(self, image: Planes) -> Planes:
        """Run the network."""
        made = self.ask((image.shape, np.ascontiguousarray(image, np.float32).tobytes()))
        try:
            if isinstance(made, _Made):
                return np.frombuffer(made.values, np.float32).reshape(made.shape).copy()
        except ValueError:
            pass
        raise ConversionError(f"{self._where}: {_STRANGE}")

    def _give_up(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        """End the process; whoever waits for its answer waits no longer."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if not self._killed:
            self._killed = True
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, and wait for its end."""
        self._kill()
        self._process.wait()
        self._connection.close()
        self._socket.close()

    def _end(self) -> str:
        """Say why there is no answer."""
        if self._late:
            return f"gave no answer in {_PATIENCE_S:g} s and was ended; --trust waits for it"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PARTING_S)
        code = self._process.returncode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended before it answered (exit code {code})"


def serve(descriptor: int, folder: str) -> None:
    """Answer a parent process's questions: first for a model, then for what it makes of images.

    Parameters
    ----------
    descriptor : int
        Of the socket to the parent.
    folder : str
        The graph is written there.
    """
    connection = Connection(descriptor)
    loaded: LoadedModel | None = None
    with suppress(EOFError):
        while True:
            answer: _Read | _Made | _Failed
            try:
                question = connection.recv()
                if loaded is None:
                    loaded = load_model(*question)
                    answer = _written(loaded, folder)
                else:
                    answer = _made(loaded, *question)
            except EOFError:
                raise
            except EdgerestoreError as error:
                answer = _Failed(type(error).__name__, str(error))
            except Exception as error:  # whatever an author's program raises
                answer = _Failed("", f"{type(error).__name__}: {first_line(error)}")
            connection.send_bytes(msgspec.msgpack.encode(answer))


def _written(loaded: LoadedModel, folder: str) -> _Read:
    onnx.save(loaded.core, Path(folder) / _CORE)
    return _Read(
        loaded.channels,
        loaded.core_residual,
        loaded.network_residual,
        loaded.range_stated,
        loaded.output_kind,
        loaded.pair_px,
        loaded.declared,
    )


def _made(loaded: LoadedModel, shape: tuple[int, ...], values: bytes) -> _Made:
    made = loaded.network(np.frombuffer(values, np.float32).reshape(shape).copy())
    return _Made(made.shape, np.ascontiguousarray(made, np.float32).tobytes())
