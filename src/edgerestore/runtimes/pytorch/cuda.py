"""Computation of a PyTorch graph on a CUDA card: copies and kernels of several frames overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..protocol import QueueSpec
from .graph import StaticGraph

__all__ = ["CudaExecutor"]

_WARM_UPS = 3  # cuDNN chooses its kernels, and memory is taken, before launches are recorded


@dataclass
class _Slot:
    """Memory of one inference: pinned on the host, and on the card; and its three events."""

    host_image: Tensor
    image: Tensor
    host_output: Tensor
    tone: Tensor | None
    host_tone: Tensor | None
    # By whether strength is a number: its memory, and the launches recorded with it.
    strengths: dict[bool, tuple[Tensor, Tensor]]
    outputs: dict[bool, Tensor] = field(default_factory=dict)
    graphs: dict[bool, torch.cuda.CUDAGraph] = field(default_factory=dict)
    copied_in: Any = field(default_factory=torch.cuda.Event)
    computed: Any = field(default_factory=torch.cuda.Event)
    copied_out: Any = field(default_factory=torch.cuda.Event)


class CudaExecutor:
    """`Executor` with a stream for copies in, one for kernels, and one for copies out.

    Each slot has memory of its own, so that a frame is copied in while the one before is computed
    and the one before that is copied out.

    Parameters
    ----------
    graph : StaticGraph
    spec : QueueSpec
    shapes : dict of str to tuple of int
        Of ``image``, ``strength`` (a map), ``output``.
    device : torch.device
    slots : int
    recorded : bool
        Record the launches of a frame once and replay them (a CUDA graph).
    """

    def __init__(
        self,
        graph: StaticGraph,
        spec: QueueSpec,
        shapes: dict[str, tuple[int, ...]],
        device: torch.device,
        slots: int,
        *,
        recorded: bool,
    ) -> None:
        self._device, self._graph, self._recorded = device, graph, recorded
        torch.cuda.set_device(device)  # of this thread
        before = torch.cuda.memory_reserved(device)
        graph.move_to(device)
        stream: Any = torch.cuda.Stream
        self._into, self._compute, self._out = (stream(device) for _ in range(3))
        made = spec.output_depth or spec.depth
        sample, outcome = (_DTYPES[one.value] for one in (spec.depth, made))
        self.slots = slots
        self._slots = [self._slot(shapes, sample, outcome, spec) for _ in range(slots)]
        self._next = 0
        self._begin(self._slots[0], scalar=True)
        self.memory_bytes: int | None = torch.cuda.memory_reserved(device) - before

    def start(self, inputs: Sequence[NDArray[Any]], output: NDArray[Any] | None) -> Any:
        """See `Executor.start`."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        scalar = inputs[1].size == 1
        if scalar not in slot.outputs:
            self._begin(slot, scalar=scalar)
        host_strength, strength = slot.strengths[scalar]
        slot.host_image.copy_(torch.from_numpy(inputs[0]))
        host_strength.copy_(torch.from_numpy(inputs[1]))
        with torch.cuda.stream(self._into):
            slot.image.copy_(slot.host_image, non_blocking=True)
            strength.copy_(host_strength, non_blocking=True)
            if slot.tone is not None and slot.host_tone is not None:
                slot.host_tone.copy_(torch.from_numpy(inputs[2]))
                slot.tone.copy_(slot.host_tone, non_blocking=True)
            slot.copied_in.record()
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(slot.copied_in)
            if scalar in slot.graphs:
                slot.graphs[scalar].replay()
            else:
                slot.outputs[scalar].copy_(self._run(slot, scalar=scalar))
            slot.computed.record()
        with torch.cuda.stream(self._out):
            self._out.wait_event(slot.computed)
            slot.host_output.copy_(slot.outputs[scalar], non_blocking=True)
            slot.copied_out.record()
        return slot, output

    def finish(self, started: Any) -> NDArray[Any]:
        """See `Executor.finish`."""
        slot, output = started
        slot.copied_out.synchronize()
        made: NDArray[Any] = slot.host_output.numpy()
        if output is None:
            return made
        np.copyto(output, made)
        kept: NDArray[Any] = output
        return kept

    def close(self) -> None:
        """See `Executor.close`."""
        torch.cuda.synchronize(self._device)
        self._slots.clear()

    def _slot(
        self,
        shapes: dict[str, tuple[int, ...]],
        sample: torch.dtype,
        outcome: torch.dtype,
        spec: QueueSpec,
    ) -> _Slot:
        def pair(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            host = torch.zeros(shape, dtype=dtype, pin_memory=True)
            return host, torch.zeros(shape, dtype=dtype, device=self._device)

        host_image, image = pair(shapes["image"], sample)
        host_output = torch.zeros(shapes["output"], dtype=outcome, pin_memory=True)
        channels = shapes["output"][-1]
        host_tone, tone = pair((1, 2, channels), torch.float32) if spec.toned else (None, None)
        strengths = {
            True: pair((1, 1, 1, 1), torch.float32),
            False: pair(shapes["strength"], torch.float32),
        }
        return _Slot(host_image, image, host_output, tone, host_tone, strengths)

    def _begin(self, slot: _Slot, *, scalar: bool) -> None:
        """Run once or more without a result, and record the launches of one inference."""
        with torch.cuda.stream(self._compute):
            for _ in range(_WARM_UPS):
                made = self._run(slot, scalar=scalar)
            slot.outputs[scalar] = torch.empty_like(made)
        self._compute.synchronize()
        if not self._recorded:
            return
        recording = torch.cuda.CUDAGraph()
        # Other threads may allocate meanwhile: only this one is held to what can be recorded.
        with torch.cuda.graph(recording, stream=self._compute, capture_error_mode="thread_local"):
            slot.outputs[scalar].copy_(self._run(slot, scalar=scalar))
        slot.graphs[scalar] = recording

    def _run(self, slot: _Slot, *, scalar: bool) -> Tensor:
        inputs = [slot.image, slot.strengths[scalar][1]]
        with torch.inference_mode():
            made: Tensor = self._graph([*inputs, *([slot.tone] if slot.tone is not None else [])])
        return made


_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}
