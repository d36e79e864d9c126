"""A device that several runtimes serve goes to the faster one, or to the first where none is."""

from __future__ import annotations

import time

import pytest

from edgerestore.bundle.bundle import Bundle
from edgerestore.bundle.precision import Precision
from edgerestore.engine import runtime_choice
from edgerestore.engine.runtime_choice import choose_runtime
from edgerestore.runtimes.openvino.runtime import OpenVinoRuntime

from ..bundles import write_bundle


class Card(OpenVinoRuntime):
    """A runtime whose card is the CPU, slowed down."""

    def __init__(self, name, pause_s):
        self.name, self._pause_s = name, pause_s

    def describe(self, device):
        return "a card"

    def load(self, bundle, device, precision, **more):
        model = super().load(bundle, "CPU", Precision.FP32, **more)
        opening, pause_s = model.open_queue, self._pause_s

        def open_queue(spec, requests=None):
            queue = opening(spec, requests)
            submit = queue.submit

            def slowly(*args, **keywords):
                time.sleep(pause_s)
                return submit(*args, **keywords)

            vars(queue)["submit"] = slowly
            return queue

        vars(model)["open_queue"] = open_queue
        return model


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Bundle:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))
    return write_bundle(tmp_path / "small")


@pytest.mark.parametrize(("pauses_s", "taken"), [((0.3, 0.0), "b"), ((0.0, 0.3), "a")])
def test_the_faster_runtime_has_the_card(bundle, monkeypatch, pauses_s, taken):
    cards = [Card(name, pause_s) for name, pause_s in zip("ab", pauses_s, strict=True)]
    monkeypatch.setattr(runtime_choice, "runtimes_for", lambda device: cards)
    monkeypatch.setattr(runtime_choice, "runtime_for", lambda device, asked: cards[0])
    monkeypatch.setattr(runtime_choice, "_BUDGET_S", 0.1)
    assert choose_runtime(bundle, "CUDA").name == taken
    monkeypatch.setattr(runtime_choice, "_fastest", None)  # what was measured is remembered
    assert choose_runtime(bundle, "CUDA").name == taken
    assert choose_runtime(bundle, "CUDA", "a").name == "a"


def test_the_first_runtime_has_what_it_serves(bundle, monkeypatch):
    monkeypatch.setattr(runtime_choice, "_fastest", None)
    assert choose_runtime(bundle, "CPU").name == "openvino"
