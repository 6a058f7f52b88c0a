"""Our preprocessing in torch against the image processors of transformers, and its way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
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
from tests.models.pretrained.tiny import tiny

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


def photograph(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """uint8 (3,H,W) with smooth parts, noise, and edges from black to white."""
    rng = np.random.default_rng(seed)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size[::-1])).copy()
    height, width = size
    smooth[: height // 2, : width // 2] = rng.integers(0, 256, (height // 2, width // 2, 3))
    smooth[-(height // 3) :, ::2] = (0, 255, 0)
    return torch.from_numpy(smooth).permute(2, 0, 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", PICTURES)
@pytest.mark.parametrize("name", PROCESSORS)
def test_bytes_become_the_very_numbers_of_the_processor(name: str, size: tuple[int, int], layout: Any) -> None:
    made, processor = ours(name)
    batch = torch.stack([photograph(size, seed) for seed in (0, 1)]).contiguous(memory_format=layout)
    expected = torch.cat([processor(picture, return_tensors="pt")["pixel_values"] for picture in batch])
    found = made(batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)  # a grey level is 1.7e-2


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
def test_bytes_of_any_size_against_pillow(height: int, width: int, seed: int) -> None:
    made = Preprocessing((1, 37), keep_aspect=True, resample="bicubic")
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    high, wide = made.input_size(height, width)
    expected = np.asarray(Image.fromarray(picture).resize((wide, high), Image.Resampling.BICUBIC)).astype(int)
    found = (made(torch.from_numpy(picture).permute(2, 0, 1)[None])[0] * 255).permute(1, 2, 0).round().int().numpy()
    assert np.abs(found - expected).max() <= 2  # torch's weights have 16 bits, Pillow's 22
    assert np.abs(found - expected).mean() < max(0.05, 2 / expected.size)


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


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(90, 131), (23, 57), (1, 40), (40, 1), (1, 1)])
def test_maps_are_restored_as_torch_does_whether_or_not_gradients_are_wanted(size: tuple[int, int], mode: str) -> None:
    """On white noise torch's own single precision errs by 1e-4."""
    made = Preprocessing((41, 66))
    maps = torch.rand(2, 1, 41, 66, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(maps.double(), size, mode=mode, align_corners=False)
    found = made.restore(maps, size, mode)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    learning = maps.clone().requires_grad_()
    made.restore(learning, size, mode).sum().backward()
    assert float(learning.grad.sum()) == pytest.approx(2 * size[0] * size[1], rel=1e-4)  # weights of a pixel sum to 1
    torch.testing.assert_close(made.restore(learning, size, mode).detach(), found, rtol=0, atol=1e-4)


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


@pytest.mark.parametrize("learning", [False, True])
def test_bytes_reach_the_preprocessing_in_use(learning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`predict` says what the pipeline of transformers says; a picture in [0,1] stays the way of the training."""
    from transformers import pipeline

    torch.manual_seed(0)
    method, picture = tiny("depth_anything").train(learning), photograph((45, 70))
    rules = {"size": {"height": 28, "width": 42}, "keep_aspect_ratio": True, "ensure_multiple_of": 14, "resample": 3}
    seen: list[torch.dtype] = []
    whole = method.preprocessing
    monkeypatch.setattr(type(whole), "__call__", _noting(type(whole).__call__, seen))
    found = method.predict(picture).values[0, 0]
    method.predict(picture / 255)
    method.predict(picture, image_size=(40, 40))
    assert seen == [torch.uint8, torch.float32, torch.float32]
    assert method.training is learning
    theirs = pipeline(
        "depth-estimation",
        model=method.net.eval(),
        image_processor=DPTImageProcessor(**rules, **IMAGENET),
        device="cpu",
    )
    expected = theirs(Image.fromarray(picture.permute(1, 2, 0).numpy()))["predicted_depth"]
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected.reshape(found.shape), rtol=0, atol=1e-4 * scale)


def _noting(call: Any, seen: list[torch.dtype]) -> Any:
    def noted(self: Preprocessing, image: torch.Tensor) -> torch.Tensor:
        seen.append(image.dtype)
        return call(self, image)  # type: ignore[no-any-return]

    return noted


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
