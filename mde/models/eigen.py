"""Eigen, Puhrsch and Fergus 2014: a coarse network that sees the whole picture, and a fine one that adds the detail.

D. Eigen, C. Puhrsch and R. Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NIPS
2014, https://arxiv.org/abs/1406.2283. The later one on VGG (Eigen and Fergus 2015) is another network.

Faithful: layers, kernels, strides and widths of figure 1, so that 228x304 gives maps of 27x37, 13x18, 6x8 and an output
of 55x74, and 172x576 gives 20x71, 10x35 (the paper counts 9 rows) and 4x17; ReLU, dropout of one half on the first
fully connected layer, zero padding that keeps the size in the fine network; an output of ln(metres) at a quarter of the
input's size; the scale-invariant loss with lambda 0.5 of each picture; the coarse network first, then the fine one with
the coarse one fixed, in shares of two million to one and a half million pictures as for NYU; the learning rates of the
layers.

Deviates: the convolutions of the coarse network start at random (He et al. 2015), where the paper has weights of
ImageNet that nobody offers for these widths; the pooling after the fifth convolution is AlexNet's (3x3, stride 2),
which gives the paper's sizes; pictures are centred on 0; outputs start at the middle of the depth range; the truth is
made smaller by nearest neighbour; on KITTI the output covers the whole picture (41x142), where the paper leaves out the
upper part (27x142), which lidar does not see. Any picture is resized to the input of the fully connected layers, and
the evaluation sees the whole frame, where the paper takes a crop of it.

Numbers: NYU, 654 test pictures, table 1: RMSE 0.907 m, AbsRel 0.215, delta1 0.611 (coarse alone 0.871, 0.228, 0.618);
KITTI, table 2, 697 pictures: RMSE 7.156, AbsRel 0.190, delta1 0.692. Neither set can be had where this was
written, so they stand here as the aim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mde.codecs import DepthCodec, LogMetres
from mde.errors import ConfigError
from mde.losses import DepthLoss, SILogLoss
from mde.models.base import DepthModule, GroupSettings
from mde.models.layers import in_float32, resize
from mde.models.schedules import Schedule
from mde.models.supervised import middle_of
from mde.resizing import resized
from mde.types import Batch, StepOutput

__all__ = ["CoarseNet", "EigenDepth", "FineNet"]

WIDTHS = (96, 256, 384, 384, 256)  # figure 1
INPUT_SIZE = (228, 304)  # of NYU, figure 1
SMALLEST = 55  # pixels: what leaves one cell after the last pooling


class Stage(Enum):
    """Which network learns."""

    COARSE = "coarse"
    FINE = "fine"
    BOTH = "both"


class CoarseNet(nn.Module):
    """Five convolutions and two fully connected layers, from a picture to a map of a quarter of its size.

    Args:
        input_size: (height, width) of the picture, at least 55 each.
        widths: channels of the convolutions.
        hidden: width of the first fully connected layer.
        dropout: probability on that layer.
        bias: what the output starts at.
    """

    def __init__(
        self, input_size: tuple[int, int], widths: Sequence[int], hidden: int, dropout: float, bias: float
    ) -> None:
        super().__init__()
        self.size = (quarter(input_size[0]), quarter(input_size[1]))
        kernels, before = (11, 5, 3, 3, 3), (3, *widths[:-1])
        convs = (nn.Conv2d(*each, padding=each[2] // 2) for each in zip(before, widths, kernels, strict=True))
        self.convs = nn.ModuleList(convs)
        self.convs[0] = nn.Conv2d(3, widths[0], 11, stride=4)
        cells = math.prod((side // 4 - 3) // 2 + 1 for side in self.size)
        self.full6 = nn.Linear(widths[-1] * cells, hidden)
        self.dropout = nn.Dropout(dropout)
        self.full7 = nn.Linear(hidden, math.prod(self.size))
        _start((*self.convs, self.full6), self.full7, bias)

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,*input_size), centred on 0, to (B,1,*size), network space."""
        features = self.features(image)
        hidden = self.dropout(self.full6(features.flatten(1)).relu())  # (B,hidden)
        return in_float32(self.full7, hidden).view(-1, 1, *self.size)

    def features(self, image: Tensor) -> Tensor:
        """What the fully connected layers see, (B,widths[-1],h/32,w/32)."""
        x = F.max_pool2d(self.convs[0](image).relu(), 2)  # (B,96,h/8,w/8)
        x = F.max_pool2d(self.convs[1](x).relu(), 2)  # (B,256,h/16,w/16)
        for conv in self.convs[2:]:
            x = conv(x).relu()
        return F.max_pool2d(x, 3, 2)


