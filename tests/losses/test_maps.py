"""Spaces: which maps a loss gets, and the decoding with a gradient that passes the ends of the range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.codecs import (
    Binned,
    DepthCodec,
    Discretized,
    Disparity,
    Linear,
    Log,
    LogMetres,
    Metres,
    Ordinal,
    Reciprocal,
)
from mde.errors import ConfigError
from mde.geometry import intrinsics_from_fov, unknown_intrinsics
from mde.losses import (
    CameraLoss,
    ClassCrossEntropy,
    DepthLoss,
    L1Loss,
    LossMaps,
    SILogLoss,
    Space,
    SurfaceNormalLoss,
    WeightedSum,
)

CODECS: list[DepthCodec] = [codec(0.5, 20.0) for codec in (Metres, Linear, Log, LogMetres, Reciprocal, Disparity)]
CLASSES = [Discretized("sid", 9, 0.5, 20.0), Discretized("uniform", 9, 0.5, 20.0, how="mean")]


def truth(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    depth = 0.5 + 19.5 * torch.rand(2, 1, 5, 6, generator=rng, dtype=torch.float64)
    valid = torch.rand(2, 1, 5, 6, generator=rng) < 0.8
    return torch.where(valid, depth, 0), valid


class _Seen(DepthLoss):
    """A loss that shows what it was given."""

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        self.given = (pred, target, valid)
        return pred.sum()


class _SeenInMetres(_Seen):
    space = Space.METRES


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_loss_gets_the_maps_of_its_space(codec: DepthCodec) -> None:
    depth, valid = truth()
    wanted = 0.5 + 19.5 * torch.rand(2, 1, 5, 6, dtype=torch.float64)
    raw = codec.encode(wanted)
    encoded, metres = _Seen(), _SeenInMetres()
    maps = LossMaps(raw, depth, valid, codec)
    encoded.of(maps)
    metres.of(maps)
    for ours, theirs in zip(encoded.given, (raw, codec.encode(depth), valid), strict=True):
        torch.testing.assert_close(ours, theirs)
    reachable = depth.clamp(0.5, 20.0)  # what is unknown is 0, under the mask
    for ours, theirs in zip(metres.given, (wanted, reachable, valid), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("codec", CLASSES, ids=lambda codec: codec.kind)
def test_classes_and_their_expectation(codec: Discretized) -> None:
    """Against classes a network's logits are as they are; in metres they are the expectation of the posterior."""
    depth, valid = truth()
    raw = torch.randn(2, 9, 5, 6, requires_grad=True)
    maps = LossMaps(raw, depth, valid, codec)
    pred, target, _ = maps.of(Space.NETWORK)
    assert pred is raw
    assert target.dtype == torch.int64
    weights = np.exp(raw.detach().numpy()) / np.exp(raw.detach().numpy()).sum(1, keepdims=True)
    edges = codec.edges.numpy()
    if codec.kind == "sid":
        expected = np.exp((weights * np.log(np.sqrt(edges[1:] * edges[:-1]))[:, None, None]).sum(1))
    else:
        expected = (weights * ((edges[1:] + edges[:-1]) / 2)[:, None, None]).sum(1)
    np.testing.assert_allclose(maps.of(Space.METRES)[0].detach().numpy()[:, 0], expected, rtol=1e-5)
    both = WeightedSum({"classes": ClassCrossEntropy(), "metres": SILogLoss()})
    (gradient,) = torch.autograd.grad(both.of(maps), raw)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax((1,), keepdim=True)[valid] > 0).all()
    assert (gradient.abs().amax((1,), keepdim=True)[~valid] == 0).all()


def test_beside_is_another_output_against_the_same_truth() -> None:
    codec, (depth, valid) = Log(0.5, 20.0), truth()
    first, second = torch.rand(2, 2, 1, 5, 6, dtype=torch.float64)
    maps = LossMaps(first, depth, valid, codec)
    loss = WeightedSum({"a": L1Loss(), "b": SILogLoss()})
    before = loss.of(maps)
    other = maps.beside(second)
    assert torch.equal(loss.of(other), loss.of(LossMaps(second, depth, valid, codec)))
    assert torch.equal(loss.of(maps), before)  # the first is as it was
    assert other.of(Space.NETWORK)[1] is maps.of(Space.NETWORK)[1]  # encoded once


def test_a_sum_of_losses_in_two_spaces_equals_both_by_hand() -> None:
    codec, (depth, valid) = Reciprocal(0.5, 20.0), truth()
    raw = (1 + 30 * torch.rand(2, 1, 5, 6, dtype=torch.float64)).requires_grad_()
    loss = WeightedSum({"near": L1Loss(), "ratio": SILogLoss()}, {"near": 0.1, "ratio": 2.0})
    mask = valid.numpy()
    output, metres = raw.detach().numpy()[mask], depth.numpy()[mask]
    l1 = np.abs(output - 20.0 / metres).mean()
    g = np.log(20.0 / output) - np.log(metres)
    silog = 10 * np.sqrt((g**2).mean() - 0.85 * g.mean() ** 2)
    maps = LossMaps(raw, depth, valid, codec)
    assert float(loss.of(maps).detach()) == pytest.approx(0.1 * l1 + 2.0 * silog, rel=1e-6)
    parts = {name: float(value.detach()) for name, value in loss.parts_of(maps).items()}
    assert parts == {"near": pytest.approx(0.1 * l1, rel=1e-6), "ratio": pytest.approx(2.0 * silog, rel=1e-6)}


