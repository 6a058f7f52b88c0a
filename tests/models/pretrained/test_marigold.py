"""Marigold by diffusers, on a random pipeline of some thousand weights saved as the hub holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mde
from mde.errors import CheckpointError, ConfigError
from mde.models.pretrained import MarigoldDepth
from mde.types import Ambiguity
from tests.models.tester import make_batch, make_loader, make_trainer

diffusers = pytest.importorskip("diffusers", reason="the extra 'marigold' is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    place = tmp_path_factory.mktemp("marigold")
    pipeline = diffusers.MarigoldDepthPipeline(
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=8, out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), 
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=[8, 8], in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
            down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        ),
        scheduler=diffusers.DDIMScheduler(
            prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, beta_schedule="scaled_linear",
            clip_sample=False, thresholding=False,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=3,
                bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        ),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        prediction_type="depth",
        default_denoising_steps=2,
        default_processing_resolution=32,
    )  # fmt: skip
    pipeline.save_pretrained(place)
    return place


def test_size_range_and_ambiguity(folder: Path) -> None:
    model = MarigoldDepth(str(folder)).eval()
    assert model.ambiguity is Ambiguity.AFFINE_DEPTH
    assert (model.steps, model.processing_size) == (2, 32)
    out = model.predict_batch(torch.rand(2, 3, 33, 47))
    assert out.shape == (2, 1, 33, 47)
    assert 0 <= float(out.min()) < float(out.max()) <= 1
    assert sum(p.numel() for p in model.parameters()) > 1000
    assert not any(p.requires_grad for p in model.parameters())


def test_the_batch_does_not_matter_and_the_seed_does(folder: Path) -> None:
    model, image = MarigoldDepth(str(folder), steps=1).eval(), torch.rand(2, 3, 32, 32)
    both = model(image)
    torch.testing.assert_close(both[1:], model(image[1:]), rtol=0, atol=0)
    assert float((MarigoldDepth(str(folder), steps=1, seed=1)(image) - both).abs().max()) > 1e-4


def test_is_the_pipeline_of_diffusers(folder: Path) -> None:
    image = torch.rand(1, 3, 32, 48)
    pipeline = diffusers.MarigoldDepthPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(image, ensemble_size=3, generator=torch.Generator().manual_seed(4), output_type="pt").prediction
    torch.testing.assert_close(MarigoldDepth(str(folder), ensemble=3, seed=4)(image), expected, rtol=0, atol=0)


def test_scored_up_to_scale_and_shift(folder: Path, tmp_path: Path) -> None:
    model = MarigoldDepth(str(folder), steps=1, protocol=mde.EvalProtocol(alignment="scale_shift", max_depth=10.0))
    (found,) = make_trainer(tmp_path).test(model, make_loader(), verbose=False)
    assert 0 < found["test/abs_rel"] < 10


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not trained here"):
        MarigoldDepth(str(folder)).training_loss(make_batch())
    with pytest.raises(ConfigError, match="steps and ensemble must be at least 1"):
        MarigoldDepth(str(folder), ensemble=0)
    with pytest.raises(CheckpointError, match=r"no Marigold pipeline.*Next: give a folder") as error:
        MarigoldDepth(str(tmp_path))
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="nearest names: marigold"):
        MarigoldDepth("marigoldd")
