"""Marigold: depth painted by a diffusion model.

B. Ke et al., "Repurposing Diffusion-Based Image Generators for Monocular Depth Estimation", CVPR 2024. Run by the
pipeline of diffusers; nothing of it is written again here. The noise depends on `seed` and the picture's size alone,
never on its place in a batch, so that a result can be had again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mde.codecs import DepthCodec
from mde.errors import CheckpointError, ConfigError
from mde.losses import DepthLoss
from mde.models.as_predicted import AsPredicted, loss_for
from mde.models.base import DepthModule
from mde.models.pretrained.known import hub_or_folder
from mde.models.weights import hub_within_reach
from mde.types import Ambiguity, Batch, StepOutput

__all__ = ["MarigoldDepth"]


class MarigoldDepth(DepthModule):
    """Depth between 0 and 1, up to scale and shift (`AFFINE_DEPTH`), by denoising. It is used as it came, not trained.

    Args:
        name: "marigold", "marigold-lcm", a local folder of a diffusers pipeline, or "owner/name" on the hub.
        steps: of denoising; None takes the pipeline's own (1 to 4 for lcm, 10 to 50 as in the paper).
        ensemble: so many predictions from different noise are aligned to each other, and their median is taken. The
            paper's tables have 10.
        processing_size: pixels of the longer side at which it works; None takes the pipeline's own (768), 0 the
            picture's.
        seed: of the noise.
        kwargs: see `DepthModule`.

    Raises:
        ConfigError: diffusers is missing, or a number is out of range.
        CheckpointError: the pipeline cannot be had.
    """

    ambiguity = Ambiguity.AFFINE_DEPTH

    def __init__(
        self,
        name: str = "marigold",
        steps: int | None = None,
        ensemble: int = 1,
        processing_size: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = _pipeline(name)
        self.steps = self.pipeline.default_denoising_steps if steps is None else steps
        own_size = self.pipeline.default_processing_resolution
        self.processing_size = own_size if processing_size is None else processing_size
        if not (self.steps or 0) >= 1 or ensemble < 1 or self.processing_size is None or self.processing_size < 0:
            raise ConfigError(
                f"steps and ensemble must be at least 1 and processing_size at least 0, got {self.steps}, {ensemble} "
                f"and {self.processing_size}",
                where="model",
                next_action="say those that the pipeline itself does not",
            )
        self.ensemble, self.seed = ensemble, seed
        # the same objects as the pipeline's, so that they move to a device and are counted
        self.unet, self.vae, self.text_encoder = (
            getattr(self.pipeline, part).requires_grad_(False) for part in ("unet", "vae", "text_encoder")
        )

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return AsPredicted(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return loss_for(self.ambiguity)

    def training_loss(self, batch: Batch) -> StepOutput:
        """Refuses: Marigold trains on latents, by its authors' own program.

        Raises:
            ConfigError: always.
        """
        what = "Marigold is not trained here"
        raise ConfigError(
            what, where="model", next_action="train a PretrainedDepth, or load a folder trained elsewhere"
        )

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,1,H,W), in [0,1], larger is farther."""
        return torch.cat([self._one(picture[None]) for picture in image.float()])

    def _one(self, picture: Tensor) -> Tensor:
        with torch.autocast(picture.device.type, enabled=False):
            made = self.pipeline(
                picture,
                num_inference_steps=self.steps,
                ensemble_size=self.ensemble,
                processing_resolution=self.processing_size,
                generator=torch.Generator("cpu").manual_seed(self.seed),
                output_type="pt",
            )
        depth: Tensor = made.prediction
        return depth.float()


def _pipeline(name: str) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError("Marigold needs diffusers", next_action="pip install 'mde[marigold]'") from error
    place, kind = hub_or_folder(name), cast(Any, diffusers).MarigoldDepthPipeline
    try:
        with hub_within_reach():
            made = kind.from_pretrained(place, low_cpu_mem_usage=False)  # or it asks for accelerate
    except Exception as error:  # there is no end to what the files of another kind raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        local = Path(place).is_dir()
        raise CheckpointError(
            f"no Marigold pipeline could be loaded from {place} ({reason})",
            where="model.name",
            next_action="give a folder that MarigoldDepthPipeline.save_pretrained wrote"
            + ("" if local else ", or run once with a network (files are then kept)"),
        ) from error
    made.set_progress_bar_config(disable=True)
    return made.to(torch.float32)
