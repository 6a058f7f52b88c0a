"""What every loss promises (see `DepthLoss`), tested for all of them at once. A new loss adds one row to `LOSSES`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mde.codecs import Metres
from mde.errors import ConfigError
from mde.geometry import intrinsics_from_fov
from mde.losses import (
    BerHuLoss,
    CameraLoss,
    DenseDepthLoss,
    DepthLoss,
    GradientLoss,
    GradientMatchingLoss,
    L1Loss,
    LossMaps,
    MSELoss,
    PhotometricLoss,
    RMSELoss,
    ScaleShiftInvariantLoss,
    SILogLoss,
    SSIMLoss,
    SurfaceNormalLoss,
    VirtualNormalLoss,
    WeightedSum,
)
from mde.rebuild import build, spec_of

LOSSES: dict[str, Callable[[], DepthLoss]] = {
    "l1": L1Loss,
    "mse": MSELoss,
    "rmse": RMSELoss,
    "gradient": GradientLoss,
    "ssim_valid": lambda: SSIMLoss(5.0, window=5),
    "ssim_same": lambda: SSIMLoss(5.0, window=5, padding="same"),
    "ssim_zero": lambda: SSIMLoss(5.0, window=5, padding="zero"),
    "ssim_box": lambda: SSIMLoss(5.0, window=3, window_type="box", padding="same"),
    "ssi": ScaleShiftInvariantLoss,
    "ssi_plain": lambda: ScaleShiftInvariantLoss(0.0),
    "ssi_trimmed": lambda: ScaleShiftInvariantLoss(form="trimmed"),
    "ssi_mse": lambda: ScaleShiftInvariantLoss(form="mse"),
    "ssi_pixels": lambda: ScaleShiftInvariantLoss(average="pixels"),
    "silog_eigen": lambda: SILogLoss(0.5, 1.0, root=False, pooling="image"),
    "silog_bts": SILogLoss,
    "silog_unbiased": lambda: SILogLoss(unbiased=True),
    "silog_by_image": lambda: SILogLoss(pooling="image"),
    "berhu": BerHuLoss,
    "gradient_matching": GradientMatchingLoss,
    "surface_normal": SurfaceNormalLoss,
    "virtual_normal": lambda: VirtualNormalLoss(share=2.0, min_distance=0.1, angles=(5.0, 170.0)),
    "photometric": PhotometricLoss,
    "densedepth": lambda: DenseDepthLoss(data_range=10.0),
    "weighted_sum": lambda: WeightedSum({"depth": L1Loss(), "edges": GradientLoss()}, {"edges": 0.25}),
}
POOLED = {"rmse", "silog_bts", "silog_unbiased", "berhu"}  # a root or a largest error of the whole batch
DRAWN = {"virtual_normal"}  # from torch's generator: other pixels in a batch than alone
# windows that reach over the border, a camera that a crop moves
NOT_CROPPED = {"ssim_same", "ssim_zero", "ssim_box", "surface_normal", "virtual_normal"}
HEIGHT, WIDTH = 13, 14  # larger than the window of 11 of `densedepth`


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> DepthLoss:
    return LOSSES[request.param]()


def value_of(loss: DepthLoss, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The loss of maps, through a camera where it needs one; the same draws each time where it draws."""
    torch.manual_seed(0)
    value: Tensor = loss(pred, target, valid, *([cameras(len(pred))] if isinstance(loss, CameraLoss) else []))
    return value


def cameras(count: int) -> Tensor:
    """Wide cameras whose axis goes through the middle, so that a mirrored map has the same one."""
    return intrinsics_from_fov(HEIGHT, WIDTH, 90.0).expand(count, 3, 3)