class FineNet(nn.Module):
    """Edges at a quarter of the picture's size beside the coarse map, and two more convolutions.

    Args:
        width: channels, the coarse map included.
        bias: what the output starts at.
    """

    def __init__(self, width: int, bias: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width - 1, 9, stride=2)
        self.conv2 = nn.Conv2d(width, width, 5, padding=2)
        self.conv3 = nn.Conv2d(width, 1, 5, padding=2)
        _start((self.conv1, self.conv2), self.conv3, bias)

    def forward(self, image: Tensor, coarse: Tensor) -> Tensor:
        """(B,3,H,W), centred on 0, and (B,1,H/4,W/4), network space, to the latter's space and size."""
        edges = F.max_pool2d(self.conv1(image).relu(), 2)  # (B,63,H/4,W/4)
        x = torch.cat((edges, coarse.to(edges.dtype)), 1)  # (B,64,H/4,W/4)
        return in_float32(self.conv3, self.conv2(x).relu())


class OncePerStage(Schedule):
    """A schedule that runs once in each of two stages, which are trainings of their own; of the learning rate alone.

    Args:
        schedule: of each stage.
        share: of the steps, in the first stage.

    >>> from mde.models.schedules import PolyDecay
    >>> [OncePerStage(PolyDecay(1.0), 0.5).factor(step, 8) for step in range(8)]
    [1.0, 0.75, 0.5, 0.25, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(self, schedule: Schedule, share: float) -> None:
        self.schedule, self.share = schedule, share

    def factor(self, step: int, total_steps: int) -> float:
        first = round(self.share * total_steps)
        stage = (step, first) if step < first else (step - first, total_steps - first)
        return self.schedule.factor(*stage)


class EigenDepth(DepthModule):
    """The coarse and the fine network, trained one after the other in one fit.

    Which of the two learns follows from the trainer's step alone, so a run that is resumed goes on in its stage. Every
    parameter takes part in every step, in its idle stage with a gradient of 0, which DDP needs; before the optimizer's
    step those gradients are taken away, so that neither momentum nor decay moves what is fixed. Outside a Trainer both
    learn at once, the fine network without a gradient to the coarse one.

    Until the fine network has begun to learn, the method's output is the coarse map; the weights carry that along.

    Args:
        input_size: (height, width) of the pictures that the networks see, to which others are resized, at least 55
            each; None is `image_size`, or the paper's (228, 304) where that is not known.
        widths: channels of the five convolutions of the coarse network.
        hidden: width of its first fully connected layer.
        fine_width: channels of the fine network.
        dropout: probability on the first fully connected layer.
        coarse_share: share of the optimizer steps of the first stage, between 0 and 1; 4/7 for NYU, 0.6 for KITTI. A
            schedule of the learning rate runs once in each stage.
        lr_factors: of the learning rate for the fully connected layers and for the fine network's second layer. The
            paper has 0.1 and 0.01 there and 0.001 elsewhere.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    Raises:
        ConfigError: a setting is out of range; on fit, the Trainer has no last step.

    >>> model = EigenDepth((60, 80), widths=(8, 8, 8, 8, 8), hidden=16, fine_width=8).eval()
    >>> model.raw(torch.rand(1, 3, 61, 83)).shape, model.predict(torch.rand(3, 61, 83)).depth.shape
    (torch.Size([1, 1, 13, 18]), torch.Size([1, 1, 61, 83]))
    """

    refined: Tensor

    def __init__(
        self,
        input_size: tuple[int, int] | None = None,
        widths: Sequence[int] = WIDTHS,
        hidden: int = 4096,
        fine_width: int = 64,
        dropout: float = 0.5,
        coarse_share: float = 4 / 7,
        lr_factors: tuple[float, float] = (100.0, 10.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        height, width = input_size or self.image_size or INPUT_SIZE
        self.input_size = (int(height), int(width))
        _check(self.input_size, widths, coarse_share, dropout)
        self.coarse_share, self.lr_factors = coarse_share, lr_factors
        if self.schedule is not None:
            self.schedule = OncePerStage(self.schedule, coarse_share)
        start = middle_of(self.codec)
        self.coarse = CoarseNet(self.input_size, widths, hidden, dropout, start)
        self.fine = FineNet(fine_width, start)
        # a number and not a bool, so that averaged weights (AveragedWeights) average it, too
        self.register_buffer("refined", torch.ones(()))
        self._coarse_steps = 0

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return LogMetres(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return SILogLoss(lambda_=0.5, scale=1.0, root=False, pooling="image")

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,1,H,W), network space."""
        return resize(self.raw(image), image.shape[-2:])

    def raw(self, image: Tensor) -> Tensor:
        x = self._input(image)
        coarse = self.coarse(x)  # (B,1,h/4,w/4), h,w = input_size
        return torch.where(self.refined > 0.5, self.fine(x, coarse), coarse)

    def training_loss(self, batch: Batch) -> StepOutput:
        """Loss of the network that learns, at the size of its output; logs one for each that learns."""
        stage, x = self.stage, self._input(batch["image"])
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage is not Stage.FINE):
            coarse = self.coarse(x)
        losses = {} if stage is Stage.FINE else {"coarse": self.output_loss(coarse, batch)}
        if stage is not Stage.COARSE:
            losses["fine"] = self.output_loss(self.fine(x, coarse.detach()), batch)
        nothing = [0 * parameter.flatten()[0] for net in self._idle() for parameter in net.parameters()]
        total = torch.stack([*losses.values(), *nothing]).sum()
        return StepOutput(total, {name: loss.detach() for name, loss in losses.items()})

    @property
    def stage(self) -> Stage:
        """Which network learns now."""
        if self._trainer is None or not self._trainer.training:
            return Stage.BOTH
        return Stage.COARSE if self._trainer.global_step < self._coarse_steps else Stage.FINE

    def group_of(self, name: str, parameter: nn.Parameter) -> GroupSettings:
        settings, (full, middle) = super().group_of(name, parameter), self.lr_factors
        if name.startswith("coarse.full"):
            return {**settings, "lr_factor": full}
        return {**settings, "lr_factor": middle} if name.startswith("fine.conv2.") else settings

    def on_train_start(self) -> None:
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            hint = "set trainer.max_epochs or trainer.max_steps"
            raise ConfigError("two stages need a last step, the Trainer has none", where="trainer", next_action=hint)
        self._coarse_steps = round(self.coarse_share * steps)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        fixed = self.stage is Stage.FINE
        self.refined.fill_(float(fixed))
        self.coarse.train(not fixed)  # dropout would shake what is fixed

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for net in self._idle():
            net.zero_grad(set_to_none=True)

    def _idle(self) -> list[nn.Module]:
        """Networks that do not learn now."""
        if self.stage is Stage.BOTH:
            return []
        return [self.coarse if self.stage is Stage.FINE else self.fine]

    def _input(self, image: Tensor) -> Tensor:
        return resized(image, self.input_size) - 0.5


