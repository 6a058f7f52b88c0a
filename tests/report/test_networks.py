"""The picture of a network: its stages are what hooks on a real forward pass see."""

from __future__ import annotations

import pytest
import torch
from matplotlib.patches import Rectangle
from torch import nn

from mde.errors import ConfigError
from mde.models import (
    DeepLabSID,
    DenseDepth,
    DepthNet,
    LightDecoder,
    ResNetDepth,
    SmpEncoder,
    TimmEncoder,
    TorchvisionEncoder,
    UNet,
)
from mde.report import network_figure, network_stages

SIZE = (32, 48)


def _resnet() -> ResNetDepth:
    return ResNetDepth(TorchvisionEncoder("resnet18", frozen_stages=4))


METHODS = {
    "unet": lambda: UNet(widths=(4, 8)),
    "densedepth": lambda: DenseDepth(TorchvisionEncoder("resnet18")),
    "resnet": _resnet,
    "sid": lambda: DeepLabSID(SmpEncoder("resnet18", output_stride=8)),
    "depthnet": lambda: DepthNet(TimmEncoder("resnet10t"), LightDecoder),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_shapes_are_those_of_a_real_forward_pass(name):
    method = METHODS[name]().eval()
    stages = network_stages(method, SIZE)
    seen: dict[str, list[tuple[int, ...]]] = {}

    def noting(key):
        def note(part, given, output):
            maps = [output] if isinstance(output, torch.Tensor) else output
            seen[key] = [tuple(each.shape[1:]) for each in maps]

        return note

    hooks = [part.register_forward_hook(noting(key)) for key, part in method.named_children()]
    with torch.no_grad():
        output = method(torch.rand(1, 3, *SIZE))
    for hook in hooks:
        hook.remove()
    assert stages[0].maps == ((3, *SIZE),)
    assert {stage.name: list(stage.maps) for stage in stages[1:-1]} == seen
    assert stages[-1].maps == (tuple(output.shape[1:]),)
    for stage in stages[1:-1]:
        part = getattr(method, stage.name)
        assert stage.parameters == sum(p.numel() for p in part.parameters())
        assert stage.trained == sum(p.numel() for p in part.parameters() if p.requires_grad)


def test_the_method_stays_as_it_was():
    method = UNet(widths=(4, 8)).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    network_stages(method, SIZE)
    assert method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert not any(part._forward_hooks for part in method.modules())
    assert all(type(parameter) is nn.Parameter for parameter in method.parameters())


def test_a_large_picture_costs_no_memory():
    stages = network_stages(UNet(widths=(64, 128)), (20_000, 30_000))  # its first map alone would take 154 GB
    assert stages[1].maps[0] == (64, 20_000, 30_000)


def test_the_figure_has_a_block_for_each_map_and_says_what_is_trained():
    method = _resnet()
    stages = network_stages(method, SIZE)
    figure = network_figure(method, SIZE, title="a title")
    (axis,) = figure.axes
    blocks = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert len(blocks) == sum(len(stage.maps) for stage in stages)
    heights = [block.get_height() for block in blocks]
    assert heights == pytest.approx([shape[1] ** 0.5 for stage in stages for shape in stage.maps])
    right = [block.get_x() + block.get_width() for block in blocks]
    assert all(end < block.get_x() for end, block in zip(right, blocks[1:], strict=False)), "blocks overlap"
    texts = " ".join(text.get_text() for text in axis.texts)
    assert "11.2 M parameters" in texts
    assert "8.4 M of them trained" in texts
    assert figure.get_suptitle() == "a title"


def test_without_a_size_the_error_says_what_to_give():
    with pytest.raises(ConfigError, match=r"size of the picture is unknown.*give \(height, width\)"):
        network_stages(UNet(widths=(4, 8)))
    assert network_stages(UNet(widths=(4, 8), image_size=SIZE))[0].maps == ((3, *SIZE),)
