"""Halo and grid from the graph, against networks that are run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto
from torch import Tensor, nn

from edgerestore.bundle.manifest import TilingMode
from edgerestore.convert.architectures.dncnn import DnCNN
from edgerestore.convert.architectures.edge_unet import EdgeUNet
from edgerestore.convert.graph.axis_view import AxisView
from edgerestore.convert.graph.ir import read_proto
from edgerestore.convert.graph.receptive_field import (
    ReceptiveField,
    at_two_sizes,
    find_receptive_field,
)
from edgerestore.convert.graph.resizes import with_exact_resizes
from edgerestore.convert.plan import measure_halo
from edgerestore.errors import ConversionError

Graphs = Callable[..., ModelProto]


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image, *self.parts)


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation=dilation)


def field_of(network: nn.Module, graph_of: Graphs) -> ReceptiveField:
    return find_receptive_field(read_proto(graph_of(network)))


def positive(network: nn.Module) -> nn.Module:
    """Make every dependence show: no weight cancels another and no ReLU swallows a change."""
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.rand_like(weights) + 0.5)
            weights.div_(max(1, weights[0].numel()))
    return network.eval().double()


def reach_of(network: nn.Module, side: int, multiple: int) -> int:
    """Change each line of one period and see how far away the output changes."""
    torch.manual_seed(0)
    farthest = 0
    with torch.inference_mode():
        for along in (2, 3):
            image = torch.rand(1, 1, side, side, dtype=torch.float64)
            before = network(image)
            for line in range(side // 2, side // 2 + multiple):
                line -= side // 2 % multiple
                changed = image.clone()
                changed.select(along, line).add_(3.0)
                other = 3 if along == 2 else 2
                hit = (network(changed) != before).flatten(0, 1).any(0).any(other - 2)
                places = torch.nonzero(hit).flatten() // (before.shape[along] // side)
                farthest = max(farthest, int((places - line).abs().max()))
    return farthest


def tiles_equal_whole(network: nn.Module, halo: int, multiple: int, side: int) -> bool:
    margin = -(-halo // multiple) * multiple
    image = torch.rand(1, 1, side, side, dtype=torch.float64)
    with torch.inference_mode():
        whole = network(image)
        tile = network(image[..., : side - multiple, multiple:])
    scale = whole.shape[2] // side
    inner = whole[..., : (side - multiple - margin) * scale, (multiple + margin) * scale :]
    kept = tile[..., : (side - multiple - margin) * scale, margin * scale :]
    return bool(torch.allclose(inner, kept, rtol=0, atol=1e-12))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: conv(2, 2),
    "even kernel": lambda: nn.Sequential(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(2, 2, 4)),
    "dilated": lambda: conv(2, 2, dilation=3),
    "reflected": lambda: nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(2, 2, 5)),
    "strided and shuffled": lambda: nn.Sequential(conv(2, 8, 3, 2), nn.PixelShuffle(2)),
    "max pool and nearest": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2)),
    "mean pool and linear": lambda: nn.Sequential(
        nn.AvgPool2d(3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear")
    ),
    "strided and cubic": lambda: nn.Sequential(
        conv(2, 2, 3, 2), nn.Upsample(scale_factor=2, mode="bicubic")
    ),
    "transposed": lambda: nn.Sequential(conv(2, 2, 3, 2), nn.ConvTranspose2d(2, 2, 4, 2, 1)),
    "wide transposed": lambda: nn.Sequential(conv(2, 2, 5, 3), nn.ConvTranspose2d(2, 2, 3, 3, 0)),
    "unshuffled": lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(8, 8), nn.PixelShuffle(2)),
    "sliced": lambda: Lambda(
        lambda x, c: F.pixel_shuffle(
            c(torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)), 2
        ),
        conv(8, 8),
    ),
    "added": lambda: Lambda(lambda x, a, b: a(x) + b(x), conv(2, 2), conv(2, 2, 5)),
}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3), deeper=st.booleans()
)
def test_graph_against_experiment(graph_of: Graphs, names: list[str], deeper: bool) -> None:
    inner = nn.Sequential(*(BLOCKS[name]() for name in names))
    parts = [conv(1, 2), inner, conv(2, 1)]
    if deeper:
        parts[1:2] = [conv(2, 2, 3, 2), inner, nn.Upsample(scale_factor=2)]
    network: nn.Module = nn.Sequential(*parts)
    field = field_of(network, graph_of)
    assert field.mode is TilingMode.EXACT, field.reason
    network = positive(network)
    side = -(-(2 * field.halo_px + 3 * field.multiple_of) // field.multiple_of)
    side *= field.multiple_of
    reach = reach_of(network, side, field.multiple_of)
    assert reach <= field.halo_px
    # The halo is also close: what lies between is where elements stand between pixels.
    assert field.halo_px <= reach + field.multiple_of
    assert tiles_equal_whole(network, field.halo_px, field.multiple_of, side)


@pytest.mark.parametrize(
    ("network", "halo", "multiple"),
    [
        (DnCNN(1, 4, 17), 17, 1),
        (EdgeUNet(1, (4, 4, 4), (1, 1, 4)), 60, 8),
        (nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(1, 1, 7)), 3, 1),
        (nn.Sequential(conv(1, 9), nn.PixelShuffle(3), conv(1, 1)), 2, 1),
        (nn.Sequential(nn.PixelUnshuffle(4), nn.PixelShuffle(4)), 3, 4),
    ],
    ids=["dncnn", "edge_unet", "reflect", "upscale", "shuffles"],
)
def test_known_networks(network: nn.Module, halo: int, multiple: int, graph_of: Graphs) -> None:
    field = field_of(network, graph_of)
    assert (field.mode, field.halo_px, field.multiple_of) == (TilingMode.EXACT, halo, multiple)


def test_reflection_needs_a_least_size(graph_of: Graphs) -> None:
    network = nn.Sequential(
        conv(1, 1, 3, 2), nn.ReflectionPad2d(3), nn.Conv2d(1, 4, 7), nn.PixelShuffle(2)
    )
    assert field_of(network, graph_of).minimum_px == 8


@pytest.mark.parametrize(
    ("network", "least"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 5), nn.ZeroPad2d(2)), 5),
        (nn.Sequential(nn.ZeroPad2d(2), nn.Conv2d(1, 1, 5)), 1),
        (nn.Sequential(nn.ZeroPad2d(2), nn.Conv2d(1, 1, 3, dilation=4), nn.ZeroPad2d(2)), 5),
        (nn.Sequential(nn.AvgPool2d(7, 1), nn.ReflectionPad2d(3)), 10),
        # The second convolution needs 5 of what the first one leaves: 13 pixels, on a grid of 2.
        (
            nn.Sequential(
                nn.Conv2d(1, 1, 5, 2), nn.Conv2d(1, 4, 5), nn.ZeroPad2d(3), nn.PixelShuffle(2)
            ),
            14,
        ),
    ],
    ids=["valid", "padded before", "dilated", "pooled", "strided"],
)
def test_windows_without_padding_need_a_least_size(
    network: nn.Module, least: int, graph_of: Graphs
) -> None:
    field = field_of(network, graph_of)
    assert field.mode is TilingMode.EXACT, field.reason
    assert field.minimum_px == least
    with torch.inference_mode():
        assert network(torch.rand(1, 1, least, least)).shape[2:] == (least, least)


def _attention(image: Tensor, before: nn.Module, after: nn.Module) -> Tensor:
    deep = F.pixel_unshuffle(before(image), 8)
    flat = deep.flatten(2)
    mixed = flat @ torch.softmax(flat.transpose(1, 2) @ flat, -1)
    made: Tensor = after(F.pixel_shuffle(mixed.view_as(deep), 8))
    return made


def _squeeze(image: Tensor, before: nn.Module, after: nn.Module) -> Tensor:
    deep = before(image)
    made: Tensor = after(deep * torch.sigmoid(F.adaptive_avg_pool2d(deep, 1)))
    return made


def _fixed(image: Tensor, before: nn.Module, after: nn.Module) -> Tensor:
    small = F.interpolate(before(image), size=(32, 32))
    made: Tensor = after(F.interpolate(small, size=image.shape[2:], mode="bilinear"))
    return made


def _stretched(image: Tensor, before: nn.Module) -> Tensor:
    coarse = F.max_pool2d(before(image), 7, 6)
    return F.interpolate(coarse, size=image.shape[2:], mode="bilinear")


@pytest.mark.parametrize(
    ("network", "reason", "multiple"),
    [
        (Lambda(_squeeze, conv(1, 4), conv(4, 1)), "ReduceMean looks at the whole picture", 1),
        (nn.Sequential(conv(1, 4), nn.InstanceNorm2d(4), conv(4, 1)), "whole picture", 1),
        (Lambda(_attention, conv(1, 1), conv(1, 1)), "flattens positions", 8),
        (Lambda(_fixed, conv(1, 1), conv(1, 1)), "fixed size", 1),
        (Lambda(_stretched, conv(1, 1)), "factor that depends on the size of the frame", 6),
        (
            nn.Sequential(
                conv(1, 4, 3, 2),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                conv(4, 1),
            ),
            "aligns corners",
            2,
        ),
    ],
    ids=["pooling", "instance norm", "attention", "fixed resize", "stretched", "aligned corners"],
)
def test_global_context_is_recognised(
    network: nn.Module, reason: str, multiple: int, graph_of: Graphs
) -> None:
    field = field_of(network, graph_of)
    assert field.mode is TilingMode.WINDOWED
    assert reason in field.reason
    assert field.multiple_of == multiple


def test_experiment_on_the_graph_agrees(graph_of: Graphs) -> None:
    network = positive(EdgeUNet(1, (4, 4, 4), (1, 1, 2))).float()
    model = read_proto(graph_of(network))
    field = find_receptive_field(model)
    measured = measure_halo(model, field.halo_px, field.multiple_of, field.minimum_px)
    assert field.halo_px - 8 <= measured <= field.halo_px


def test_views_are_exact_by_phase() -> None:
    pooled = AxisView.identity().resampled(
        AxisView.identity().px_per_element * 4, lambda e: range(4 * e, 4 * e + 4)
    )
    back = pooled.resampled(pooled.px_per_element / 4, lambda e: [e // 4])
    assert [back.seen(e) for e in (0, 3, 4)] == [(0, 3), (0, 3), (4, 7)]
    assert back.halo_px == 3
    assert np.array_equal([back.seen(e) for e in range(-4, 0)], [(-4, -1)] * 4)


@pytest.mark.parametrize(("mode", "sides"), [("reflect", 32), ("replicate", 8), ("constant", 1)])
def test_the_multiple_that_a_network_pads_to_by_itself_is_its_grid(
    mode: str, sides: int, graph_of: Graphs
) -> None:
    def padded(image: Tensor, layer: nn.Module) -> Tensor:
        height, width = image.shape[2:]
        more = (-width) % sides, (-height) % sides
        wide = F.pad(image, (0, more[0], 0, more[1]), mode)
        made: Tensor = F.pixel_shuffle(layer(wide), 2)[:, :, :height, :width]
        return made

    field = field_of(Lambda(padded, conv(1, 4, stride=2)), graph_of)
    assert field.mode is TilingMode.EXACT
    assert field.multiple_of == max(2, sides)


def test_a_size_that_the_graph_does_not_take_is_told(graph_of: Graphs) -> None:
    core = read_proto(graph_of(nn.Sequential(nn.ReflectionPad2d(40), nn.Conv2d(1, 1, 3))))
    with pytest.raises(ConversionError, match="does not run the graph at 16x.*--multiple-of"):
        measure_halo(core, 41, 1, 1)


class SpatialAttention(nn.Module):
    """Gates features by what they are at a coarse scale, stretched back to their size."""

    def __init__(self, *, padded: bool) -> None:
        super().__init__()
        self.pool = 3 if padded else 0
        self.narrow, self.down = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, 2, int(padded))
        self.body, self.wide = conv(4, 4), nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        coarse = F.max_pool2d(self.down(self.narrow(image)), 7, 3, self.pool)
        stretched = F.interpolate(self.body(coarse), size=image.shape[2:], mode="bilinear")
        return image * torch.sigmoid(self.wide(stretched))


@pytest.mark.parametrize("padded", [False, True])
def test_attention_at_a_coarse_scale_is_exact_where_its_pitch_is_fixed(
    padded: bool, graph_of: Graphs
) -> None:
    core = graph_of(SpatialAttention(padded=padded))
    model = read_proto(core)
    field = find_receptive_field(model)
    if not padded:
        assert field.mode is TilingMode.WINDOWED
        assert "resizes by a factor that depends on the size of the frame" in field.reason
        return
    assert (field.mode, field.multiple_of) == (TilingMode.EXACT, 6)
    rewritten = with_exact_resizes(core, at_two_sizes(model))
    assert rewritten is not None
    assert find_receptive_field(read_proto(rewritten)).mode is TilingMode.EXACT