@pytest.mark.parametrize("camera", [None, unknown_intrinsics().expand(2, 3, 3)])
def test_points_without_a_camera_are_refused(camera: Tensor | None) -> None:
    depth, valid = truth()
    maps = LossMaps(depth, depth, valid, Metres(0.5, 20.0), camera)
    for loss in (SurfaceNormalLoss(), WeightedSum({"depth": L1Loss(), "normals": SurfaceNormalLoss()})):
        with pytest.raises(ConfigError, match=r"the camera is unknown.*Next: give the data set its intrinsics"):
            loss.of(maps)
    assert torch.isfinite(L1Loss().of(maps))  # which needs none


def test_a_camera_loss_gets_the_camera() -> None:
    class Camera(CameraLoss):
        def forward(  # type: ignore[override]
            self, pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor
        ) -> Tensor:
            self.camera = intrinsics
            return pred.sum()

    depth, valid = truth()
    loss, camera = Camera(), intrinsics_from_fov(5, 6, 60.0).expand(2, 3, 3)
    WeightedSum({"camera": loss}).of(LossMaps(depth, depth, valid, Metres(0.5, 20.0), camera))
    assert torch.equal(loss.camera, camera)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_decode_through_is_decode_with_a_gradient_everywhere(codec: DepthCodec) -> None:
    low, high = sorted(codec.encoded_range)
    inside = torch.linspace(low, high, 50, requires_grad=True)
    torch.testing.assert_close(codec.decode_through(inside), codec.decode(inside))
    numeric = (codec.decode(inside[2:].double()) - codec.decode(inside[:-2].double())) / (inside[2] - inside[0])
    (slope,) = torch.autograd.grad(codec.decode_through(inside).sum(), inside)
    torch.testing.assert_close(slope[5:-5].double().sign(), numeric[4:-4].detach().sign())
    outside = torch.tensor([low - 1e20, low - 1e8, low - 1.0, high + 1.0, high + 1e8, high + 1e20], requires_grad=True)
    decoded = codec.decode_through(outside)
    torch.testing.assert_close(decoded, codec.decode(outside))  # however far outside
    end = torch.tensor([low, high], requires_grad=True)
    (at_ends,) = torch.autograd.grad(codec.decode_through(end).sum(), end)
    at_ends = at_ends.repeat_interleave(3)
    back = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])  # a step of descent against it leads into the range
    (through,) = torch.autograd.grad(decoded, outside, back * at_ends.sign(), retain_graph=True)
    torch.testing.assert_close(through, back * at_ends.abs())
    assert (through.abs() > 0).all()
    assert through.isfinite().all()
    (away,) = torch.autograd.grad(decoded, outside, -back * at_ends.sign())
    assert torch.equal(away, torch.zeros(6))


@pytest.mark.parametrize("codec", [Log(1.0, 80.0), Metres(1.0, 80.0), Disparity(1.0, 80.0)], ids=repr)
@pytest.mark.parametrize("loss", [SILogLoss(), SILogLoss(lambda_=1.0)], ids=["0.85", "1"])
def test_truth_beyond_the_range_does_not_drive_the_output_away(codec: DepthCodec, loss: DepthLoss) -> None:
    """A network of one number for each pixel, trained on streets of which a third lies beyond its 80 m."""
    generator = torch.Generator().manual_seed(0)
    depth = 2 + 118 * torch.rand(1, 1, 8, 8, generator=generator)
    valid = torch.ones_like(depth, dtype=torch.bool)
    raw = codec.encode(torch.full_like(depth, 20.0)).requires_grad_()
    low, high = sorted(codec.encoded_range)
    rate = 0.01 * (high - low)
    optimizer = torch.optim.Adam([raw], rate)
    for _ in range(400):
        optimizer.zero_grad()
        loss.of(LossMaps(raw, depth, valid, codec)).backward()
        optimizer.step()
    ends = raw.detach()
    # Adam's momentum goes on for some steps after a gradient has ended
    assert float(ends.min()) > low - 30 * rate
    assert float(ends.max()) < high + 30 * rate
    ratio = codec.decode(ends).log() - depth.clamp(max=80.0).log()
    assert float(ratio.std()) < 0.05


def test_metres_end_where_the_codec_does() -> None:
    depth = torch.tensor([[[[0.0, 0.2, 3.0, 90.0]]]])
    codec = Log(0.5, 80.0)
    pred, target, _ = LossMaps(codec.encode(depth), depth, depth > 0, codec).of(Space.METRES)
    assert target.flatten().tolist() == [0.5, 0.5, 3.0, 80.0]
    torch.testing.assert_close(pred, target)


@pytest.mark.parametrize("codec", [*CLASSES, Ordinal("sid", 9, 0.5, 20.0)], ids=repr)
def test_decode_through_of_bins_lies_in_the_range_and_trains_the_logits(codec: Binned) -> None:
    for size in (0.0, 3.0, 30.0):
        shape = (2, codec.channels, 3, 4)
        raw = (size * torch.randn(shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
        depth = codec.decode_through(raw)
        assert depth.shape == (2, 1, 3, 4)
        assert bool((depth >= 0.5).all() & (depth <= 20.0).all())
        (gradient,) = torch.autograd.grad(depth.sum(), raw)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("codec", CLASSES, ids=lambda codec: codec.kind)
def test_decode_through_is_decode_where_one_class_is_sure(codec: Discretized) -> None:
    sure = 50.0 * torch.eye(9)[None, :, :, None]
    how = "geometric" if codec.kind == "sid" else "midpoint"
    torch.testing.assert_close(codec.decode_through(sure), codec.decode(sure, how), rtol=1e-4, atol=0)
