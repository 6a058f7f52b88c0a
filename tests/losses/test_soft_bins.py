"""Cross-entropy with soft bins against torch's own on enlarged maps; its labels against the published formula."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mde.codecs import Discretized, Metres, Ordinal
from mde.errors import ConfigError
from mde.losses import LossMaps, SoftBinCrossEntropy, class_cross_entropy, soft_bin_cross_entropy, soft_labels
from mde.rebuild import build, spec_of


def case(size: tuple[int, int], truth: tuple[int, int], scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(sum(truth))
    logits = scale * torch.randn(2, 6, *size, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 6, (2, 1, *truth), generator=rng)
    valid = torch.rand(2, 1, *truth, generator=rng) > 0.3
    valid[:, :, : truth[0] // 3] = False  # whole bands without a truth
    return logits.requires_grad_(), target, valid


def naive(logits: Tensor, target: Tensor, valid: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """The usual way: enlarge all class maps, then torch's cross-entropy with distributions as the target."""
    large = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    large = large.permute(0, 2, 3, 1)[valid[:, 0]]
    return F.cross_entropy(large, labels[target[valid]].to(large))


def gradient(loss: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(2.5 * loss, logits, retain_graph=True)[0]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("truth", [(31, 40), (7, 9), (130, 9), (5, 4)])
def test_value_and_gradient_are_those_of_the_enlarged_maps(truth: tuple[int, int], align_corners: bool) -> None:
    logits, target, valid = case((7, 9), truth)
    labels = soft_labels(6, 0.8)
    ours = SoftBinCrossEntropy(0.8, align_corners)(logits, target, valid)
    theirs = naive(logits, target, valid, labels, align_corners)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # the labels are float32
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("truth", [(7, 9), (31, 40)])
@pytest.mark.parametrize("scale", [3.0, 4000.0])
def test_the_unit_matrix_gives_the_loss_of_hard_classes(truth: tuple[int, int], scale: float) -> None:
    logits, target, valid = case((7, 9), truth, scale)
    hard = class_cross_entropy(logits, target, valid)
    for soft in (
        soft_bin_cross_entropy(logits, target, valid, torch.eye(6)),
        SoftBinCrossEntropy(1e-3)(logits, target, valid),
    ):
        torch.testing.assert_close(soft, hard, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient(soft, logits), gradient(hard, logits), rtol=1e-12, atol=1e-15)


def test_labels_are_the_published_ones() -> None:
    codec = Discretized("sid", 20, 1.0, 80.0)
    depth = codec.centres("geometric").double().numpy()
    step = np.log(80.0) / 20  # between neighbours, in ln(metres)
    phi = (np.log(depth)[:, None] - np.log(depth)) ** 2 / (2 * (1.5 * step) ** 2)
    expected = np.exp(-phi) / np.exp(-phi).sum(1, keepdims=True)
    np.testing.assert_allclose(soft_labels(20, 1.5).numpy(), expected, atol=1e-6)
    assert soft_labels(20, 1.5).sum(1).numpy() == pytest.approx(1)


def test_a_near_miss_costs_less_and_the_label_itself_least() -> None:
    codec = Discretized("sid", 9, 1.0, 80.0)
    depth, valid = torch.full((1, 1, 1, 1), float(codec.centres()[4])), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    loss = SoftBinCrossEntropy()

    def cost(logits: Tensor) -> float:
        return float(loss.of(LossMaps(logits.view(1, 9, 1, 1), depth, valid, codec)))

    costs = [cost(5.0 * torch.eye(9)[guess]) for guess in range(9)]
    assert costs[:5] == sorted(costs[:5], reverse=True)
    assert costs[4:] == sorted(costs[4:])
    label = soft_labels(9, 1.0)[4]
    least = cost(label.log())
    assert least == pytest.approx(-float((label * label.log()).sum()), rel=1e-5)  # its entropy
    assert least < min(costs)


@pytest.mark.parametrize("truth", [(3, 4), (8, 11)])
def test_gradcheck(truth: tuple[int, int]) -> None:
    logits, target, valid = case((3, 4), truth)
    assert torch.autograd.gradcheck(lambda x: SoftBinCrossEntropy()(x, target, valid), (logits,), fast_mode=True)


def test_an_empty_mask_is_a_connected_zero_and_garbage_under_the_mask_is_nothing() -> None:
    logits, target, valid = case((7, 9), (7, 9))
    loss = SoftBinCrossEntropy()
    nothing = loss(logits, target, torch.zeros_like(valid))
    assert float(nothing.detach()) == 0
    assert torch.equal(gradient(nothing, logits), torch.zeros_like(logits))
    clean = loss(logits, target, valid)
    spoilt, wrong = logits.detach().clone(), target.clone()
    spoilt[~valid.expand_as(spoilt)] = float("nan")
    wrong[~valid] = 999
    again = loss(spoilt.requires_grad_(), wrong, valid)
    assert torch.equal(again, clean)
    assert torch.equal(gradient(again, spoilt), gradient(clean, logits))


def test_float32_under_autocast_and_rebuilt() -> None:
    logits, target, valid = case((7, 9), (31, 40))
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = SoftBinCrossEntropy()(half.clone().requires_grad_(), target, valid)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, SoftBinCrossEntropy()(half.float(), target, valid))
    again = build(spec_of(SoftBinCrossEntropy(2.0, align_corners=True)))
    assert repr(again) == "SoftBinCrossEntropy(width=2, align_corners=True)"


def test_what_does_not_fit_is_refused() -> None:
    logits, target, valid = case((7, 9), (31, 40))
    with pytest.raises(ConfigError, match=r"6 logits need labels \(6, 6\), got \(5, 5\)"):
        soft_bin_cross_entropy(logits, target, valid, torch.eye(5))
    with pytest.raises(ConfigError, match="do not fit 6 logits"):
        SoftBinCrossEntropy()(logits, target + 1, valid)
    with pytest.raises(ConfigError, match="int64 classes"):
        SoftBinCrossEntropy()(logits, target.float(), valid)
    for width in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=r"above 0.*Next: 1 is usual"):
            SoftBinCrossEntropy(width)


def test_classes_of_another_kind_are_refused() -> None:
    logits, target, valid = case((7, 9), (7, 9))
    depth = 1 + target.float()
    loss = SoftBinCrossEntropy()
    for codec in (Metres(1, 10), Ordinal(bins=7)):
        with pytest.raises(ConfigError, match=r"works on the logits of Discretized.*Next: set model.codec"):
            loss.of(LossMaps(logits, depth, valid, codec))
    classes = Discretized(bins=6)
    expected = loss(logits, classes.encode(depth), valid)
    assert torch.equal(loss.of(LossMaps(logits, depth, valid, classes)), expected)


MEMORY = """
import re, torch
from mde.losses import SoftBinCrossEntropy
torch.set_num_threads(1)
loss = SoftBinCrossEntropy()
logits = torch.zeros(3, 71, 53, 100, requires_grad=True)
target, valid = torch.zeros(3, 1, 420, 800, dtype=torch.int64), torch.ones(3, 1, 420, 800, dtype=torch.bool)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
loss(logits[..., :2, :2], target[..., :2, :2], valid[..., :2, :2])  # what a first call loads
before = peak()
loss(logits, target, valid).backward()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_far_below_one_map_of_all_classes() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80_000  # kB; a full-resolution map of all classes has 286 MB
