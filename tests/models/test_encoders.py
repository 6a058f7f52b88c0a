from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from mde.errors import CheckpointError, ConfigError
from mde.models.encoders import Encoder, SmpEncoder, TimmEncoder, TorchvisionEncoder
from mde.rebuild import build, spec_of, without_weights

MOBILENET = Path(__file__).parents[2] / "../shared/data/weights/mobilenet_v2_imagenet_torchvision.pth"
ENCODERS: dict[str, Callable[..., Encoder]] = {
    "torchvision": partial(TorchvisionEncoder, "resnet18"),
    "torchvision-mobilenet": partial(TorchvisionEncoder, "mobilenet_v2"),
    "torchvision-densenet": partial(TorchvisionEncoder, "densenet121"),
    "timm": partial(TimmEncoder, "test_resnet"),
    "timm-transformer": partial(TimmEncoder, "test_vit"),
    "smp": partial(SmpEncoder, "resnet18"),
    "smp-dilated": partial(SmpEncoder, "resnet18", output_stride=8),
}
every_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)


def training_of_leaves(encoder: Encoder) -> dict[str, bool]:
    return {name: m.training for name, m in encoder.net.named_modules() if next(m.children(), None) is None}


@every_encoder
def test_features_are_as_declared(make: Callable[..., Encoder]) -> None:
    encoder = make().eval()
    for height, width in ((64, 96), (61, 83)):
        features = encoder(torch.rand(2, 3, height, width))
        assert [f.shape[1] for f in features] == list(encoder.channels)
        for feature, reduction in zip(features, encoder.reductions, strict=True):
            assert abs(feature.shape[2] - height / reduction) <= 1
            assert abs(feature.shape[3] - width / reduction) <= 1
    assert list(encoder.reductions) == sorted(encoder.reductions)


@every_encoder
def test_all_parameters_reach_a_feature(make: Callable[..., Encoder]) -> None:
    encoder = make()
    torch.stack([f.square().mean() for f in encoder(torch.rand(2, 3, 64, 96))]).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@every_encoder
def test_frozen_stages_depend_on_frozen_parameters_alone(make: Callable[..., Encoder]) -> None:
    encoder = make(frozen_stages=2).train()
    features = encoder(torch.rand(2, 3, 64, 96))
    assert [f.requires_grad for f in features[:2]] == [False, False]
    assert features[-1].requires_grad
    loss = torch.stack([f.square().mean() for f in features if f.requires_grad]).sum()
    loss.backward()
    assert all(p.requires_grad == (p.grad is not None) for p in encoder.parameters())


@every_encoder
def test_frozen_parts_stay_in_evaluation_mode(make: Callable[..., Encoder]) -> None:
    encoder = make(frozen_stages=2)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.eval().train()
    encoder(torch.rand(2, 3, 64, 96))
    frozen = {name.rpartition(".")[0] for name, p in encoder.net.named_parameters() if not p.requires_grad}
    trained = {name.rpartition(".")[0] for name, p in encoder.net.named_parameters() if p.requires_grad}
    modes = training_of_leaves(encoder)
    assert not any(modes[name] for name in frozen if name in modes)
    assert all(modes[name] for name in trained if name in modes)
    moved = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert not {k.rpartition(".")[0].removeprefix("net.") for k in moved} & frozen


@every_encoder
def test_fully_frozen_records_no_graph(make: Callable[..., Encoder]) -> None:
    encoder = make(frozen_stages=-1).train()
    assert not any(f.requires_grad for f in encoder(torch.rand(1, 3, 64, 64, requires_grad=True)))
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(training_of_leaves(encoder).values())
    with pytest.raises(ConfigError, match="frozen_stages is 9"):
        make(frozen_stages=9)


def test_resnet_stages_are_its_layers() -> None:
    encoder = TorchvisionEncoder("resnet18", frozen_stages=3)
    trained = {name.split(".")[0] for name, p in encoder.net.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}


def test_dropout_of_frozen_part_is_off() -> None:
    encoder = TimmEncoder("test_vit", frozen_stages=1, options={"proj_drop_rate": 0.5, "pos_drop_rate": 0.5}).train()
    image = torch.rand(1, 3, 32, 32)
    first, second = encoder(image), encoder(image)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[-1], second[-1])