def quarter(side: int) -> int:
    """Side of the output for a side of the input, as the strides leave it: (228, 304) gives (55, 74).

    The fine network's 9x9 convolution of stride 2 and its pooling come to the same number for every side.
    """
    return (side - 11) // 4 + 1


def _start(hidden: Sequence[nn.Module], last: nn.Conv2d | nn.Linear, bias: float) -> None:
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, std=0.01)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]


def _check(input_size: tuple[int, int], widths: Sequence[int], share: float, dropout: float) -> None:
    if min(input_size) < SMALLEST:
        hint = f"set model.input_size to at least [{SMALLEST}, {SMALLEST}]: pictures are resized to it"
        what = f"pictures of {input_size} are too small for this network"
        raise ConfigError(what, where="model.input_size", next_action=hint)
    if len(widths) != 5 or min(widths) < 1:
        hint = f"the paper's are {list(WIDTHS)}"
        raise ConfigError(f"needs five widths, got {list(widths)}", where="model.widths", next_action=hint)
    if not 0 < share < 1:
        what = f"coarse_share must lie between 0 and 1, got {share:g}"
        raise ConfigError(what, where="model.coarse_share", next_action="4/7 is the paper's for NYU, 0.6 for KITTI")
    if not 0 <= dropout < 1:
        what = f"dropout is a probability below 1, got {dropout:g}"
        raise ConfigError(what, where="model.dropout", next_action="0.5 is the paper's")