def maps(batch: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A prediction that wants a gradient, a target, and a mask with a hole that leaves whole windows of 11."""
    rng = torch.Generator().manual_seed(seed)
    pred = 1 + 4 * torch.rand(batch, 1, HEIGHT, WIDTH, generator=rng, dtype=dtype)
    target = 1 + 4 * torch.rand(batch, 1, HEIGHT, WIDTH, generator=rng, dtype=dtype)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, 0, :2, 3:6] = False
    return pred.requires_grad_(), target, valid


def value_and_gradient(loss: DepthLoss, pred: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    pred = pred.detach().requires_grad_()
    value = value_of(loss, pred, target, valid)
    (gradient,) = torch.autograd.grad(value, pred)
    return value.detach(), gradient


def test_is_a_float32_scalar(loss: DepthLoss) -> None:
    value = value_of(loss, *maps())
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value > 0


def test_is_zero_where_the_prediction_is_right(loss: DepthLoss) -> None:
    _, target, valid = maps()
    value, gradient = value_and_gradient(loss, target, target, valid)
    assert abs(float(value)) < 1e-6
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["pred", "target", "both"])
def test_nothing_under_the_mask_matters(loss: DepthLoss, garbage: float, where: str) -> None:
    pred, target, valid = maps()
    clean = value_and_gradient(loss, pred, target, valid)
    spoilt = [pred.detach().clone(), target.clone()]
    for tensor, name in zip(spoilt, ("pred", "target"), strict=True):
        if where in (name, "both"):
            tensor[~valid] = garbage
    value, gradient = value_and_gradient(loss, spoilt[0], spoilt[1], valid)
    assert torch.equal(value, clean[0])
    assert torch.equal(gradient, clean[1])
    assert (gradient[~valid] == 0).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("garbage", [1.0, float("nan")])
def test_an_empty_mask_gives_a_connected_zero(loss: DepthLoss, garbage: float) -> None:
    pred, target, valid = maps()
    target.fill_(garbage)
    value, gradient = value_and_gradient(loss, pred, target, torch.zeros_like(valid))
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(pred))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("target_learns", [False, True])
def test_gradient_equals_finite_differences(loss: DepthLoss, partial: bool, target_learns: bool) -> None:
    pred, target, valid = maps(batch=1, dtype=torch.float64)
    target.requires_grad_(target_learns)
    valid = valid if partial else torch.ones_like(valid)
    assert value_of(loss, pred, target, valid).dtype == torch.float64
    if not isinstance(loss, BerHuLoss):  # whose threshold is a constant for the gradient: see test_berhu.py
        assert torch.autograd.gradcheck(lambda p, t: value_of(loss, p, t, valid), (pred, target), fast_mode=True)


def test_half_precision_and_autocast_give_float32(loss: DepthLoss) -> None:
    pred, target, valid = maps()
    rounded = pred.detach().bfloat16()
    expected, gradient = value_and_gradient(loss, rounded.float(), target, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, half_gradient = value_and_gradient(loss, rounded, target, valid)
        full = value_of(loss, pred, target, valid)
    assert value.dtype == torch.float32
    assert torch.allclose(value, expected, rtol=1e-6)
    assert torch.allclose(half_gradient.float(), gradient, rtol=1e-2, atol=1e-2 * float(gradient.abs().max()))
    assert torch.equal(full, value_of(loss, pred, target, valid))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - POOLED - DRAWN))
def test_images_weigh_by_what_counts_of_them(name: str) -> None:
    """With equal masks a batch is the plain mean of its images; a wholly invalid image changes nothing."""
    loss = LOSSES[name]()
    pred, target, valid = maps(batch=3)
    valid = valid[:1].expand(3, -1, -1, -1)
    single = torch.stack([value_of(loss, *(t[i : i + 1] for t in (pred, target, valid))) for i in range(3)])
    assert torch.allclose(value_of(loss, pred, target, valid), single.mean(), rtol=1e-5)
    without_last = valid.clone()
    without_last[2] = False
    assert torch.allclose(value_of(loss, pred, target, without_last), single[:2].mean(), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(POOLED))
def test_a_pooled_batch_is_one_large_picture(name: str) -> None:
    """Images of any mask, laid one below the other, have the loss of the batch; an invalid one changes nothing."""
    loss = LOSSES[name]()
    pred, target, valid = maps(batch=3)
    valid[1, 0, 4:] = False
    whole, gradient = value_and_gradient(loss, pred, target, valid)
    large, large_gradient = value_and_gradient(loss, *(t.reshape(1, 1, -1, WIDTH) for t in (pred, target, valid)))
    assert torch.allclose(whole, large, rtol=1e-5)
    assert torch.allclose(gradient.reshape(-1), large_gradient.reshape(-1), rtol=1e-4, atol=1e-8)
    valid[1] = False
    kept = torch.tensor([0, 2])
    assert torch.allclose(
        value_of(loss, pred, target, valid), value_of(loss, pred[kept], target[kept], valid[kept]), rtol=1e-5
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16), name=st.sampled_from(sorted(set(LOSSES) - DRAWN)), axis=st.sampled_from([-1, -2]))
def test_mirroring_everything_changes_nothing(seed: int, name: str, axis: int) -> None:
    loss = LOSSES[name]()
    pred, target, valid = maps(dtype=torch.float64, seed=seed)
    value, gradient = value_and_gradient(loss, pred, target, valid)
    mirrored, mirrored_gradient = value_and_gradient(loss, *(t.flip(axis) for t in (pred, target, valid)))
    assert torch.allclose(mirrored, value, rtol=1e-10)
    assert torch.allclose(mirrored_gradient.flip(axis), gradient, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - NOT_CROPPED))
@pytest.mark.parametrize("top", [0, 2])
def test_a_valid_rectangle_is_a_picture_of_its_own(name: str, top: int) -> None:
    loss = LOSSES[name]()
    pred, target, _ = maps(dtype=torch.float64)
    window = (..., slice(top, top + 11), slice(1, 13))
    valid = torch.zeros_like(target, dtype=torch.bool)
    valid[window] = True
    masked, gradient = value_and_gradient(loss, pred, target, valid)
    cropped, cropped_gradient = value_and_gradient(loss, pred[window], target[window], valid[window])
    assert torch.allclose(masked, cropped, rtol=1e-10)
    assert torch.allclose(gradient[window], cropped_gradient, atol=1e-12)


def test_inputs_stay_as_they_are(loss: DepthLoss) -> None:
    inputs = maps()
    before = [t.detach().clone() for t in inputs]
    value_of(loss, *inputs).backward()
    assert all(torch.equal(t, b) for t, b in zip(inputs, before, strict=True))


def test_backward_twice_gives_twice_the_gradient(loss: DepthLoss) -> None:
    pred, target, valid = maps()
    value = 3 * value_of(loss, pred, target, valid)
    value.backward(retain_graph=True)
    assert pred.grad is not None
    once = pred.grad.clone()
    value.backward()
    assert torch.allclose(pred.grad, 2 * once)


def test_memory_layout_does_not_matter(loss: DepthLoss) -> None:
    pred, target, valid = maps()
    value, gradient = value_and_gradient(loss, pred, target, valid)
    transposed = [t.detach().mT.contiguous().mT for t in (pred, target, valid)]
    other, other_gradient = value_and_gradient(loss, *transposed)
    assert torch.allclose(other, value, rtol=1e-6)
    assert torch.allclose(other_gradient, gradient, atol=1e-7)


def test_is_rebuilt_from_plain_data(loss: DepthLoss) -> None:
    spec = spec_of(loss)
    again = build(spec)
    assert type(again) is type(loss)
    assert spec_of(again) == spec
    assert repr(again) == repr(loss)
    assert torch.equal(value_of(again, *maps()), value_of(loss, *maps()))


def test_wrong_shapes_and_masks_are_refused(loss: DepthLoss) -> None:
    pred, target, valid = maps()
    with pytest.raises(ConfigError, match=r"one shape .* Next: resize"):
        value_of(loss, pred[:, 0], target, valid)
    with pytest.raises(ConfigError, match="one shape"):
        value_of(loss, pred[..., :-1], target, valid)
    with pytest.raises(ConfigError, match="one shape"):
        value_of(loss, pred[:, 0], target[:, 0], valid[:, 0])
    with pytest.raises(ConfigError, match="boolean"):
        value_of(loss, pred, target, valid.float())


def test_sparse_truth_trains_without_the_pixels_it_lacks(loss: DepthLoss) -> None:
    """5 % of the pixels measured, NaN elsewhere: weights stay finite, and equal those of a run with zeros instead.

    As a method does it, by `DepthLoss.of`: losses on metres get decoded ones.
    """
    codec = Metres(0.1, 20.0)

    def trained(garbage: float) -> tuple[Tensor, list[float]]:
        torch.manual_seed(0)
        net = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.ones_(net.bias)  # metres begin inside the range
        optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
        image = torch.rand(2, 1, HEIGHT, WIDTH)
        valid = torch.rand(2, 1, HEIGHT, WIDTH) < 0.05
        valid[0, 0, 4:7, 4:7] = True  # a few neighbours, so that differences have something to say
        target = torch.where(valid, 2 * image + 1, garbage)
        values = []
        for _ in range(8):
            optimizer.zero_grad()
            value = loss.of(LossMaps(net(image), target, valid, codec, cameras(2)))
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        return torch.cat([p.detach().flatten() for p in net.parameters()]), values

    weights, values = trained(float("nan"))
    assert weights.isfinite().all()
    assert torch.equal(weights, trained(0.0)[0])
    # SSIM sees no whole window here and stays at 0; every other loss falls
    assert values[-1] < values[0] or (isinstance(loss, SSIMLoss) and values == [0.0] * 8)
