from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, class_cross_entropy
from mde.rebuild import build, spec_of


def naive(logits: Tensor, target: Tensor, valid: Tensor, align_corners: bool = False) -> Tensor:
    """The usual way: enlarge all class maps, then torch's own cross-entropy."""
    large = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    return F.cross_entropy(large, torch.where(valid, target, -100)[:, 0], ignore_index=-100)


def case(
    size: tuple[int, int], truth: tuple[int, int], classes: int = 6, batch: int = 2, scale: float = 3.0
) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(sum(truth))
    logits = scale * torch.randn(batch, classes, *size, generator=rng, dtype=torch.float64)
    target = torch.randint(0, classes, (batch, 1, *truth), generator=rng)
    valid = torch.rand(batch, 1, *truth, generator=rng) > 0.3
    valid[:, :, : truth[0] // 3] = False  # whole bands without a truth
    return logits.requires_grad_(), target, valid


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("truth", [(31, 40), (56, 72), (7, 9), (130, 9), (7, 200), (5, 4)])
def test_value_and_gradient_are_those_of_the_enlarged_maps(truth: tuple[int, int], align_corners: bool) -> None:
    logits, target, valid = case((7, 9), truth)
    ours, theirs = (
        class_cross_entropy(logits, target, valid, align_corners),
        naive(logits, target, valid, align_corners),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(2.5 * loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)
    assert gradients[0].abs().sum() > 0


def test_gradcheck() -> None:
    logits, target, valid = case((3, 4), (8, 11), classes=4, batch=1)
    assert torch.autograd.gradcheck(lambda x: class_cross_entropy(x, target, valid), (logits,))


def test_neighbours_that_are_sure_of_different_classes_do_not_underflow() -> None:
    logits, target, valid = case((4, 5), (16, 20), scale=4000.0)
    ours, theirs = class_cross_entropy(logits.float(), target, valid), naive(logits, target, valid)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=0)
    assert torch.isfinite(torch.autograd.grad(ours, logits)[0]).all()


def test_an_empty_mask_is_a_connected_zero_and_garbage_under_the_mask_is_nothing() -> None:
    logits, target, valid = case((7, 9), (7, 9))
    nothing = class_cross_entropy(logits, target, torch.zeros_like(valid))
    assert float(nothing.detach()) == 0
    assert torch.equal(torch.autograd.grad(nothing, logits)[0], torch.zeros_like(logits))
    clean = class_cross_entropy(logits, target, valid)
    spoilt, wrong = logits.detach().clone(), target.clone()
    spoilt[~valid.expand_as(spoilt)] = float("nan")
    wrong[~valid] = 999
    again = class_cross_entropy(spoilt.requires_grad_(), wrong, valid)
    assert torch.equal(again, clean)
    assert torch.equal(torch.autograd.grad(again, spoilt)[0], torch.autograd.grad(clean, logits)[0])


def test_float32_under_autocast_and_for_halves() -> None:
    logits, target, valid = case((7, 9), (31, 40))
    with torch.autocast("cpu", torch.bfloat16):
        loss = ClassCrossEntropy()(logits.detach().bfloat16().requires_grad_(), target, valid)
    assert loss.dtype == torch.float32
    expected = naive(logits.detach().bfloat16().float(), target, valid)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    assert build(spec_of(ClassCrossEntropy(align_corners=True))).align_corners


def test_what_does_not_fit_is_refused() -> None:
    logits, target, valid = case((7, 9), (31, 40))
    for wrong in ((logits, target.float(), valid), (logits, target, valid.float()), (logits[:1], target, valid)):
        with pytest.raises(ConfigError, match="int64 classes"):
            class_cross_entropy(*wrong)
    with pytest.raises(ConfigError, match="do not fit 6 logits"):
        class_cross_entropy(logits, target + 1, valid)


MEMORY = """
import re, sys, torch
from torch.nn import functional as F
from mde.losses import class_cross_entropy
torch.set_num_threads(1)
logits = torch.zeros(3, 71, 53, 100, requires_grad=True)
target, valid = torch.zeros(3, 1, 420, 800, dtype=torch.int64), torch.ones(3, 1, 420, 800, dtype=torch.bool)
# not ru_maxrss, which begins with that of the parent process
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
if sys.argv[1] == "ours":
    class_cross_entropy(logits[..., :2, :2], target[..., :2, :2], valid[..., :2, :2])  # what a first call loads
else:
    F.cross_entropy(F.interpolate(logits[..., :2, :2], size=(4, 4), mode="bilinear"), target[:, 0, :4, :4])
before = peak()
if sys.argv[1] == "ours":
    class_cross_entropy(logits, target, valid).backward()
else:
    large = F.interpolate(logits, size=(420, 800), mode="bilinear")
    F.cross_entropy(large, target[:, 0]).backward()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_is_a_tenth_of_the_usual_way() -> None:
    grown = {}
    for who in ("ours", "theirs"):
        done = subprocess.run([sys.executable, "-c", MEMORY, who], capture_output=True, text=True, check=True)
        grown[who] = int(done.stdout)
    assert grown["theirs"] > 500_000  # kB: three maps of 286 MB at least
    assert grown["ours"] <= 0.1 * grown["theirs"], grown
