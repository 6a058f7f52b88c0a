from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mde.codecs import Discretized, Log, Ordinal
from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, LossMaps, OrdinalLoss, ordinal_loss
from mde.losses.banded import banded_mean
from mde.rebuild import build, spec_of
from tests.losses.test_cross_entropy import case


def equation(pairs: np.ndarray, target: np.ndarray, valid: np.ndarray) -> float:
    """Equations 2 and 3 of Fu et al. as they stand, in float64: `pairs` (B,K,2,H,W), "no" and "yes"."""
    exponential = np.exp(pairs)
    above = exponential[:, :, 1] / exponential.sum(2)
    total, count = 0.0, 0
    for b, y, x in np.argwhere(valid[:, 0]):
        label = target[b, 0, y, x]
        total -= np.log(above[b, :label, y, x]).sum() + np.log(1 - above[b, label:, y, x]).sum()
        count += 1
    return total / count


def naive(margins: Tensor, target: Tensor, valid: Tensor, align_corners: bool = False) -> Tensor:
    """The usual way: enlarge all maps, then torch's binary cross-entropy."""
    large = F.interpolate(margins, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    passed = torch.arange(margins.shape[1]).view(1, -1, 1, 1) < torch.where(valid, target, 0)
    each = F.binary_cross_entropy_with_logits(large, passed.to(large.dtype), reduction="none").sum(1, keepdim=True)
    return each[valid].sum() / valid.sum()


def test_value_is_the_equation_of_the_paper() -> None:
    logits, target, valid = case((7, 9), (7, 9), classes=12)
    codec = Ordinal("sid", 6, 1.0, 80.0)
    target %= 6
    expected = equation(logits.detach().numpy().reshape(2, 6, 2, 7, 9), target.numpy(), valid.numpy())
    assert float(ordinal_loss(codec.margins(logits), target, valid).detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("truth", [(31, 40), (7, 9), (130, 9), (7, 200), (5, 4)])
def test_value_and_gradient_are_those_of_the_enlarged_maps(truth: tuple[int, int], align_corners: bool) -> None:
    margins, target, valid = case((7, 9), truth)
    losses = [way(margins, target, valid, align_corners) for way in (ordinal_loss, naive)]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(2.5 * loss, margins)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)
    assert gradients[0].abs().sum() > 0


def test_gradcheck_and_margins_far_out() -> None:
    margins, target, valid = case((3, 4), (8, 11), classes=4, batch=1)
    assert torch.autograd.gradcheck(lambda x: ordinal_loss(x, target, valid), (margins,))
    far, target, valid = case((4, 5), (16, 20), scale=4000.0)
    loss = ordinal_loss(far.float(), target, valid)
    torch.testing.assert_close(loss.double(), naive(far, target, valid), rtol=1e-5, atol=0)
    assert torch.isfinite(torch.autograd.grad(loss, far)[0]).all()


def test_an_empty_mask_is_a_connected_zero_and_garbage_under_the_mask_is_nothing() -> None:
    margins, target, valid = case((7, 9), (7, 9))
    nothing = ordinal_loss(margins, target, torch.zeros_like(valid))
    assert float(nothing.detach()) == 0
    assert torch.equal(torch.autograd.grad(nothing, margins)[0], torch.zeros_like(margins))
    clean = ordinal_loss(margins, target, valid)
    spoilt, wrong = margins.detach().clone(), target.clone()
    spoilt[~valid.expand_as(spoilt)] = float("nan")
    wrong[~valid] = 999
    again = ordinal_loss(spoilt.requires_grad_(), wrong, valid)
    assert torch.equal(again, clean)
    assert torch.equal(torch.autograd.grad(again, spoilt)[0], torch.autograd.grad(clean, margins)[0])


def test_a_nearer_miss_costs_less() -> None:
    """Unlike cross-entropy, which does not know that classes have an order."""
    sure = [torch.where(torch.arange(9) < guess, 5.0, -5.0).view(1, 9, 1, 1) for guess in range(9)]
    target, valid = torch.full((1, 1, 1, 1), 4), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    losses = [float(ordinal_loss(margins, target, valid)) for margins in sure]
    assert losses[4] == min(losses)
    assert losses[:5] == sorted(losses[:5], reverse=True)
    assert losses[4:] == sorted(losses[4:])


def test_pairs_and_single_logits_are_the_same_loss() -> None:
    pairs = torch.randn(2, 24, 5, 6, requires_grad=True)
    depth, valid = 1 + 70 * torch.rand(2, 1, 20, 24), torch.rand(2, 1, 20, 24) > 0.2
    maps = LossMaps(pairs, depth, valid, Ordinal("sid", 12))
    single = LossMaps(pairs[:, 1::2] - pairs[:, ::2], depth, valid, Ordinal("sid", 12, pairs=False))
    torch.testing.assert_close(OrdinalLoss().of(maps), OrdinalLoss().of(single))
    (gradient,) = torch.autograd.grad(OrdinalLoss().of(maps), pairs)
    torch.testing.assert_close(gradient[:, ::2], -gradient[:, 1::2])


def test_logits_of_another_codec_are_refused_by_name() -> None:
    depth, valid = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    for loss, codec, wanted in (
        (OrdinalLoss(), Discretized("sid", 12), "Ordinal"),
        (OrdinalLoss(), Log(1, 80), "Ordinal"),
        (ClassCrossEntropy(), Ordinal("sid", 6), "Discretized"),
    ):
        with pytest.raises(ConfigError, match=rf"set model\.codec to mde\.codecs\.{wanted}"):
            loss.of(LossMaps(torch.zeros(1, 12, 4, 4), depth, valid, codec))
    with pytest.raises(ConfigError, match=r"takes logits \(B,12,H,W\), got \(1, 6, 4, 4\)"):
        OrdinalLoss().of(LossMaps(torch.zeros(1, 6, 4, 4), depth, valid, Ordinal("sid", 6)))
    with pytest.raises(ConfigError, match="do not fit 6 logits"):
        ordinal_loss(torch.zeros(1, 6, 4, 4), torch.full((1, 1, 4, 4), 6), valid)


def test_float32_under_autocast_and_rebuilt() -> None:
    margins, target, valid = case((7, 9), (31, 40))
    with torch.autocast("cpu", torch.bfloat16):
        loss = OrdinalLoss()(margins.detach().bfloat16(), target, valid)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, naive(margins.detach().bfloat16().float(), target, valid), rtol=1e-5, atol=0)
    assert build(spec_of(OrdinalLoss(align_corners=True))).align_corners


def test_a_step_sees_bands_that_cover_every_valid_pixel_once() -> None:
    logits, target, valid = case((7, 9), (130, 9))
    logits, seen = logits.detach().requires_grad_(), []

    def step(band: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        seen.append(int(known.sum()))
        value = band[known].sum()
        band.copy_(known[..., None].expand_as(band))
        return value

    loss = banded_mean(logits, target, valid, step)
    large = F.interpolate(logits, size=(130, 9), mode="bilinear")
    expected = (large * valid).sum() / valid.sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (loss, expected)))
    assert sum(seen) == int(valid.sum())
