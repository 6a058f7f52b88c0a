from __future__ import annotations

import numpy as np
import pytest
import torch

from mde import crf as module
from mde.crf import DenseCRF
from mde.errors import ConfigError
from mde.rebuild import build, spec_of


def brute_force(logits: np.ndarray, image: np.ndarray, crf: DenseCRF, stride: int = 1) -> np.ndarray:
    """Mean field by the formula, pixel by pixel, in float64. `logits` (K,h,w), `image` (3,h,w) in [0,1]."""
    classes, height, width = logits.shape
    n = height * width
    kernels = []
    for colour in (False, True):
        k = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                (vi, ui), (vj, uj) = divmod(i, width), divmod(j, width)
                far = stride**2 * ((vi - vj) ** 2 + (ui - uj) ** 2)
                tone = ((255 * (image[:, vi, ui] - image[:, vj, uj])) ** 2).sum()
                size = crf.colour_size if colour else crf.smooth_size
                k[i, j] = np.exp(-far / (2 * size**2) - (tone / (2 * crf.colour_range**2) if colour else 0))
        d = k.sum(1)
        kernels.append(k / np.sqrt(np.outer(d, d)))
    unary = logits.reshape(classes, n) - np.log(np.exp(logits.reshape(classes, n)).sum(0))
    q = np.exp(unary)
    for _ in range(crf.iterations):
        new = np.zeros_like(q)
        for label in range(classes):
            pay = np.zeros(n)
            for other in range(classes):
                apart = abs(label - other)
                cost = float(apart > 0) if crf.compatibility == "potts" else min(apart, crf.truncation) / crf.truncation
                pay += cost * sum(w * (k @ q[other]) for w, k in zip(crf.weights, kernels, strict=True))
            new[label] = np.exp(unary[label] - pay)
        q = new / new.sum(0)
    return q.reshape(logits.shape)


def scene(classes: int = 4, height: int = 6, width: int = 7, stride: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = np.where(np.arange(width) < width // 2, 0.2, 0.7)[None, None] + rng.uniform(0, 0.02, (3, height, width))
    logits = rng.normal(0, 1.5, (classes, height, width))
    whole = np.kron(image, np.ones((1, stride, stride)))
    return torch.from_numpy(logits)[None], torch.from_numpy(whole)[None]


@pytest.mark.parametrize("compatibility", ["potts", "linear"])
@pytest.mark.parametrize("stride", [1, 4])
def test_equals_the_brute_force_formula(compatibility: str, stride: int) -> None:
    settings = {"iterations": 4, "colour_size": 9.0, "compatibility": compatibility, "truncation": 2}
    crf = DenseCRF(**settings)  # type: ignore[arg-type]
    logits, image = scene(stride=stride)
    found = crf(logits, image)[0].numpy()
    small = image[0, :, ::stride, ::stride].numpy()
    np.testing.assert_allclose(found, brute_force(logits[0].numpy(), small, crf, stride), rtol=1e-8, atol=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, image = scene()
    whole = DenseCRF()(logits, image)
    monkeypatch.setattr(module, "_KEEP", 0)
    monkeypatch.setattr(module, "_BLOCK", 100)
    torch.testing.assert_close(DenseCRF()(logits, image), whole, rtol=1e-10, atol=1e-12)


def test_it_follows_the_colours_and_removes_noise() -> None:
    logits, image = scene(2, 12, 12)
    truth = (torch.arange(12) >= 6).long().expand(12, 12)
    sure = torch.nn.functional.one_hot(truth, 2).permute(2, 0, 1)[None] * 1.0
    noisy = sure + 0.9 * logits
    before = (noisy.argmax(1)[0] == truth).double().mean()
    after = (DenseCRF(smooth_size=2.0, colour_range=20.0)(noisy, image).argmax(1)[0] == truth).double().mean()
    assert before < 0.9
    assert after == 1


def test_no_iteration_is_the_softmax_and_batches_are_single_pictures() -> None:
    logits, image = scene()
    torch.testing.assert_close(DenseCRF(0)(logits, image), logits.softmax(1))
    both = DenseCRF(3)(torch.cat((logits, -logits)), torch.cat((image, image.flip(-1))))
    torch.testing.assert_close(both[1:], DenseCRF(3)(-logits, image.flip(-1)))
    with torch.autocast("cpu", torch.bfloat16):
        assert DenseCRF(1)(logits.float(), image.float()).dtype == torch.float32


def test_settings() -> None:
    again = build(spec_of(DenseCRF(5, colour_weight=0.0)))
    assert (again.iterations, again.weights) == (5, (3.0, 0.0))
    for wrong in ({"iterations": -1}, {"smooth_size": 0.0}, {"compatibility": "square"}, {"truncation": 0}):
        with pytest.raises(ConfigError):
            DenseCRF(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs logits"):
        DenseCRF()(torch.zeros(1, 4, 6, 7), torch.zeros(2, 3, 6, 7))


def test_equals_pydensecrf() -> None:
    """Its kernels are approximate (a permutohedral lattice), ours exact: with small sizes the two differ by 1 %."""
    pydensecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
    logits, image = scene(5, 24, 32)
    crf = DenseCRF(3, smooth_size=3.0, colour_range=20.0)
    other = pydensecrf.DenseCRF2D(32, 24, 5)
    energy = -logits[0].log_softmax(0).flatten(1).numpy()
    other.setUnaryEnergy(np.ascontiguousarray(energy, np.float32))
    other.addPairwiseGaussian(sxy=crf.smooth_size, compat=crf.weights[0])
    rgb = np.ascontiguousarray((image[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8))
    other.addPairwiseBilateral(sxy=crf.colour_size, srgb=crf.colour_range, rgbim=rgb, compat=crf.weights[1])
    expected = np.array(other.inference(crf.iterations)).reshape(5, 24, 32)
    found = crf(logits, torch.from_numpy(rgb / 255.0).permute(2, 0, 1)[None])[0].numpy()
    assert np.abs(found - expected).mean() < 5e-3
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.98