def test_densenet_taps_are_those_of_densedepth() -> None:
    encoder = TorchvisionEncoder("densenet121").eval()
    whole = torchvision.models.densenet121().eval()
    missing = whole.load_state_dict(encoder.net.state_dict(), strict=False).missing_keys
    assert set(missing) == {"classifier.weight", "classifier.bias"}
    nodes = ["features.relu0", "features.pool0", "features.transition1.pool", "features.transition2.pool", "relu"]
    image = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = create_feature_extractor(whole, nodes)((image - mean[:, None, None]) / std[:, None, None])
        found = encoder(image)
    for node, feature in zip(nodes, found, strict=True):
        torch.testing.assert_close(feature, expected[node])


def test_torchvision_file_loads(tmp_path: Path) -> None:
    whole = torchvision.models.densenet121()
    # the files that torchvision offers have dots where the network has none
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in whole.state_dict().items()}
    assert old.keys() != whole.state_dict().keys()
    torch.save(old, tmp_path / "densenet.pth")
    encoder = TorchvisionEncoder("densenet121", weights=str(tmp_path / "densenet.pth"))
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in encoder.net.state_dict().items())


@pytest.mark.skipif(not MOBILENET.is_file(), reason="no ImageNet weights of MobileNet V2 beside the repository")
def test_real_torchvision_file_loads() -> None:
    encoder = TorchvisionEncoder("mobilenet_v2", weights=str(MOBILENET))
    stored = torch.load(MOBILENET, weights_only=True)
    assert torch.equal(encoder.net.state_dict()["features.0.0.weight"], stored["features.0.0.weight"])
    with pytest.raises(CheckpointError, match=r"0 of 100 tensors match .* conv1.weight"):
        TorchvisionEncoder("resnet18", weights=str(MOBILENET))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "densenet121"])
def test_timm_file_loads(name: str, tmp_path: Path) -> None:
    whole = timm.create_model(name)
    save_file(whole.state_dict(), tmp_path / "a.safetensors")
    encoder = TimmEncoder(name, weights=str(tmp_path / "a.safetensors")).eval()
    config = timm.get_pretrained_cfg(name)
    image = torch.rand(1, 3, 160, 160)
    mean, std = torch.tensor(config.mean)[:, None, None], torch.tensor(config.std)[:, None, None]
    with torch.no_grad():
        if name == "test_vit":
            expected = whole.eval().forward_intermediates((image - mean) / std, intermediates_only=True)[-1]
        else:
            expected = whole.eval().forward_features((image - mean) / std)
        torch.testing.assert_close(encoder(image)[-1], expected)


def test_smp_file_loads(tmp_path: Path) -> None:
    whole = smp.encoders.get_encoder("resnet18", weights=None)
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "a.pt")
    encoder = SmpEncoder("resnet18", weights=str(tmp_path / "a.pt"))
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in encoder.net.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such weights file"), (b"no pickle", "not a readable"), ({"a": 1}, "holds no state dict")],
)
def test_wrong_files(content: Any, message: str, tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        file = tmp_path / f"a{suffix}"
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            torch.save(content, tmp_path / "a.pth")
            file = tmp_path / "a.pth"
        with pytest.raises(CheckpointError, match=message) as caught:
            TimmEncoder("test_resnet", weights=str(file))
        assert "\n" not in str(caught.value)


def test_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **kwargs: Any) -> nn.Module:
        if kwargs.get("pretrained", True):
            raise URLError("no network\nat all")
        raise AssertionError

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    monkeypatch.setattr("timm.create_model", fail)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", fail)
    for make in (TorchvisionEncoder, TimmEncoder, SmpEncoder):
        with pytest.raises(CheckpointError, match=r"weights of resnet18 could not .*set weights: null") as caught:
            make("resnet18", weights="pretrained")
        assert "\n" not in str(caught.value)


def test_no_weights_are_looked_for_while_rebuilding() -> None:
    with without_weights():
        for weights in ("pretrained", "/nowhere/a.pth"):
            spec = spec_of(TimmEncoder("test_resnet", weights=weights, frozen_stages=1))
            again = build(spec)
            assert not next(again.net.parameters()).requires_grad
            SmpEncoder("resnet18", weights=weights)
            TorchvisionEncoder("resnet18", weights=weights)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(TorchvisionEncoder, "resnet19"), "nearest: resnet18"),
        (partial(TorchvisionEncoder, "vit_b_16"), "unknown torchvision encoder"),
        (partial(TimmEncoder, "test_resnt"), "nearest: test_resnet"),
        (partial(TimmEncoder, "test_resnet", options={"foo": 1}), "foo"),
        (partial(SmpEncoder, "resnt18"), "nearest: resnet18"),
        (partial(SmpEncoder, "densenet121", output_stride=8), "output stride 8"),
    ],
)
def test_wrong_settings(make: Callable[[], Encoder], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
