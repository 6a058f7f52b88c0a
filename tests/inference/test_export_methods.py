"""Every method of the library, tiny, as an ONNX file beside itself in PyTorch. A new method has to be added here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mde.models
from mde.codecs import Discretized
from mde.crf import DenseCRF
from mde.errors import ConfigError
from mde.inference.export import compare, export
from mde.inference.export.graph import require_exportable
from mde.models import (
    DeepLabSID,
    DenseDepth,
    DenseDepthDecoder,
    DepthModule,
    DepthNet,
    DPTDecoder,
    EigenDepth,
    MarigoldDepth,
    RelativeDepth,
    ResidualDecoder,
    ResNetDepth,
    SAMDepth,
    SamEncoder,
    SigmoidHead,
    SmpEncoder,
    StereoDepth,
    TimmEncoder,
    TorchvisionEncoder,
    UNet,
    VitEncoder,
)
from tests.models.pretrained.tiny import TINY, tiny

SAM = {
    "hidden_size": 24, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "window_size": 3, "global_attn_indexes": [1],
}  # fmt: skip
VIT = {"depth": 4, "embed_dim": 24, "num_heads": 2}
NARROW = partial(DenseDepthDecoder, width=0.1)
resnet = partial(TimmEncoder, "test_resnet")


def deeplab(**kwargs: Any) -> DepthModule:
    return DeepLabSID(SmpEncoder("resnet18", output_stride=8), **{"bins": 12, "rates": (1, 2), **kwargs})


def log_mean() -> DepthModule:
    return deeplab(codec=Discretized("sid", 12, 1.0, 20.0, how="log_mean"), scales=(1.0, 0.5), upsample="depth")


def depth_net() -> DepthModule:
    encoder = VitEncoder("vit_tiny_patch16_224", options=VIT)
    return DepthNet(encoder, partial(DPTDecoder, widths=(4, 6, 8, 8), fusion=8), partial(SigmoidHead, hidden=4))


METHODS: dict[str, Callable[[], DepthModule]] = {
    "UNet": lambda: UNet(widths=(4, 8, 16), supervision=(1, 1)),
    "DenseDepth": lambda: DenseDepth(resnet(), NARROW),
    "DenseDepth on a transformer": lambda: DenseDepth(TimmEncoder("test_vit"), NARROW),
    "ResNetDepth": lambda: ResNetDepth(TorchvisionEncoder("resnet18")),
    "SAMDepth": lambda: SAMDepth(SamEncoder(config=SAM), partial(ResidualDecoder, widths=(16, 16, 8))),
    "DeepLabSID": deeplab,
    "DeepLabSID of expectations": log_mean,
    "DepthNet": depth_net,
    "EigenDepth": lambda: EigenDepth(input_size=(56, 64), widths=(4, 6, 6, 6, 8), hidden=16, fine_width=6, dropout=0.0),
    "RelativeDepth": lambda: RelativeDepth(encoder=resnet(), decoder=NARROW),
    "StereoDepth": lambda: StereoDepth(resnet(), decoder=NARROW, scales=2),
    **{f"PretrainedDepth {family}": partial(tiny, family) for family in TINY},
}
REFUSED = {"MarigoldDepth"}
COUNTED = {"SAMDepth", "PretrainedDepth depth_pro"}
"""Whose code counts the pictures of a batch: their files take one a call."""


def test_every_method_is_here() -> None:
    found = {name: getattr(mde.models, name) for name in mde.models.__all__}
    methods = {name for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, DepthModule)} - {
        "DepthModule"
    }
    assert methods == {name.split(" ")[0] for name in METHODS} | REFUSED, "add a tiny one, or the reason why not"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_file_says_what_the_method_says(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = METHODS[name]().eval()
    size = (64, 64) if name.startswith("Pretrained") else (32, 48)
    made = export(method, tmp_path / "a.onnx", size=size)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 50, 3), (*size, 3), (97, 31, 3))]
    found = compare(method, made, pictures, runs=1)
    assert found.passed
    assert found.max_relative < 1e-3
    assert made.ambiguity is method.ambiguity
    assert made.info.batch == (1 if name in COUNTED else None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["UNet", "PretrainedDepth dpt"])
def test_at_the_pictures_own_size(name: str, tmp_path: Path) -> None:
    """Sizes that the pooling does not divide, too; a network of others that stretches each picture to its own size."""
    torch.manual_seed(0)
    method = METHODS[name]().eval()
    made = export(method, tmp_path / "a.onnx", dynamic=True)
    assert made.info.image_size is None
    rng = np.random.default_rng(0)
    found = compare(method, made, [rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((33, 50), (64, 128))], 1)
    assert found.max_relative < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("family", ["depth_anything", "zoedepth"])
def test_a_network_that_keeps_the_aspect_is_not_exported_at_any_size(family: str, tmp_path: Path) -> None:
    """Its file would keep the size that the tracing's picture came to, 2 % wrong for others, and say nothing."""
    torch.manual_seed(0)
    said = r"depends on (their shape|the size).*Next: give --size .* instead of --dynamic"
    with pytest.raises(ConfigError, match=said):
        export(tiny(family).eval(), tmp_path / "a.onnx", dynamic=True)


@pytest.mark.slow
def test_a_random_field_has_no_form_in_onnx(tmp_path: Path) -> None:
    method = deeplab(crf=DenseCRF(2)).eval()
    with pytest.raises(ConfigError, match=r"no form of aten\.\w+ in this network.*Next: use --format torch"):
        export(method, tmp_path / "a.onnx", size=(32, 48))
    made = export(method, tmp_path / "a.pt2", "torch", size=(32, 48))
    picture = np.random.default_rng(0).integers(0, 256, (41, 60, 3), dtype=np.uint8)
    assert compare(method, made, [picture], runs=1).passed


def test_diffusion_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match=r"a loop of several networks over noise.*Next: export a PretrainedDepth"):
        require_exportable(MarigoldDepth.__new__(MarigoldDepth))
