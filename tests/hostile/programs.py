"""Programs that do what no model should, as TorchScript and as files of Python."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgerestore.convert.graph.export import quiet

__all__ = ["OWN", "write_script"]


class Overwrites(nn.Module):
    """Fills a file with zeros while it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.kept = torch.zeros(4)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        self.kept = torch.from_file(state[0], shared=True, size=4).fill_(0)

    def forward(self, image: Tensor) -> Tensor:
        return image * 0.5


class Saves(nn.Module):
    """Writes a file while it runs."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        torch.save(image, self.path)
        return image * 0.5


class Loops(nn.Module):
    """Never returns."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        while bool(image.sum() < 1e9):
            image = image * 0.5
        return image


class Fills(nn.Module):
    """Asks for 16 TiB."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        return image + torch.zeros([1 << 42]).sum()


class Halves(nn.Module):
    """Halves an image and does nothing else."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        return image * 0.5


def write_script(kind: str, path: Path, target: Path) -> Path:
    """Write a program of the kind that these classes are; ``target`` is what it is after."""
    with quiet():
        torch.jit.script(globals()[kind](str(target))).save(str(path))
    return path


OWN = """
import ctypes, os, signal, subprocess, sys
from torch import nn

class Own(nn.Module):
    task = "deblur"

    def __init__(self, does="", target="", **declared):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        print("\\x1b[2Jcleared", file=sys.stderr, flush=True)
        if does == "write":
            open(target, "w").write("overwritten")
        elif does == "shell":
            subprocess.run(["cp", __file__, target], check=True)
        elif does == "exit":
            os._exit(3)
        elif does == "crash":
            ctypes.string_at(0)
        elif does == "kill":
            os.kill(os.getppid(), signal.SIGKILL)
        elif does == "steer":
            raise ValueError("\\x1b]0;title\\x07\\x1b[2J")
        elif does == "answer":
            answer(bytes.fromhex(target))
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, image):
        return self.convolution(image)

def answer(text):
    \"\"\"Say to the parent what it does not expect, in place of the package's own answer.\"\"\"
    from multiprocessing.connection import Connection
    Connection(int(sys.argv[1])).send_bytes(text)
"""
"""A file of Python with a network ``Own``, which does what its argument says."""
