"""The shift regressor's weights and arguments, and the pairs that it is checked on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgerestore.convert.architectures import REGISTRY
from edgerestore.convert.architectures.shift_regressor import ShiftRegressor
from edgerestore.convert.checkpoint.network import build_network
from edgerestore.convert.kinds.shift import cut_pairs
from edgerestore.convert.samples import load_samples
from edgerestore.errors import CheckpointError

HERE = Path("shift.pth")


def test_the_usual_network_has_the_shapes_that_it_is_described_by() -> None:
    with torch.device("meta"):
        network = ShiftRegressor()
        assert network(torch.empty(3, 2, 150, 150)).shape == (3, 2)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes["packs.3.conv.weight"] == [160, 128, 3, 3]
    assert shapes["dense.0.weight"] == [1024, 160 * 9 * 9]
    assert shapes["dense.2.weight"] == [2, 512]


@pytest.mark.parametrize(
    "network",
    [
        ShiftRegressor((4, 6, 8, 8), (16, 8)),
        ShiftRegressor((3, 5), (7,), 64),
        ShiftRegressor((2,), (), 10),
        ShiftRegressor((2, 2, 2, 2, 2), (3, 4, 5)),
    ],
)
def test_it_is_detected_and_its_arguments_read_off_the_shapes(network: ShiftRegressor) -> None:
    state = network.state_dict()
    assert [row.name for row in REGISTRY if row.fits(state)] == ["shift_regressor"]
    found = build_network({f"net.{name}": value for name, value in state.items()}, HERE, None, {})
    assert found.architecture == "shift_regressor"
    assert found.pair_px == network.pair_px
    for name, value in found.module.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_side_of_another_tile_can_be_said_and_a_wrong_one_does_not_fit() -> None:
    state = ShiftRegressor((4, 6, 8, 8), (16, 8)).state_dict()
    assert build_network(state, HERE, None, {"side_px": 159}).pair_px == 159
    with pytest.raises(CheckpointError, match="1 of another shape"):
        build_network(state, HERE, None, {"side_px": 160})
    with pytest.raises(CheckpointError, match="tiles of 8 px are too small for 4 packs"):
        build_network(state, HERE, None, {"side_px": 8})
    assert all(row.pair_px is None for row in REGISTRY if row.name != "shift_regressor")


def test_pairs_are_cut_at_the_shifts_that_they_are_said_to_have() -> None:
    for side in (150, 32):
        pairs = cut_pairs(load_samples(None, 1), side)
        assert len({pair.shift for pair in pairs}) == len(pairs) == 6
        for pair in pairs:
            (dx, dy), (first, second) = pair.shift, pair.tiles[0]
            y, x = side // 2, side // 2
            assert first[y, x] == second[y + dy, x + dx]
            assert pair.tiles.shape == (1, 2, side, side)
