from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mde
from mde.codecs import DepthCodec
from mde.errors import ConfigError
from mde.inference import TiledDepth
from mde.inference.tiling import tile_starts
from mde.losses import DepthLoss, L1Loss
from mde.models import UNet
from mde.models.as_predicted import AsPredicted
from mde.models.base import DepthModule
from mde.types import Ambiguity
from tests.models.tester import make_batch, make_loader, make_trainer

WHOLE = (48, 64)


class Said(DepthModule):
    """Says the red of a picture; of tiles, as the parts say, bent and on a scale of their own.

    Args:
        gain, offset: of the tiles, times the number of the call.
        bend: height of a bump in each tile, which no line removes.
    """

    def __init__(self, gain: float = 1.0, offset: float = 0.0, bend: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gain, self.offset, self.bend = gain, offset, bend
        self.calls = 0

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return AsPredicted(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return L1Loss()

    def forward(self, image: Tensor) -> Tensor:
        red = image[:, :1]
        if tuple(image.shape[-2:]) == WHOLE:
            self.calls = 0
            return red
        self.calls += 1
        height, width = image.shape[-2:]
        down, across = (torch.sin(torch.linspace(0, torch.pi, side)) for side in (height, width))
        bump = self.bend * down[:, None] * across * (-1) ** self.calls
        return (red + bump) * self.gain * self.calls + self.offset * self.calls


def smooth() -> Tensor:
    """(2,3,48,64): a slope and a wave, from 0.2 to 0.9."""
    down, across = torch.meshgrid(torch.linspace(0, 1, WHOLE[0]), torch.linspace(0, 1, WHOLE[1]), indexing="ij")
    first = 0.2 + 0.4 * down + 0.3 * across
    second = 0.5 + 0.3 * torch.sin(3 * down) * torch.cos(4 * across)
    return torch.stack((first, second))[:, None].expand(-1, 3, -1, -1).contiguous()


def step(maps: Tensor, axis: int) -> Tensor:
    return maps.diff(dim=axis).abs().amax(0)[0]


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
def test_one_tile_is_the_method_itself(ambiguity: Ambiguity) -> None:
    method = Said(gain=3.0)
    method.ambiguity = ambiguity
    tiled = TiledDepth(method, tiles=(1, 1))
    assert tiled.ambiguity is ambiguity
    assert torch.equal(tiled.predict_batch(smooth()), method.predict_batch(smooth()))


@pytest.mark.parametrize("tiles", [(2, 2), (1, 3), (3, 4)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("ambiguity", [Ambiguity.METRIC, Ambiguity.AFFINE_DEPTH, Ambiguity.AFFINE_DISPARITY])
def test_scale_and_shift_of_tiles_vanish(tiles: tuple[int, int], overlap: float, ambiguity: Ambiguity) -> None:
    method = Said(gain=0.3, offset=5.0)
    method.ambiguity = ambiguity
    tiled = TiledDepth(method, tiles=tiles, overlap=overlap)
    torch.testing.assert_close(tiled.predict_batch(smooth()), smooth()[:, :1], rtol=1e-4, atol=1e-5)
    assert method.calls == tiles[0] * tiles[1]


def test_a_scale_without_a_shift_stays_one() -> None:
    """Depth up to a factor has a zero: a shift between tile and whole must not be explained away."""
    pure, shifted = Said(gain=4.0), Said(gain=4.0, offset=2.0)
    pure.ambiguity = shifted.ambiguity = Ambiguity.SCALE
    torch.testing.assert_close(TiledDepth(pure).predict_batch(smooth()), smooth()[:, :1], rtol=1e-4, atol=1e-5)
    assert float((TiledDepth(shifted).predict_batch(smooth()) - smooth()[:, :1]).abs().max()) > 0.05


def test_seams_are_no_steeper_than_the_inside() -> None:
    """Tiles that disagree by bumps up and down: blended, the steepest place is not a tile's edge."""
    out = TiledDepth(Said(bend=0.1), tiles=(2, 2), overlap=0.5).predict_batch(smooth())
    for axis, length in ((-2, WHOLE[0]), (-1, WHOLE[1])):
        starts, side = tile_starts(length, 2, 0.5)
        steps = step(out, axis)
        edges = [starts[1] - 1, starts[0] + side - 1]  # between the last pixel outside a tile and its first inside
        seam = torch.stack([steps.select(axis, edge).max() for edge in edges]).max()
        others = [edge for edge in range(length - 1) if edge not in edges]
        inside = steps.index_select(axis, torch.tensor(others))
        assert float(seam) <= float(inside.max()) + 1e-6


def test_without_overlap_the_same_tiles_have_seams() -> None:
    hard, soft = (TiledDepth(Said(bend=0.1), overlap=o).predict_batch(smooth()) for o in (0.0, 0.5))
    assert float(step(hard, -1)[:, 31].max()) > 1.5 * float(step(soft, -1).max())


def test_tiles_agree_with_the_whole_on_average() -> None:
    """A least-squares line with a shift keeps the mean of each tile, whatever the tile says."""
    out = TiledDepth(Said(gain=2.0, offset=-1.0, bend=0.15), tiles=(2, 2), overlap=0.0).predict_batch(smooth())
    for rows in (slice(0, 24), slice(24, 48)):
        for columns in (slice(0, 32), slice(32, 64)):
            part = (..., rows, columns)
            means = [maps[part].double().mean((1, 2, 3)) for maps in (out, smooth()[:, :1])]
            torch.testing.assert_close(*means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gain", [-1.0, 0.0, float("nan")])
def test_a_tile_that_contradicts_the_whole_is_left_out(gain: float) -> None:
    torch.testing.assert_close(TiledDepth(Said(gain=gain)).predict_batch(smooth()), smooth()[:, :1])


def test_tiles_see_what_the_small_input_cannot() -> None:
    """A method that works at 24x32: of fine stripes its whole prediction is flat, its tiles are not."""
    image = smooth()
    image[..., ::2] += 0.1
    method = Said(image_size=(24, 32))
    plain = torch.nn.functional.interpolate(image[:, :1], size=(24, 32), mode="bilinear", antialias=True)
    blurred = torch.nn.functional.interpolate(plain, size=WHOLE, mode="bilinear")
    tiled = TiledDepth(method, tiles=(2, 2), overlap=0.0).predict_batch(image)
    errors = [float((maps - image[:, :1]).abs().mean()) for maps in (tiled, blurred)]
    assert errors[0] < 0.5 * errors[1]


@settings(max_examples=200, deadline=None)
@given(length=st.integers(2, 400), number=st.integers(1, 7), overlap=st.floats(0, 0.5))
def test_tiles_cover_everything(length: int, number: int, overlap: float) -> None:
    if length < 2 * number:
        with pytest.raises(ConfigError, match="too many"):
            tile_starts(length, number, overlap)
        return
    starts, side = tile_starts(length, number, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        covered[start : start + side] += 1
    assert covered.min() >= 1
    assert (starts[0], starts[-1] + side, len(starts)) == (0, length, number)
    shared = [first + side - second for first, second in pairwise(starts)]
    assert all(abs(each - overlap * side) <= 2 for each in shared)


def test_scored_and_predicted_like_a_method(tmp_path: Path) -> None:
    method = UNet(widths=[4, 8], image_size=(32, 48), depth_range=(0.2, 8.0))
    trainer = make_trainer(tmp_path)
    trainer.fit(method, make_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    tiled = TiledDepth(checkpoint=str(tmp_path / "a.ckpt"), tiles=(1, 1))
    picture = make_batch(1)["image"]
    torch.testing.assert_close(tiled.predict(picture).values, mde.load(tmp_path / "a.ckpt").predict(picture).values)
    fine = TiledDepth(checkpoint=str(tmp_path / "a.ckpt"))
    (found,) = make_trainer(tmp_path).test(fine, make_loader(), verbose=False)
    assert 0 < found["test/abs_rel"] < 10
    assert fine.predict(torch.rand(3, 65, 91), flip=True).values.shape == (1, 1, 65, 91)
    assert not any(p.requires_grad for p in fine.parameters())


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a model or a checkpoint \[model\]. Next: give"):
        TiledDepth()
    with pytest.raises(ConfigError, match="not both"):
        TiledDepth(Said(), checkpoint="a.ckpt")
    with pytest.raises(ConfigError, match=r"overlap between 0 and 0\.5"):
        TiledDepth(Said(), overlap=0.6)
    with pytest.raises(ConfigError, match=r"\(1, 1\)"):
        TiledDepth(Said(), tiles=(0, 2))
    with pytest.raises(ConfigError, match="fit the method itself"):
        TiledDepth(Said()).training_loss(make_batch())
