from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import SamConfig, SamImageProcessor, SamModel, SamVisionConfig, SamVisionModel

from mde.codecs import Metres
from mde.errors import CheckpointError, ConfigError
from mde.models import SAMDepth, SamEncoder
from mde.models.base import DepthModule
from mde.models.sam_depth import ResidualDecoder
from mde.rebuild import build, spec_of, without_weights
from tests.models.tester import MethodTester, make_batch

TINY: dict[str, Any] = {
    "hidden_size": 24, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
    "window_size": 3, "global_attn_indexes": [1],
}  # fmt: skip
encoder = partial(SamEncoder, config=TINY)
NARROW = partial(ResidualDecoder, widths=(16, 16, 8))


class TestSAMDepth(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return SAMDepth(encoder(trainable_blocks=-1), NARROW, **kwargs)


class TestFrozenAndLiteral(MethodTester):
    overfit_factor = 0.9  # a random encoder, and a sigmoid times 255 that has to come down to 0.3

    def make(self, **kwargs: Any) -> DepthModule:
        return SAMDepth(encoder(), NARROW, paper0_pad_bug=True, paper0_scale255=True, **kwargs)


class TestAdapted(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        depth_range = kwargs.pop("depth_range", (0.1, 10.0))
        return SAMDepth(encoder(trainable_blocks=1, lora_rank=2), NARROW, codec=Metres(*depth_range), **kwargs)


@pytest.fixture
def sam(tmp_path: Path) -> tuple[SamModel, Path]:
    """A whole SAM with random weights, tables of positions included, saved as the hub holds it."""
    torch.manual_seed(0)
    model = SamModel(SamConfig(vision_config={**TINY, "initializer_range": 0.02}))
    for name, parameter in model.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(tmp_path / "sam")
    return model.eval(), tmp_path / "sam"


def trained(module: torch.nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("name", "count"), [("slimsam-77", 5_658_968), ("slimsam-50", 23_897_216), ("vit-b", 89_670_912)]
)
def test_parameters_of_the_encoders(name: str, count: int) -> None:
    with torch.device("meta"):
        made = SamEncoder(name)
    assert sum(p.numel() for p in made.parameters()) == count
    assert (made.channels, made.reductions, trained(made)) == ((256,), (16,), set())


def test_decoder_of_the_paper() -> None:
    model = SAMDepth(encoder())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 570_753
    levels = ResidualDecoder((256,))([torch.zeros(1, 256, 64, 64)])
    assert [tuple(level.shape[1:]) for level in levels] == [(128, 128, 128), (64, 256, 256), (32, 256, 256)]
    assert all(name.startswith(("decoder.", "head.")) for name in trained(model))


def test_random_networks_say_something() -> None:
    assert float(encoder()(torch.rand(1, 3, 64, 64))[0].std()) > 0.1


@pytest.mark.parametrize("size", [(48, 64), (64, 40), (30, 100), (33, 47)])
def test_embeddings_of_transformers(sam: tuple[SamModel, Path], size: tuple[int, int]) -> None:
    model, folder = sam
    picture = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    processor = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    inputs = processor(picture[0].permute(1, 2, 0).numpy(), return_tensors="pt")
    made = SamEncoder(str(folder), weights="pretrained").eval()
    with torch.no_grad():
        expected = model.get_image_embeddings(inputs["pixel_values"])
        expected = getattr(expected, "last_hidden_state", expected)
        whole, feature = made.padded(picture / 255), made(picture / 255)[0]
    if max(size) == 64:  # the processor resizes bytes, which rounds
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-4)
    height, width = inputs["reshaped_input_sizes"][0].tolist()
    assert made.content(size) == (height, width)
    assert feature.shape[-2:] == (-(-height // 16), -(-width // 16))
    torch.testing.assert_close(feature, whole[..., : feature.shape[2], : feature.shape[3]], rtol=0, atol=0)


def test_padding_is_cut_off_and_the_papers_bug_squeezes() -> None:
    """A network that says where it is: the map of the whole square is a ramp from top to bottom."""
    ramp = torch.linspace(0.5 / 16, 1 - 0.5 / 16, 16)[:, None].expand(1, 1, 16, 16)
    half = []
    for bug in (False, True):
        model = SAMDepth(encoder(), paper0_pad_bug=bug).eval()
        model.head.last = lambda levels: torch.logit(ramp[..., : levels[-1].shape[2], :])  # type: ignore[method-assign]
        with torch.no_grad():
            out = model(torch.rand(1, 3, 480, 640))[0, 0, :, 320]
        half.append(int((out < 0.375).sum()))  # rows above the middle of the picture, which fills 0.75 of the square
    assert abs(half[0] - 240) <= 2
    assert abs(half[1] / half[0] - 0.75) < 0.02


@pytest.mark.parametrize("size", [(33, 47), (9, 64), (64, 5), (64, 64)])
def test_odd_pictures_lose_what_was_filled(size: tuple[int, int]) -> None:
    model = SAMDepth(encoder())
    content = model.encoder.content(size)
    feature = model.encoder(torch.rand(1, 3, *size))[0]
    raw = torch.zeros(1, 1, *(4 * side for side in feature.shape[-2:]))
    kept = model._without_filling(raw, feature, torch.Size(size)).shape[-2:]
    assert kept == tuple(max(1, round(side / 4)) for side in content)


@pytest.mark.parametrize("bug", [False, True])
def test_loss_of_the_paper(bug: bool) -> None:
    model, batch = SAMDepth(encoder(), paper0_scale255=bug), make_batch()
    raw = model(batch["image"])
    target = batch["depth"].clamp(0.1, 10) / 10
    expected = (raw - target)[batch["valid"]].square().mean()
    torch.testing.assert_close(model.output_loss(raw, batch), expected)
    assert (float(raw.detach().max()) > 1) is bug
    torch.testing.assert_close(model.codec.decode(torch.tensor([0.5])), torch.tensor([5.0]))


def test_what_is_trained() -> None:
    assert trained(encoder()) == set()
    last = trained(encoder(trainable_blocks=1))
    assert {name.split(".layers.")[-1].split(".")[0] for name in last if ".layers." in name} == {"1"}
    assert any(".neck." in name for name in last)
    assert not any("pos_embed" in name or "patch_embed" in name for name in last)
    adapted = trained(encoder(lora_rank=2))
    assert len(adapted) == 8
    assert all("lora_" in name for name in adapted)
    everything = encoder(trainable_blocks=-1)
    assert trained(everything) == {name for name, _ in everything.named_parameters()}


def test_adapted_encoder_begins_as_the_frozen_one(sam: tuple[SamModel, Path]) -> None:
    picture = torch.rand(1, 3, 48, 64)
    plain, adapted = (SamEncoder(str(sam[1]), weights="pretrained", lora_rank=rank) for rank in (0, 2))
    with torch.no_grad():
        torch.testing.assert_close(adapted(picture)[0], plain(picture)[0], rtol=0, atol=0)
    assert adapted(picture)[0].requires_grad
    assert not plain(picture)[0].requires_grad


def as_the_authors_name_it(key: str) -> str:
    table = {
        "vision_encoder.": "image_encoder.", "patch_embed.projection": "patch_embed.proj", ".layers.": ".blocks.",
        "neck.conv1": "neck.0", "neck.layer_norm1": "neck.1", "neck.conv2": "neck.2", "neck.layer_norm2": "neck.3",
        "layer_norm1": "norm1", "layer_norm2": "norm2",
    }  # fmt: skip
    for name, original in table.items():
        key = key.replace(name, original)
    return key


@pytest.mark.parametrize("rename", [str, as_the_authors_name_it])
def test_state_dicts_load(sam: tuple[SamModel, Path], tmp_path: Path, rename: Any) -> None:
    state = {rename(key): value for key, value in sam[0].state_dict().items()}
    torch.save(state, tmp_path / "sam.pth")
    expected = SamEncoder(str(sam[1]), weights="pretrained").net.state_dict()
    found = encoder(weights=str(tmp_path / "sam.pth")).net.state_dict()
    assert list(found) == list(expected)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)


def test_another_input_size_resizes_the_tables(sam: tuple[SamModel, Path]) -> None:
    folder = str(sam[1])
    plain, large = (SamEncoder(folder, weights="pretrained", image_size=size).eval() for size in (None, 128))
    assert plain.image_size == 64
    state, changed = plain.net.state_dict(), large.net.state_dict()
    different = {key for key in state if state[key].shape != changed[key].shape}
    names = {"pos_embed", "layers.1.attn.rel_pos_h", "layers.1.attn.rel_pos_w"}
    assert different == {f"vision_encoder.{name}" for name in names}  # windows keep theirs
    assert changed["vision_encoder.pos_embed"].shape == (1, 8, 8, 24)
    table = state["vision_encoder.layers.1.attn.rel_pos_h"]
    expected = F.interpolate(table.T[None], size=15, mode="linear")[0].T
    torch.testing.assert_close(changed["vision_encoder.layers.1.attn.rel_pos_h"], expected)
    assert large(torch.rand(1, 3, 64, 64))[0].shape == (1, 256, 8, 8)


def test_it_is_made_again_without_its_folder(sam: tuple[SamModel, Path]) -> None:
    made = SamEncoder(str(sam[1]), weights="pretrained", image_size=96, lora_rank=2).eval()
    spec, state, picture = spec_of(made), made.state_dict(), torch.rand(1, 3, 50, 70)
    for file in sam[1].iterdir():
        file.unlink()
    with without_weights():
        again = build(spec)
    again.load_state_dict(state)
    torch.testing.assert_close(again.eval()(picture)[0], made(picture)[0], rtol=0, atol=0)


def test_half_of_the_weights_are_refused(sam: tuple[SamModel, Path]) -> None:
    state = {k: v for k, v in sam[0].state_dict().items() if "neck" not in k}
    sam[0].save_pretrained(sam[1], state_dict=state)
    with pytest.raises(CheckpointError, match=r"6 tensors .* the first is vision_encoder\.neck"):
        SamEncoder(str(sam[1]), weights="pretrained")


def test_refusals_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"no configuration of a SAM encoder .*slimsam-77, slimsam-50") as info:
        SamEncoder(str(tmp_path / "nothing"))
    assert "\n" not in str(info.value)
    with pytest.raises(ConfigError, match="multiple of 16, got 100"):
        encoder(image_size=100)
    with pytest.raises(ConfigError, match="this encoder has 2 blocks"):
        encoder(trainable_blocks=3)
    with pytest.raises(ConfigError, match="lora_rank -1"):
        encoder(lora_rank=-1)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"need transformers.*pip install 'mde\[sam\]'"):
        encoder()


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> Tensor:
        raise OSError("We couldn't connect to the hub\nand more lines")

    monkeypatch.setattr(SamVisionModel, "from_pretrained", offline)
    with pytest.raises(CheckpointError, match=r"weights of slimsam-77 could not be downloaded \(We couldn't") as info:
        encoder(weights="pretrained")
    assert "more lines" not in str(info.value)
    assert SamVisionConfig().initializer_range < 1e-9  # the reason why random networks need a setting of their own


def test_a_random_encoder_begins_with_sines_as_positions():
    table = SamEncoder(config=TINY).net.vision_encoder.pos_embed
    assert table.std() > 0.1
    assert torch.equal(table, SamEncoder(config=TINY).net.vision_encoder.pos_embed)
    flat = table.flatten(0, 2)
    assert torch.cdist(flat, flat).fill_diagonal_(1).min() > 0.05  # no two places alike
