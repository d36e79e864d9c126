"""A shift network among the estimators: its squares, its answers, and what it cannot spoil."""

import numpy as np
import pytest
import torch

from edgerestore.cli.app import run_command_line
from edgerestore.convert import convert
from edgerestore.convert.architectures.shift_regressor import ShiftRegressor
from edgerestore.errors import ArgumentError
from edgerestore.stitching.correlation import Search
from edgerestore.stitching.pairs import PairOptions, estimate_pair
from edgerestore.stitching.shift_network import ShiftNetwork, trimmed_mean
from edgerestore.stitching.simulator import Scene

SEARCH = Search(70, 0, 15, 15, 200, 120)


def pair():
    scene = Scene(41)
    return scene.part(0, 0, 200, 120), scene.part(4, 73, 200, 120)


def test_the_trimmed_mean_drops_three_off_each_end():
    values = np.array([[n, -n] for n in range(10)], float)
    values[[0, 9]] = [[-1e6, 1e6], [1e6, -1e6]]
    assert trimmed_mean(values) == pytest.approx([4.5, -4.5])
    assert trimmed_mean(np.array([[1.0, 5], [2, 6], [90, 7]])) == pytest.approx([2, 6])


def test_squares_cover_the_planned_overlap_and_the_rest_is_dropped():
    seen = []

    def run(tiles):
        seen.append(tiles)
        return np.array([[-3.0, 4.0]], np.float32)

    first, second = pair()
    answers = ShiftNetwork(run, 20).answers(first, second, SEARCH)
    assert len(seen) == (200 // 20) * (50 // 20)
    assert all(tiles.shape == (1, 2, 20, 20) for tiles in seen)
    assert 0 <= min(tiles.min() for tiles in seen) <= max(tiles.max() for tiles in seen) <= 1
    assert np.array_equal(answers, np.tile([73.0, -4.0], (len(seen), 1)))


def test_a_network_leads_to_the_peak():
    network = ShiftNetwork(lambda _: np.array([[-2.0, -3.0]], np.float32), 40)
    first, second = pair()
    surface = network(first, second, SEARCH)
    row, column = np.unravel_index(np.argmax(surface), surface.shape)
    assert (70 - 15 + int(column), int(row) - 15) == (73, 4)
    assert (surface > 0).sum() < 40


def test_an_overlap_narrower_than_its_squares_asks_nothing():
    network = ShiftNetwork(lambda _: pytest.fail("was asked"), 60)
    first, second = pair()
    surface = network(first, second, SEARCH)
    assert not surface.any()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shift")
    torch.manual_seed(3)
    torch.save(ShiftRegressor((4, 6), (8,), 32).state_dict(), folder / "shift.pth")
    convert(folder / "shift.pth", folder / "bundle", quick=True, force=True)
    return folder / "bundle"


def test_an_untrained_network_of_a_bundle_spoils_nothing(bundle):
    first, second = pair()
    options = PairOptions(network=ShiftNetwork.open(bundle))
    found, usual = (estimate_pair(first, second, (70, 0), o) for o in (options, PairOptions()))
    assert found.best is not None
    assert usual.best is not None
    assert (found.best.dx, found.best.dy) == (usual.best.dx, usual.best.dy)


def test_a_bundle_of_another_kind_is_refused(capsys, tmp_path):
    with pytest.raises(ArgumentError, match="estimates shifts"):
        ShiftNetwork.open("denoise-gray")
    words = ["stitch", str(tmp_path), "--grid", "1x2", "--overlap", "9", "-o", "x.tif"]
    assert run_command_line([*words, "--shift-model", "denoise-gray"]) == 2
    assert "--shift-model takes" in capsys.readouterr().err
