"""Plain vision transformers: timm's own numbers, any size, adaptation, layers."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from mde.errors import CheckpointError, ConfigError
from mde.models import VitEncoder
from mde.models.lora import LoRALinear, merge_lora
from mde.rebuild import build, spec_of, without_weights

# the true classes in small: DINOv2, DINOv3 (rotary positions), SAM (windows, relative positions), plain
SMALL: dict[str, dict[str, Any]] = {
    "vit_small_patch14_reg4_dinov2": {"embed_dim": 24, "depth": 4, "num_heads": 2},
    "vit_small_patch16_dinov3": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    "eva02_tiny_patch14_224": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    "samvit_base_patch16": {"embed_dim": 24, "depth": 4, "num_heads": 2, "neck_chans": 20, "window_size": 3,
                            "global_attn_indexes": (1, 3), "img_size": 64},
    "vit_tiny_patch16_224": {"embed_dim": 24, "depth": 4, "num_heads": 2},
}  # fmt: skip
every_vit = pytest.mark.parametrize("name", SMALL)


def small(name: str = "vit_tiny_patch16_224", **kwargs: Any) -> VitEncoder:
    torch.manual_seed(0)
    return VitEncoder(name, options=SMALL[name], **kwargs)


@every_vit
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (9, 40), (224, 224)])
def test_maps_of_whole_patches_at_any_size(name: str, size: tuple[int, int]) -> None:
    encoder = small(name).eval()
    patch = encoder.reductions[0]
    with torch.no_grad():
        features = encoder(torch.rand(2, 3, *size))
    cells = tuple(max(round(side / patch), 1) for side in size)
    assert [tuple(f.shape) for f in features] == [(2, channels, *cells) for channels in encoder.channels]
    assert encoder.reductions == (patch,) * 4
    assert patch == (14 if "14" in name else 16)


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"])
def test_tokens_of_timm_with_positions_resized_as_timm_does(name: str) -> None:
    encoder = small(name).eval()
    patch = encoder.reductions[0]
    size = (4 * patch, 7 * patch)
    at_once = timm.create_model(name, num_classes=0, img_size=size, **SMALL[name])
    # timm's loading code resizes the table of positions to the size that a network is made for
    state = timm.models.vision_transformer.checkpoint_filter_fn(encoder.net.state_dict(), at_once)
    at_once.load_state_dict(state if "dinov2" in name else encoder.net.state_dict())
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        tokens = at_once.eval().forward_features((image - encoder.mean) / encoder.std)
        last = encoder(image)[-1]
    prefix = at_once.num_prefix_tokens
    assert prefix == 5
    expected = tokens[:, prefix:].transpose(1, 2).reshape(1, -1, 4, 7)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_pictures_of_no_whole_patches_are_resized_not_padded() -> None:
    encoder, image = small().eval(), torch.rand(1, 3, 61, 83)
    resized = F.interpolate(image, size=(64, 80), mode="bilinear", align_corners=False)
    with torch.no_grad():
        for own, expected in zip(encoder(image), encoder(resized), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_blocks_and_norm() -> None:
    first = VitEncoder("test_vit", blocks=(0, 3))
    assert len(first.net.blocks) == 4  # what follows is left out
    assert len(first.channels) == 2
    assert isinstance(VitEncoder("test_vit", blocks=(0, 3), norm=False).net.norm, nn.Identity)
    with torch.no_grad():
        feature = small()(torch.rand(1, 3, 64, 64))[0]
    torch.testing.assert_close(feature.mean(1), torch.zeros(1, 4, 4), rtol=0, atol=1e-5)  # a layer norm at its start


@every_vit
def test_lora_starts_as_the_identity_learns_in_every_block_and_merges(name: str) -> None:
    image = torch.rand(1, 3, 64, 64)
    plain, adapted = small(name).eval(), small(name, lora_rank=2).eval()
    adapted.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for own, expected in zip(adapted(image), plain(image), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    trained = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    assert {n.rsplit(".", 1)[-1] for n in trained} == {"lora_down", "lora_up"}
    assert len(trained) == 4 * 2 * 2
    torch.stack([(f * torch.rand_like(f)).sum() for f in adapted(image)]).sum().backward()
    ups = [p.grad for n, p in trained.items() if n.endswith("lora_up")]
    assert all(grad is not None and float(grad.abs().max()) > 0 for grad in ups)

    with torch.no_grad():
        for parameter in trained.values():
            nn.init.normal_(parameter, std=0.1)
        before = adapted(image)
        merge_lora(adapted)
        assert not any(isinstance(m, LoRALinear) for m in adapted.modules())
        assert set(adapted.state_dict()) == set(plain.state_dict())
        assert not torch.equal(before[-1], plain(image)[-1])
        for own, expected in zip(adapted(image), before, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


@every_vit
def test_every_parameter_has_its_layer(name: str) -> None:
    encoder = small(name)
    layers = {n: encoder.layer_of(f"net.{n}")[0] for n, _ in encoder.net.named_parameters()}
    for n, layer in layers.items():
        if n.startswith("blocks."):
            assert layer == int(n.split(".")[1]) + 1
        elif n.startswith(("patch_embed", "pos_embed", "cls_token", "reg_token")):
            assert layer == 0
        else:
            assert layer >= 4, n


def test_frozen_stages_are_blocks() -> None:
    encoder = small(frozen_stages=2)
    frozen = {name for name, p in encoder.net.named_parameters() if not p.requires_grad}
    assert {name.split(".")[1] for name in frozen if name.startswith("blocks.")} == {"0", "1"}
    assert small(frozen_stages=-1).fully_frozen


def test_it_is_rebuilt_without_its_weights() -> None:
    spec = spec_of(small(lora_rank=2))
    with without_weights():
        again = build(spec)
    assert set(again.state_dict()) == set(small(lora_rank=2).state_dict())


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **settings: Any) -> None:
        assert settings["pretrained"]
        raise URLError("no network")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(CheckpointError, match=r"could not be downloaded .*no network.* weights: null"):
        VitEncoder("vit_small_patch14_dinov2", weights="pretrained")


def test_a_weights_file_of_timm(tmp_path: Any) -> None:
    name = "vit_tiny_patch16_224"
    theirs = timm.create_model(name, **SMALL[name])  # with the classifier, which is left out
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    encoder = small(weights=str(tmp_path / "w.pth"))
    assert torch.equal(encoder.net.blocks[3].mlp.fc1.weight, theirs.blocks[3].mlp.fc1.weight)
    with pytest.raises(CheckpointError, match="tensors match"):
        small("samvit_base_patch16", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(VitEncoder, "vit_smal_patch14_dinov2"), "nearest: .*vit_small_patch14_dinov2"),
        (partial(VitEncoder, "resnet18"), r"not a plain vision transformer.*TimmEncoder"),
        (partial(VitEncoder, "beit_base_patch16_224", options={"depth": 1}), "pictures of one size"),
        (partial(VitEncoder, "test_vit", options={"foo": 1}), "foo"),
        (partial(VitEncoder, "test_vit", blocks=(2, 1)), r"\[2, 1\] are no ascending"),
        (partial(VitEncoder, "test_vit", blocks=(0, 6)), "from 0 to 5"),
        (partial(VitEncoder, "test_vit", lora_rank=2, frozen_stages=1), "exclude each other"),
        (partial(VitEncoder, "test_vit", lora_rank=-2), "rank must be at least 1"),
    ],
)
def test_wrong_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
