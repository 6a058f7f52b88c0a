"""Dense conditional random field on class posteriors: mean field, in torch, without a build step.

P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
Every pair of pixels is joined by two kernels, one of the distance alone and one of distance and colour. Each kernel is
normalised symmetrically, D^-1/2 K D^-1/2 with the row sums D, as in the authors' later code. The kernels are exact, so
the work grows with the square of the number of pixels: apply it at the stride of the network and enlarge afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.masking import at_least_float32
from mde.rebuild import Rebuildable

__all__ = ["DenseCRF"]

_KEEP = (
    1 << 28
)  # entries of a kernel that are kept (1 GB); a larger one is made again, block by block, in each iteration
_BLOCK = 1 << 24  # entries of a block


class DenseCRF(Rebuildable, nn.Module):
    """Mean-field inference; the result is a posterior.

    Args:
        iterations: of mean field.
        smooth_weight: of the kernel ``exp(-|p - q|^2 / 2 smooth_size^2)``.
        smooth_size: pixels of the picture.
        colour_weight: of the kernel ``exp(-|p - q|^2 / 2 colour_size^2 - |I_p - I_q|^2 / 2 colour_range^2)``.
        colour_size: pixels of the picture.
        colour_range: of 8-bit colours, 0 to 255.
        compatibility: "potts" punishes any two different classes alike; "linear" in proportion to their distance, up to
            `truncation` classes, which respects the order of depth classes.
        truncation: classes.

    The defaults are those of DeepLab on PASCAL VOC (10 iterations; 3, 1; 4, 67, 3). Chen et al. searched colour_weight
    3 to 6, colour_size 30 to 100 and colour_range 3 to 6.

    Raises:
        ConfigError: a setting is out of range.

    >>> posterior = DenseCRF(2)(torch.zeros(1, 5, 6, 8), torch.rand(1, 3, 48, 64))
    >>> posterior.shape, bool(torch.allclose(posterior.sum(1), torch.ones(1, 6, 8)))
    (torch.Size([1, 5, 6, 8]), True)
    """

    def __init__(
        self,
        iterations: int = 10,
        smooth_weight: float = 3.0,
        smooth_size: float = 1.0,
        colour_weight: float = 4.0,
        colour_size: float = 67.0,
        colour_range: float = 3.0,
        compatibility: str = "potts",
        truncation: int = 10,
    ) -> None:
        super().__init__()
        sizes = (smooth_size, colour_size, colour_range)
        if iterations < 0 or min(smooth_weight, colour_weight) < 0 or min(sizes) <= 0 or truncation < 1:
            what = "a CRF needs iterations and weights of at least 0, sizes above 0 and a truncation of at least 1"
            raise ConfigError(what, where="crf", next_action="correct the setting")
        if compatibility not in ("potts", "linear"):
            hint = "use potts or linear"
            raise ConfigError(f"unknown compatibility {compatibility!r}", where="crf.compatibility", next_action=hint)
        self.iterations = iterations
        self.weights = (smooth_weight, colour_weight)
        self.smooth_size, self.colour_size, self.colour_range = sizes
        self.compatibility, self.truncation = compatibility, truncation

    @torch.no_grad()
    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Refine class posteriors.

        Args:
            logits: (B,K,h,w); -ln softmax of them is the unary energy.
            image: (B,3,H,W), RGB in [0,1]; brought to (h,w) by averaging. Distances are in its pixels.

        Returns:
            Posterior float32 (B,K,h,w), sums to 1 over the classes.

        Raises:
            ConfigError: the two do not fit each other.
        """
        if logits.ndim != 4 or image.ndim != 4 or len(logits) != len(image) or image.shape[1] != 3:
            what = f"needs logits (B,K,h,w) and pictures (B,3,H,W), got {tuple(logits.shape)} and {tuple(image.shape)}"
            raise ConfigError(what, where="DenseCRF")
        with torch.autocast(logits.device.type, enabled=False):
            small = F.interpolate(at_least_float32(image), size=logits.shape[-2:], mode="area")
            pairs = zip(at_least_float32(logits), small, strict=True)
            return torch.stack([self._one(maps, picture, image.shape[-2:]) for maps, picture in pairs])

    def _one(self, logits: Tensor, picture: Tensor, size: torch.Size) -> Tensor:
        """One picture: `logits` (K,h,w), `picture` (3,h,w); `size` of the picture whose pixels count."""
        kernels = self._kernels(picture, size)
        energy = -logits.flatten(1).T.log_softmax(1)  # (pixels, K)
        posterior = (-energy).softmax(1)
        disagreement = self._disagreement(logits.shape[0], logits)
        for _ in range(self.iterations):
            message = torch.stack([k.weight * k.apply(posterior) for k in kernels]).sum(0)
            posterior = (-energy - message @ disagreement).softmax(1)
        return posterior.T.reshape(logits.shape)

    def _kernels(self, picture: Tensor, size: torch.Size) -> list[_Kernel]:
        height, width = picture.shape[-2:]
        v, u = torch.meshgrid(
            torch.arange(height, device=picture.device) * (size[0] / height),
            torch.arange(width, device=picture.device) * (size[1] / width),
            indexing="ij",
        )
        place = torch.stack((u, v), -1).reshape(-1, 2).to(picture)
        colour = picture.flatten(1).T * (255 / self.colour_range)
        smooth, coloured = place / self.smooth_size, torch.cat((place / self.colour_size, colour), 1)
        features = zip(self.weights, (smooth, coloured), strict=True)
        return [_Kernel(weight, feature) for weight, feature in features if weight > 0]

    def _disagreement(self, classes: int, like: Tensor) -> Tensor:
        """(K,K): what two pixels pay for their classes."""
        apart = torch.arange(classes, device=like.device)
        apart = (apart[:, None] - apart).abs()
        if self.compatibility == "potts":
            return (apart > 0).to(like)
        return apart.clamp(max=self.truncation).to(like) / self.truncation


class _Kernel:
    """A Gaussian kernel over all pairs of pixels, normalised symmetrically, in blocks of rows."""

    def __init__(self, weight: float, features: Tensor) -> None:
        self.weight = weight
        self.features = features
        pixels = len(features)
        self.step = max(1, min(_BLOCK // pixels, pixels))
        self.norm = torch.cat([self._raw(rows).sum(1) for rows in self._blocks()]).rsqrt()
        self.whole = torch.cat([self._block(rows) for rows in self._blocks()]) if pixels**2 <= _KEEP else None

    def apply(self, values: Tensor) -> Tensor:
        """The kernel times (pixels, K)."""
        if self.whole is not None:
            return self.whole @ values
        return torch.cat([self._block(rows) @ values for rows in self._blocks()])

    def _blocks(self) -> list[slice]:
        return [slice(start, start + self.step) for start in range(0, len(self.features), self.step)]

    def _block(self, rows: slice) -> Tensor:
        return self._raw(rows) * self.norm[rows, None] * self.norm

    def _raw(self, rows: slice) -> Tensor:
        # differences instead of the expanded square: colours far apart would lose their digits
        squares = torch.cdist(self.features[rows], self.features, compute_mode="donot_use_mm_for_euclid_dist").square_()
        return squares.mul_(-0.5).exp_()
