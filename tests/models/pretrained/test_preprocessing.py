"""Our preprocessing in torch against the image processors of transformers, and its way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DepthProImageProcessor,
    DPTImageProcessor,
    GLPNImageProcessor,
    PromptDepthAnythingImageProcessor,
    ZoeDepthImageProcessor,
)

from mde.errors import ConfigError
from mde.models.pretrained.families import FAMILIES
from mde.models.pretrained.loading import _of_processor
from mde.models.pretrained.preprocessing import Preprocessing

IMAGENET: dict[str, Any] = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
SIZE = {"height": 70, "width": 70}
PROCESSORS: dict[str, tuple[str, Any]] = {
    "depth_anything": (
        "depth_anything",
        DPTImageProcessor(size=SIZE, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3, **IMAGENET),
    ),
    "dpt": ("dpt", DPTImageProcessor(size=96, resample=2)),
    "dinov2": ("dpt", DPTImageProcessor(do_resize=False, do_pad=True, size_divisor=14, **IMAGENET)),
    "prompt": (
        "prompt_depth_anything",
        PromptDepthAnythingImageProcessor(size=SIZE, keep_aspect_ratio=True, ensure_multiple_of=14, **IMAGENET),
    ),
    "zoedepth": ("zoedepth", ZoeDepthImageProcessor(size={"height": 64, "width": 96}, ensure_multiple_of=32)),
    "zoedepth_plain": (
        "zoedepth",
        ZoeDepthImageProcessor(size=SIZE, ensure_multiple_of=32, keep_aspect_ratio=False, do_pad=False),
    ),
    "glpn": ("glpn", GLPNImageProcessor()),
    "depth_pro": ("depth_pro", DepthProImageProcessor(size={"height": 96, "width": 96})),
}
PICTURES = [(48, 64), (64, 48), (120, 90), (37, 91)]


def ours(name: str) -> tuple[Preprocessing, Any]:
    family, processor = PROCESSORS[name]
    return _of_processor(processor, FAMILIES[family].preprocessing), processor


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_equals_the_processor_on_floats(name: str, size: tuple[int, int]) -> None:
    """Grey levels away from the ends, where bicubic overshoot is not cut."""
    made, processor = ours(name)
    image = 0.35 + 0.3 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [processor(picture, return_tensors="pt", do_rescale=False)["pixel_values"][0] for picture in image]
    )
    torch.testing.assert_close(made(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PROCESSORS)
def test_equals_the_processor_on_bytes_to_a_grey_level(name: str) -> None:
    made, processor = ours(name)
    coarse = 40 + 175 * torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    image = torch.nn.functional.interpolate(coarse, (61, 83), mode="bilinear")[0].round().to(torch.uint8)
    expected = processor(image, return_tensors="pt")["pixel_values"]
    levels = (made(image[None] / 255) - expected) * torch.tensor(made.std)[:, None, None] * 255
    assert float(levels.abs().max()) <= 1.25  # it rounds to bytes after each axis
    assert float(levels.abs().mean()) < 0.5


@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("name", ["depth_anything", "zoedepth", "glpn", "dpt"])
def test_restores_as_the_processor_does(name: str, size: tuple[int, int]) -> None:
    made, processor = ours(name)
    maps = torch.rand(1, 1, *made(torch.zeros(1, 3, *size)).shape[-2:])
    extra = {"source_sizes": [size]} if name.startswith("zoe") else {"target_sizes": [size]}
    from transformers.modeling_outputs import DepthEstimatorOutput

    output = DepthEstimatorOutput(predicted_depth=maps[:, 0])  # type: ignore[arg-type]
    (expected,) = processor.post_process_depth_estimation(output, **extra)
    torch.testing.assert_close(made.restore(maps, size)[0, 0], expected["predicted_depth"], rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(height=st.integers(20, 200), width=st.integers(20, 200), name=st.sampled_from(sorted(PROCESSORS)))
def test_a_ramp_comes_back_in_place(height: int, width: int, name: str) -> None:
    """The preprocessed picture is restored as if it were a map: nothing is shifted, mirrored or stretched."""
    made, _ = ours(name)
    made = made.changed({"mean": (0.0,) * 3, "std": (1.0,) * 3})
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    for ramp in (down, across):
        back = made.restore(made(ramp.expand(1, 3, -1, -1))[:, :1], (height, width), mode="bilinear")[0, 0]
        assert back.shape == ramp.shape
        inner = (slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4)))
        cell = 2.5 / min(made.input_size(height, width)) + 1 / min(height, width)
        assert float((back - ramp)[inner].abs().max()) < cell
        assert float((back - ramp)[inner].mean().abs()) < cell / 3


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (518, 686)), ((375, 1242), (518, 1722)), ((144, 256), (294, 518))]
)
def test_sizes_of_depth_anything(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert FAMILIES["depth_anything"].preprocessing.input_size(*size) == expected


def test_plain_data_and_wrong_settings() -> None:
    made = FAMILIES["zoedepth"].preprocessing
    assert Preprocessing(**made.to_dict()) == made
    with pytest.raises(ConfigError, match="nearest: multiple"):
        made.changed({"multipel": 3})
    with pytest.raises(ConfigError, match="resample"):
        made.changed({"resample": "lanczos"})
    with pytest.raises(ConfigError, match="size must be"):
        made.changed({"size": [3]})
    with pytest.raises(ConfigError, match="crops"):
        _of_processor(DPTImageProcessor(do_center_crop=True, crop_size=SIZE), made)
    with pytest.raises(ConfigError, match="resampling 1"):
        _of_processor(DPTImageProcessor(resample=1), made)


def test_a_very_flat_picture_keeps_one_multiple() -> None:
    made = Preprocessing((28, 28), multiple=14)
    assert made.input_size(1, 300) == (28, 28)
    assert Preprocessing(multiple=32, round_down=True).input_size(10, 100) == (32, 96)
    assert np.prod(made(torch.rand(1, 3, 2, 90)).shape) == 3 * 28 * 28
