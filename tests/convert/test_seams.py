"""The seam of windows, as conversion measures it."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13 as ops

from edgerestore.convert.probe import windowed_difference
from edgerestore.convert.samples import Samples


def adds_its_mean() -> openvino.Model:
    """Return a network that adds the mean of all that it sees."""
    image = ops.parameter([1, 1, -1, -1], np.float32, name="image")
    strength = ops.parameter([1, 1, -1, -1], np.float32, name="strength")
    mean = ops.reduce_mean(image, np.array([2, 3]), keep_dims=True)
    made = ops.add(image, ops.multiply(mean, strength))
    for node, name in ((image, "image"), (strength, "strength"), (made, "restored")):
        node.output(0).set_names({name})
    return openvino.Model([made], [image, strength], "mean")


def test_wide_ramps_leave_less_of_a_seam() -> None:
    ramp = np.linspace(0, 0.5, 768, dtype=np.float32)
    picture = Samples([np.tile(ramp, (768, 1))[None, None]], ["ramp"], synthetic=True)
    seams = []
    for ramp_px in (2, 16, 128):
        difference, setup = windowed_difference(adds_its_mean(), picture, 256, ramp_px, 1)
        assert 0.02 < difference < 0.5  # windows know other means than the whole
        seams.append(float(setup.rpartition("seam ")[2].split()[0]))
    assert seams[0] > 4 * seams[1] > 0
    assert seams[1] > seams[2]
