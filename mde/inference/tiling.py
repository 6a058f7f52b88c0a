"""Detail from tiles, agreement from the whole picture.

Z. Li, S. F. Bhat, P. Wonka, "PatchFusion: An End-to-End Tile-Based Framework for High-Resolution Monocular Metric Depth
Estimation", CVPR 2024. A network sees a large picture at its own small input; tiles of it show detail, but each tile
has a scale of its own. PatchFusion fuses both by a trained network. Here the tiles are fitted to the prediction of the
whole picture by least squares and blended, which needs no training and works with every method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mde.alignment import apply_fit, fit
from mde.codecs import DepthCodec
from mde.errors import ConfigError
from mde.losses import DepthLoss
from mde.models.as_predicted import AsPredicted, loss_for
from mde.models.base import DepthModule
from mde.models.checkpoint import load
from mde.models.inputs import in_unit_range
from mde.resizing import resized
from mde.types import Ambiguity, Batch, StepOutput

__all__ = ["TiledDepth", "tile_starts"]

_FITS = {
    Ambiguity.METRIC: "scale_shift",
    Ambiguity.SCALE: "scale",  # a shift would be one that the truth does not have
    Ambiguity.AFFINE_DEPTH: "scale_shift",
    Ambiguity.AFFINE_DISPARITY: "scale_shift",  # of disparities to disparities: a line in their own space
}


class TiledDepth(DepthModule):
    """A method applied to overlapping tiles of a picture, held together by its prediction of the whole.

    Each tile is resized to the method's `image_size` where it has one (a `PretrainedDepth` resizes by its own rule),
    predicted, and fitted to the same part of the prediction of the whole picture: by least squares in the space of the
    prediction, with scale and shift (scale alone for `SCALE`). A tile whose fit is not increasing says nothing and gets
    the whole's values. Tiles are blended by weights that fall to their edges as a squared sine over the overlap. With
    one tile the prediction is exactly that of the method.

    It scores and predicts like the method; to train, train the method.

    Args:
        model: the method, such as a `PretrainedDepth`; or None with `checkpoint`.
        checkpoint: a ``.ckpt`` file of this library with the method and its weights.
        tiles: (rows, columns).
        overlap: of neighbouring tiles, as a share of a tile's side, 0 to 0.5.
        kwargs: see `DepthModule`; `codec` and `loss` are those of the method's ambiguity.

    Raises:
        ConfigError: both or none of `model` and `checkpoint`, or numbers out of range.
        CheckpointError: the checkpoint cannot be read.
    """

    takes_bytes = True  # which `predict_batch` of the method makes floats of where it must

    def __init__(
        self,
        model: DepthModule | None = None,
        checkpoint: str | None = None,
        tiles: tuple[int, int] = (2, 2),
        overlap: float = 0.25,
        **kwargs: Any,
    ) -> None:
        rows, columns = (int(number) for number in tiles)
        if min(rows, columns) < 1 or not 0 <= overlap <= 0.5:
            raise ConfigError(
                f"tiles must be at least (1, 1) and overlap between 0 and 0.5, got {tuple(tiles)} and {overlap}",
                where="TiledDepth",
                next_action="(2, 2) and 0.25 are usual",
            )
        method = _method(model, checkpoint)
        self.ambiguity = method.ambiguity
        super().__init__(**kwargs)
        self.model = method.requires_grad_(False)
        self.tiles, self.overlap = (rows, columns), float(overlap)

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return AsPredicted(min_depth, max_depth, disparity=self.ambiguity is Ambiguity.AFFINE_DISPARITY)

    def default_loss(self) -> DepthLoss:
        return loss_for(self.ambiguity)

    def training_loss(self, batch: Batch) -> StepOutput:
        """Refuses: the fits and the blending have nothing to learn.

        Raises:
            ConfigError: always.
        """
        what = "a TiledDepth is not trained"
        raise ConfigError(
            what, where="model", next_action="fit the method itself, then test it with --model.checkpoint"
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] or uint8 to (B,1,H,W), in the unit of `ambiguity`."""
        whole = self._plain(image)
        if self.tiles == (1, 1):
            return whole
        total, weights = torch.zeros_like(whole), torch.zeros_like(whole[:1])
        for part, weight in self._windows(whole):
            total[part] += weight * self._fitted(self._plain(image[part]), whole[part])
            weights[part] += weight
        return total / weights

    def _plain(self, image: Tensor) -> Tensor:
        """The method's prediction of a picture or tile, at its size."""
        inner = self.model.image_size
        inputs = image if inner is None else resized(in_unit_range(image), inner)
        return resized(self.model.predict_batch(inputs), image.shape[-2:])

    def _windows(self, whole: Tensor) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
        """Index and weight (h,w) of each tile."""
        sides = [
            tile_starts(length, number, self.overlap)
            for length, number in zip(whole.shape[-2:], self.tiles, strict=True)
        ]
        (tops, height), (lefts, width) = sides
        for top in tops:
            for left in lefts:
                down = _weight(top, height, tops, whole)
                across = _weight(left, width, lefts, whole)
                yield (..., slice(top, top + height), slice(left, left + width)), down[:, None] * across

    def _fitted(self, tile: Tensor, whole: Tensor) -> Tensor:
        """A tile (B,1,h,w) on the scale of the same part of the whole."""
        mode = _FITS[self.ambiguity]
        usable = tile.isfinite() & whole.isfinite()
        made = fit(torch.where(usable, tile, 0), torch.where(usable, whole, 1), usable, mode)
        keep = ((made.scale > 0) & ~made.degenerate)[:, None, None, None]
        return torch.where(keep & usable, apply_fit(tile, made, mode).to(whole.dtype), whole)


def tile_starts(length: int, number: int, overlap: float) -> tuple[list[int], int]:
    """Where `number` tiles of one length begin, spread evenly over `length` pixels, and their length.

    Args:
        length: pixels to cover.
        number: of tiles.
        overlap: share of a tile that belongs to its neighbour, too; up to rounding.

    Raises:
        ConfigError: there are fewer than two pixels a tile.

    >>> tile_starts(100, 2, 0.5)
    ([0, 33], 67)
    """
    if length < 2 * number:
        what = f"{number} tiles of a picture of {length} pixels are too many"
        raise ConfigError(what, where="TiledDepth.tiles", next_action="take fewer, or larger pictures")
    side = math.ceil(length / (number - (number - 1) * overlap))
    return [round(i * (length - side) / max(1, number - 1)) for i in range(number)], side


def _weight(start: int, side: int, starts: list[int], like: Tensor) -> Tensor:
    """(side,): 1 inside, a squared sine over what is shared with the tile before and after."""
    position = starts.index(start)
    made = like.new_ones(side)
    if position > 0:
        made *= _ramp(starts[position - 1] + side - start, side, like)
    if position < len(starts) - 1:
        made *= _ramp(start + side - starts[position + 1], side, like).flip(0)
    return made


def _ramp(shared: int, side: int, like: Tensor) -> Tensor:
    """(side,): from 0 to 1 over the first `shared` pixels, never 0 itself."""
    steps = (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / max(shared, 1)
    return torch.sin(steps.clamp(max=1) * (torch.pi / 2)).square()


def _method(model: DepthModule | None, checkpoint: str | None) -> DepthModule:
    if (model is None) == (checkpoint is None):
        raise ConfigError(
            "TiledDepth needs a model or a checkpoint" + ("" if model is None else ", not both"),
            where="model",
            next_action="give --model.checkpoint FILE, or --model.model CLASS with its settings as --model.model.NAME",
        )
    return load(str(checkpoint)) if model is None else model
